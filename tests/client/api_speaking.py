"""How the tests' HTTP service speaks: requests, answers, problems and streams."""

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.client.api_world import Seen, World

TOKEN = "ryd_test-token"


class Problem(Exception):
    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.document = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail} | more


class Connection(BaseHTTPRequestHandler):
    """One connection. ``routes``: method, path and the name of what answers."""

    protocol_version = "HTTP/1.1"
    server_of_tests: World
    routes: ClassVar[list[tuple[str, str, str]]]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.server_of_tests.connections.add(self.connection)

    def finish(self) -> None:
        self.server_of_tests.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self.handle_call()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815  # http.server's names

    def handle_call(self) -> None:
        server = self.server_of_tests
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in self.headers.items()}
        seen = Seen(self.command, unquote(parts.path), parse_qs(parts.query), headers, body)
        server.state.seen.append(seen)
        if server.unavailable > 0:
            server.unavailable -= 1
            self.answer(503, b"")
            return
        try:
            self.authorise(seen)
            status, answer = self.route(seen)
        except Problem as problem:
            self.answer_json(problem.status, problem.document, "application/problem+json")
            return
        if server.drop > 0:
            server.drop -= 1
            self.close_connection = True
        elif callable(answer):
            answer()
        elif isinstance(answer, bytes):
            self.answer(status, answer)
        else:
            self.answer_json(status, answer)

    def authorise(self, seen: Seen) -> None:
        basic = "Basic " + base64.b64encode(f"someone:{TOKEN}".encode()).decode()
        if seen.path != "/healthz" and seen.headers.get("authorization") not in (f"Bearer {TOKEN}", basic):
            raise Problem(401, "access_denied", "The token is not known: set RUNYARD_TOKEN to a valid one.")

    def route(self, seen: Seen) -> tuple[int, Any]:
        for method, pattern, name in self.routes:
            found = re.fullmatch(pattern, seen.path)
            if found and method == seen.method:
                return getattr(self, name)(seen, *found.groups())
        raise Problem(404, "not_found", f"There is no {seen.path}.")

    def answer_json(self, status: int, document: Any, kind: str = "application/json") -> None:
        self.answer(status, json.dumps(document).encode(), kind)

    def answer(self, status: int, body: bytes, kind: str = "application/octet-stream", **headers: str) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", kind)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def event_stream(self, pieces: Iterator[bytes]) -> Callable[[], None]:
        def send() -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in pieces:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

        return send


def sse(event: str, data: dict[str, Any], id: str | None = None) -> bytes:
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {event}\ndata: {json.dumps(data)}\n\n".encode()
