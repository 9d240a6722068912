"""Waiting for an installation in the background: the server answers, and its node has joined."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_READY_S: Final = 60.0


def wait_ready(
    url: str, token: Path, process: subprocess.Popen[bytes], trusting: ssl.SSLContext | None = None
) -> str | None:
    """Wait until the server answers and its node has joined; returns what went wrong, None when nothing did."""
    deadline = time.monotonic() + _READY_S
    for pause in _pauses(deadline):
        if process.poll() is not None:
            return f"Runyard ended at once (status {process.returncode})."
        if token.exists() and _node_joined(url, token.read_text().strip(), trusting):
            return None
        time.sleep(pause)
    return f"Runyard was not ready within {_READY_S:g} seconds."


def _pauses(deadline: float) -> Iterator[float]:
    pause = 0.02
    while time.monotonic() < deadline:
        yield pause
        pause = min(0.25, pause * 1.3)


def _node_joined(url: str, token: str, trusting: ssl.SSLContext | None) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or "127.0.0.1"
    connection = (
        http.client.HTTPConnection(host, parts.port, timeout=5)
        if trusting is None
        else http.client.HTTPSConnection(host, parts.port, timeout=5, context=trusting)
    )
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/api/v1/status", headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return False
    return answer.status == 200 and any(node["connected"] for node in json.loads(body)["nodes"])
