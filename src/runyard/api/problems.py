"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from runyard.core.errors import (
    AccessDenied,
    Conflict,
    IssuerAway,
    ManifestError,
    NotFound,
    NotLeading,
    Refused,
    RunyardError,
    StoreAway,
    StoreUnavailable,
)

_LONGEST = 4000
_MOST_PROBLEMS = 100
_log = logging.getLogger(__name__)
_BY_CODE = {"forbidden": 403, "too_large": 413, "invalid_request": 422, "conflict": 409, "store_full": 507,
            "too_many_tries": 429, "disk_full": 507}  # fmt: skip
_BY_TYPE: tuple[tuple[type[RunyardError], int], ...] = (
    (ManifestError, 422),
    (Refused, 409),
    (NotFound, 404),
    (Conflict, 409),
    (AccessDenied, 401),
    (StoreUnavailable, 422),
    (StoreAway, 503),
    (NotLeading, 503),
    (IssuerAway, 503),
)
_HTTP_CODES = {
    400: "invalid_request",
    404: "not_found",
    405: "invalid_request",
    408: "too_slow",
    413: "too_large",
    429: "busy",
}
_HTTP_SENTENCES = {
    400: "The body of the request could not be read: send it again.",
    404: "There is no such address: /api/openapi.json lists those that there are.",
    405: "This address does not take this method: /api/openapi.json lists those that it takes.",
}
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "10"}, 503: {"Retry-After": "1"}}
_TITLES = {400: "Not understood", 401: "Not signed in", 403: "Not allowed", 404: "Not found", 409: "Refused",
           405: "Not so", 408: "Too slow", 413: "Too large", 422: "Cannot be accepted", 429: "Too much at once",
           500: "Failed", 501: "Not in this version", 503: "Away", 507: "No room"}  # fmt: skip


class _Document(JSONResponse):
    """JSON in which what was sent may stand again, half characters and all."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """ASCII alone: a half character (surrogate) has no UTF-8, but a JSON escape."""
        return json.dumps(content, separators=(",", ":")).encode()


def document(status: int, code: str, detail: str) -> dict[str, Any]:
    """What every problem document holds."""
    title = _TITLES.get(status, "Error")
    return {"type": "about:blank", "title": title, "status": status, "code": code, "detail": _cut(detail)}


def problem(status: int, code: str, detail: str, **more: Any) -> JSONResponse:
    """A problem document."""
    return _Document(document(status, code, detail) | more, status, _HEADERS.get(status))


def _cut(text: str) -> str:
    """What repeats a long input shows its beginning."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RunyardError)
    return of_error(error)


def of_error(error: RunyardError) -> JSONResponse:
    """The problem document of one of our own errors."""
    status = _BY_CODE.get(error.code) or next((s for kind, s in _BY_TYPE if isinstance(error, kind)), 400)
    code = "access_denied" if error.code == "forbidden" else error.code
    if isinstance(error, ManifestError):
        problems = [{"message": p.message, "line": p.line, "path": p.path} for p in error.problems]
        return problem(status, code, error.message, problems=problems)
    return problem(status, code, error.message)


def _validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        {"message": _cut(str(each["msg"])), "line": 0, "path": _cut(".".join(str(part) for part in each["loc"]))}
        for each in error.errors()[:_MOST_PROBLEMS]
    ]
    detail = "; ".join(f"{each['path']}: {each['message']}" for each in problems)
    return problem(422, "invalid_request", detail, problems=problems)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "error")
    detail = _HTTP_SENTENCES.get(error.status_code, str(error.detail))
    answer = problem(error.status_code, code, detail)
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(sorted(await asyncio.to_thread(_methods, request)))
    return answer


def _methods(request: Request) -> set[str]:
    """All methods that an address takes: the framework names those of one route alone."""
    paths: dict[str, dict[str, object]] = request.app.openapi()["paths"]
    asked = request.url.path
    fitting = [item for path, item in paths.items() if re.fullmatch(_pattern(path), asked)]
    return {method.upper() for method in (fitting[0] if fitting else {})}


def _pattern(path: str) -> str:
    whole = re.sub(r"\\{key\\}$", ".+", re.escape(path))
    return re.sub(r"\\{[a-z_0-9]+\\}", "[^/]+", whole)


def _cut_off(_: Request, __: Exception) -> JSONResponse:
    return problem(400, "invalid_request", "The request broke off: send it again.")  # nobody is there to read it


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return unexpected(request.method, request.url.path, error)


def unexpected(method: str, path: str, error: Exception) -> JSONResponse:
    """Log an error that nobody foresaw; the problem document says no more than that there was one."""
    _log.error("%s %s failed", method, path, exc_info=error)
    return problem(500, "internal", "The server failed to answer; its log says why. Try again.")


def install(app: FastAPI) -> None:
    """Have the application answer every error with a problem document."""
    app.add_exception_handler(RunyardError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _cut_off)
    app.add_exception_handler(Exception, _unexpected)
