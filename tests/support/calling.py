"""Requests to a server on loopback as somebody, and their answers, read whole."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read whole. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem document."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        document = self.json()
        assert document["status"] == self.status
        assert document["detail"]
        assert document["title"]
        return str(document["code"])


def read_whole(response: http.client.HTTPResponse) -> Answer:
    """An answer whose head has been read."""
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def whole(path: str) -> str:
    """A path from the root: it is said below ``/api/v1``, or from the root after ``//``."""
    return path[1:] if path.startswith("//") else "/api/v1" + path


class Called:
    """A server that can be called: on ``port`` of loopback, by those whose ``tokens`` these are."""

    __slots__ = ()
    port: int
    tokens: dict[str, str]

    def headers(self, token: str | None = "owner", more: dict[str, str] | None = None) -> dict[str, str]:
        """Headers of a request by somebody."""
        word = self.tokens.get(token, token) if token is not None else None
        return ({"Authorization": f"Bearer {word}"} if word is not None else {}) | (more or {})

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = "owner",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; ``path`` as for :func:`whole`. ``body``: bytes, or JSON."""
        more = dict(headers or {})
        data: Any = body
        if body is not None and not isinstance(body, bytes | Iterator):
            data = json.dumps(body).encode()
            more.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request(method, whole(path), data, self.headers(token, more))
            return read_whole(connection.getresponse())
