"""Requests to the server's application within this process, as an ASGI server would hand them over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI

THREADS = 4


class Refusal(Exception):
    """An answer of 400 or more: its status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


class Asking:
    """Asks one application, one request after the other, in a loop of its own."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._runner = asyncio.Runner()
        self._runner.get_loop().set_default_executor(ThreadPoolExecutor(THREADS, "asking"))
        self.count = 0

    def ask(self, token: str, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON (None where it has no body). ``body``: bytes as they are, anything else as JSON. Raises
        :class:`Refusal`."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        status, answer = self._runner.run(self._ask(token, method, path, content))
        self.count += 1
        if status >= 400:
            raise Refusal(status, answer.decode(errors="replace"))
        return json.loads(answer) if answer[:1] in (b"{", b"[") else None

    async def _ask(self, token: str, method: str, path: str, content: bytes) -> tuple[int, bytes]:
        inbox = [{"type": "http.request", "body": content, "more_body": False}]
        told: list[MutableMapping[str, Any]] = []
        over = asyncio.Event()

        async def receive() -> MutableMapping[str, Any]:
            if inbox:
                return inbox.pop()
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            told.append(message)

        try:
            await self._app(_scope(token, method, path), receive, send)
        finally:
            over.set()
        return told[0]["status"], b"".join(each.get("body", b"") for each in told[1:])

    def close(self) -> None:
        """End the loop and its threads."""
        self._runner.close()


def _scope(token: str, method: str, path: str) -> dict[str, Any]:
    path, _, query = ("/api/v1" + path).partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"authorization", f"Bearer {token}".encode()),
            (b"content-type", b"application/json"),
        ],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 80),
    }
