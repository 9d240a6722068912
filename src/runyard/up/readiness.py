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

from runyard.up.progress import Progress

_READY_S: Final = 60.0
UPGRADING: Final = "upgrading"
"""The server's file (:mod:`runyard.server`), which is not loaded for its name alone."""


def wait_ready(
    home: Path,
    url: str,
    process: subprocess.Popen[bytes],
    trusting: ssl.SSLContext | None = None,
    patience_s: float = _READY_S,
) -> str | None:
    """Wait until the server answers and its node has joined; returns what went wrong, None when nothing did. While the
    server says that it gets on with an upgrade of the database it is waited for."""
    token, upgrade = home / "token", _Upgrade(home / UPGRADING)
    try:
        for pause in _pauses(upgrade, patience_s):
            if process.poll() is not None:
                return f"Runyard ended at once (status {process.returncode})."
            if token.exists() and _node_joined(url, token.read_text().strip(), trusting):
                return None
            time.sleep(pause)
    finally:
        upgrade.progress.done()
    return f"Runyard was not ready within {patience_s:g} seconds{upgrade.since}."


class _Upgrade:
    """What the server says of an upgrade, as it was last read."""

    def __init__(self, signs: Path) -> None:
        self.progress = Progress()
        self._signs = signs
        self._stale = self._read()  # of one that was broken off
        self._said = ""

    @property
    def since(self) -> str:
        """What ended with its last word, for a sentence; empty where it never said any."""
        return f" after its last word about the upgrade of the database ({self._said})" if self._said else ""

    def gets_on(self) -> bool:
        """Whether it says something else than before."""
        found = self._read()
        if found in ("", self._stale, self._said):
            return False
        self._said = found
        what, _, count = found.rpartition(" ")
        self.progress.tell(f"Upgrading the database, {what}", int(count) if count.isdigit() else 0)
        return True

    def _read(self) -> str:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return self._signs.read_text(encoding="utf-8")
        return ""


def _pauses(upgrade: _Upgrade, patience_s: float) -> Iterator[float]:
    pause, deadline = 0.02, time.monotonic() + patience_s
    while time.monotonic() < deadline:
        yield pause
        pause = min(0.25, pause * 1.3)
        if upgrade.gets_on():
            deadline = time.monotonic() + patience_s


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
