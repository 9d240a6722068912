"""Waiting for an installation: as long as its server says that an upgrade gets on, and no longer."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from runyard.up.readiness import UPGRADING, wait_ready

LAST = 12
"""The look that finds a node; they are one and a half seconds apart, first to last."""
SHORT_S = 0.3


@contextmanager
def answering(each: Callable[[int], bool]) -> Iterator[str]:
    """A server whose node has joined once ``each`` says so of the number of a look."""
    looks = iter(range(1, 10_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"nodes": [{"connected": each(next(looks))}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    found = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield found
    found.communicate(b"\n", timeout=30)


def test_an_upgrade_that_gets_on_is_waited_for(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    (tmp_path / "token").write_text("t")

    def look(number: int) -> bool:
        (tmp_path / UPGRADING).write_text(f"runs {5000 * number}")
        return number >= LAST

    with answering(look) as url:
        assert wait_ready(tmp_path, url, process, patience_s=SHORT_S) is None


@pytest.mark.parametrize("said", ["", "events 5000"])
def test_one_that_says_nothing_new_is_given_up(tmp_path: Path, process: subprocess.Popen[bytes], said: str) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / UPGRADING).write_text("runs 1000")  # of one that was broken off

    def look(_number: int) -> bool:
        if said:
            (tmp_path / UPGRADING).write_text(said)
        return False

    with answering(look) as url:
        problem = wait_ready(tmp_path, url, process, patience_s=SHORT_S)
    assert problem is not None
    assert problem.startswith("Runyard was not ready within 0.3 seconds")
    assert ("events 5000" in problem) == bool(said)
    assert "runs 1000" not in problem
