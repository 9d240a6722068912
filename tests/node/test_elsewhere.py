"""A node with several servers goes to another one only when its own does not answer."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.ports import free_ports

PROBE = """
import sys
from runyard.node.main import Elsewhere
Elsewhere(tuple(sys.argv[2:]), ("--help",)).go_on(sys.argv[1])
sys.stdout.write("stayed")
"""


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Restarted(Healthy):
    """Breaks off the first connection, as a server does that is killed."""

    asked = 0

    def do_GET(self) -> None:
        Restarted.asked += 1
        if Restarted.asked > 1:
            super().do_GET()


@pytest.fixture
def answering() -> Iterator[str]:
    yield from served(Healthy)


@pytest.fixture
def restarted() -> Iterator[str]:
    Restarted.asked = 0
    yield from served(Restarted)


def served(kind: type[Healthy]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def said(*urls: str) -> str:
    """What a node says that is to look for another server than the first of these."""
    words = [sys.executable, "-c", PROBE, *urls]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_node_stays_with_its_own_server_once_that_answers_again(answering: str) -> None:
    assert said(answering, answering) == "stayed"


def test_a_node_begins_anew_where_a_server_answers_when_its_own_does_not(answering: str) -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    assert said(nobody, answering).startswith("usage: python -m runyard.node")


def test_a_node_stays_where_no_server_answers() -> None:
    assert said(*(f"http://127.0.0.1:{port}" for port in free_ports(2))) == "stayed"


def test_a_node_waits_for_its_own_server_that_is_just_started_again(restarted: str, answering: str) -> None:
    assert said(restarted, answering) == "stayed"
    assert Restarted.asked == 2
