"""Small HTTP servers that answer as they are told: for what a good server cannot be made to do."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives every request to the server's function, with its body unread."""

    protocol_version = "HTTP/1.1"
    server: "Answering"  # pyright: ignore[reportIncompatibleVariableOverride] # it is made by no other

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _take(self) -> None:
        self.server.seen.append(f"{self.command} {self.path}")
        self.server.function(self)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _take  # noqa: N815 # names of the base class

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Answering(http.server.ThreadingHTTPServer):
    """``seen`` are the requests so far, as ``METHOD path``."""

    daemon_threads = True

    def __init__(self, function: Callable[[Handler], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.function = function
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def answering(function: Callable[[Handler], None]) -> Iterator[Answering]:
    """A server on a free port for as long as the block lasts."""
    server = Answering(function)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
