"""A small real HTTP server that speaks docs/api.md from memory, in threads: what the client's tests talk to.

It decides nothing: the tests move its runs. What a network does to people can be asked for as well: answers that never
come, streams that are cut, a restart on the same port.
"""

import contextlib
import socket
import ssl
import threading
from http.server import ThreadingHTTPServer
from typing import Any

from tests.client.api_house import House
from tests.client.api_kept import Kept
from tests.client.api_speaking import TOKEN
from tests.client.api_world import World

__all__ = ["TOKEN", "ApiServer"]


class ApiServer(World):
    """The service, on a port of loopback."""

    def __init__(self) -> None:
        super().__init__()
        self.tls: ssl.SSLContext | None = None
        """Speak https with this."""
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        owner = self

        class Bound(Handler):
            server_of_tests = owner

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Connections that tests cut are no news."""

        self._server = Quiet(("127.0.0.1", self.port), Bound)
        self.port = self._server.server_address[1]
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.cut()

    def cut(self) -> None:
        """Cut every connection that is open now."""
        for each in list(self.connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "ApiServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


V, ONE = "/api/v1", "([^/]+)"
ROUTES = [
    ("GET", "/healthz", "health"),
    ("GET", f"{V}/status", "status"),
    ("HEAD", f"{V}/definitions/{ONE}", "has_definition"),
    ("PUT", f"{V}/definitions/{ONE}", "put_definition"),
    ("GET", f"{V}/definitions/{ONE}", "get_definition"),
    ("POST", f"{V}/training-runs", "submit"),
    ("GET", f"{V}/training-runs", "list_runs"),
    ("GET", f"{V}/training-runs/{ONE}", "show"),
    ("POST", f"{V}/training-runs/cancel", "cancel_many"),
    ("POST", f"{V}/training-runs/{ONE}/cancel", "cancel"),
    ("PATCH", f"{V}/training-runs/{ONE}", "change_run"),
    ("DELETE", f"{V}/training-runs/{ONE}", "delete"),
    ("GET", f"{V}/training-runs/{ONE}/logs", "log"),
    ("GET", f"{V}/training-runs/{ONE}/metrics", "metrics"),
    ("GET", f"{V}/training-runs/{ONE}/events", "history"),
    ("GET", f"{V}/training-runs/{ONE}/explain", "explain"),
    ("GET", f"{V}/training-runs/{ONE}/results", "results"),
    ("GET", f"{V}/training-runs/{ONE}/results/(.+)", "result"),
    ("GET", f"{V}/events", "account_events"),
    ("GET", f"{V}/queue", "queue"),
    ("GET", f"{V}/cache", "cache"),
    ("POST", f"{V}/cache", "cache"),
    ("POST", f"{V}/queue/(pause|resume)", "pause"),
    ("POST", f"{V}/queue/move", "move_run"),
    ("GET", f"{V}/quota", "quota"),
    ("GET", f"{V}/quota/{ONE}", "quota"),
    ("PUT", f"{V}/quota/{ONE}", "quota"),
    ("PUT", f"{V}/quota/{ONE}/share", "share"),
    ("PUT", f"{V}/quota/{ONE}/budget", "budget"),
    ("DELETE", f"{V}/quota/{ONE}/budget", "budget"),
    ("GET", f"{V}/nodes", "nodes"),
    ("POST", f"{V}/nodes/{ONE}/(drain|resume)", "drain"),
    ("GET", f"{V}/usage", "usage"),
    ("GET", f"{V}/data", "buckets"),
    ("GET", f"{V}/data/{ONE}", "list_objects"),
    ("DELETE", f"{V}/data/{ONE}", "delete_objects"),
    ("PUT", f"{V}/data/{ONE}/(.+)", "put_object"),
    ("GET", f"{V}/data/{ONE}/(.+)", "get_object"),
    ("HEAD", f"{V}/data/{ONE}/(.+)", "get_object"),
    ("DELETE", f"{V}/data/{ONE}/(.+)", "delete_object"),
    ("GET", f"{V}/(connections|tokens)", "named"),
    ("POST", f"{V}/(connections|tokens)", "named"),
    ("DELETE", f"{V}/(connections|tokens)/{ONE}", "unname"),
    ("GET", f"{V}/secrets", "secrets"),
    ("PUT", f"{V}/secrets/{ONE}", "secrets"),
    ("DELETE", f"{V}/(secrets)/{ONE}", "unname"),
    ("GET", f"{V}/accounts", "accounts"),
    ("GET", f"{V}/manifests/template", "template"),
    ("POST", f"{V}/manifests/check", "check"),
    ("POST", f"{V}/manifests/convert", "convert"),
    ("GET", f"{V}/manifests/schema", "schema"),
    ("GET", f"{V}/frameworks", "frameworks"),
    ("POST", f"{V}/frameworks", "frameworks"),
    ("DELETE", f"{V}/(frameworks)/{ONE}", "unname"),
    ("GET", f"{V}/frameworks/{ONE}/versions", "versions"),
]
"""Every route of docs/api.md that is for people: method, path, what answers."""


class Handler(House, Kept):
    """One connection, with all that is answered."""

    routes = ROUTES
