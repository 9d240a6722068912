"""The real server in this process, for its embedded store."""

import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from runyard.server import Bootstrap, build
from runyard.settings import Settings
from runyard.stores import EmbeddedAccess
from tests.support.waiting import wait_until

NODE_TOKEN = "a-token-of-a-node"


@contextlib.contextmanager
def embedded_server(home: Path) -> Iterator[EmbeddedAccess]:
    """How a node reaches it."""
    owner, node = (hashlib.sha256(token.encode()).hexdigest() for token in ("a-token-of-the-owner", NODE_TOKEN))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app, _ = build(home, Settings(), Bootstrap(owner, "o", node, "n"), url)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started, "the server")
            yield EmbeddedAccess(url, NODE_TOKEN)
        finally:
            server.should_exit = True
            thread.join(timeout=20)
