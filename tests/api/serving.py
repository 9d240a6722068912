"""The real application on loopback, in a thread: what `runyard.server` builds, over SQLite and folders."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from runyard.api.context import Context
from runyard.api.doorkeeper import token_digest
from runyard.api.patience import Patient
from runyard.api.tokens import new_token
from runyard.core.account import Account, Role, Scope
from runyard.ports.accounts import TokenRecord
from runyard.server import Bootstrap, build
from runyard.settings import Settings
from runyard.wire import facts, orders
from tests.support.calling import TIMEOUT_S, Answer, Called, whole
from tests.support.waiting import wait_until

MANIFEST = """model_definition:
  name: digits
  execution:
    command: python3 train.py
    compute_configuration: {name: small}
training_results_reference:
  type: local
  target: {bucket: results}
"""


@dataclass(frozen=True, slots=True)
class Api(Called):
    """A running server. Tokens: ``owner`` (admin), ``member``, ``other`` (of another account), ``node``, ``node2``."""

    app: FastAPI
    context: Context
    port: int
    home: Path
    tokens: dict[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def open(
        self, method: str, path: str, *, token: str | None = "owner", headers: dict[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """A request whose answer is read as it comes; the connection is cut at the end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        connection.request(method, whole(path), headers=self.headers(token, headers))
        response = connection.getresponse()
        try:
            yield response
        finally:
            response.close()
            connection.close()

    def get(self, path: str, *, token: str | None = "owner") -> Any:
        """The JSON of a GET that is granted."""
        answer = self.call("GET", path, token=token)
        assert answer.status == 200, answer.body
        return answer.json()

    def submit(self, *, token: str = "owner", manifest: str = MANIFEST, **more: object) -> list[str]:
        """Submit runs; returns their ids."""
        answer = self.call("POST", "/training-runs", {"manifest": manifest} | more, token=token)
        assert answer.status == 201, answer.body
        ids: list[str] = answer.json()["ids"]
        return ids


class Machine:
    """A node that does what the test says: hello, a stream of orders read by a thread, facts and logs."""

    def __init__(self, api: Api, token: str = "node", gpus: int = 2) -> None:
        self._api = api
        self._token = token
        self._gpus = gpus
        self._orders: list[orders.Order] = []
        self._came = threading.Condition()
        self._connection: http.client.HTTPConnection | None = None
        self._thread: threading.Thread | None = None
        self.ended = threading.Event()

    def hello(self, held: tuple[facts.Held, ...] = (), staged: tuple[int, ...] = ()) -> str:
        """Introduce itself; returns the id that the server gives it."""
        told = facts.Hello(self._token, "boot", "0", ("Test GPU",) * self._gpus, True, 8000, 32 * 1024, held, staged)
        answer = self._api.call("POST", "/node/hello", facts.encode(told), token=self._token)
        assert answer.status == 200, answer.body
        return str(answer.json()["node"])

    def listen(self) -> None:
        """Open the stream of orders; returns once the server has given all that holds."""
        self._connection = http.client.HTTPConnection("127.0.0.1", self._api.port, timeout=TIMEOUT_S)
        self._connection.request("GET", "/api/v1/node/orders", headers=self._api.headers(self._token))
        response = self._connection.getresponse()
        assert response.status == 200
        self._thread = threading.Thread(target=self._read, args=(response,), daemon=True)
        self._thread.start()
        self.order(orders.Resync)

    def _read(self, response: http.client.HTTPResponse) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            while line := response.readline():
                with self._came:
                    self._orders.append(orders.decode(line))
                    self._came.notify_all()
        self.ended.set()

    def order(self, kind: type[orders.Order], **about: object) -> Any:
        """The next order of a kind (those before it are left), about what is named."""

        def found() -> orders.Order | None:
            fitting = (each for each in self._orders if isinstance(each, kind))
            return next((o for o in fitting if all(getattr(o, k) == v for k, v in about.items())), None)

        with self._came:
            assert self._came.wait_for(lambda: found() is not None, TIMEOUT_S), f"no {kind.__name__} came"
            order = found()
            assert order is not None
            self._orders.remove(order)
            return order

    def hang_up(self) -> None:
        """Cut the stream."""
        if self._connection is not None and self._connection.sock is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(TIMEOUT_S)
        if self._connection is not None:
            self._connection.close()

    def tell(self, *told: facts.Fact) -> list[bool]:
        """Send facts."""
        answer = self._api.call("POST", "/node/facts", facts.encode(list(told)), token=self._token)
        assert answer.status == 200, answer.body
        answers: list[bool] = answer.json()
        return answers

    def print(self, run: str, offset: int, chunk: bytes, attempt: int = 1, stream: str = "training-log") -> Answer:
        """Send log bytes."""
        path = f"/node/logs/{run}/{attempt}/1/{stream}?offset={offset}"
        return self._api.call("PUT", path, chunk, token=self._token)

    def started(self, **body: object) -> str:
        """Have a run submitted, stage it and begin its program."""
        run = self._api.submit(**body)[0]  # type: ignore[arg-type]  # a submission's own fields
        return self.begin(run)

    def begin(self, run: str) -> str:
        """Stage a run and begin its program."""
        spec = self._api.context.world.store.run(run)
        assert spec is not None
        self.order(orders.Stage, spec=spec.spec_id)
        self.tell(facts.Staged(spec.spec_id))
        self.order(orders.Launch, run=run)
        assert self.tell(facts.Began(run, 1, int(time.time() * 1000))) == [True]
        return run

    def end(self, run: str, code: int = 0, log_bytes: int = 0, attempt: int = 1) -> None:
        """The program of a run ends, and its results are stored."""
        now = int(time.time() * 1000)
        self.tell(facts.Exited(run, attempt, now, exit_code=code, log_bytes=log_bytes))
        self.order(orders.Store, run=run)
        self.tell(facts.Stored(run, 1, 1))


def _tokens(context: Context) -> dict[str, str]:
    store, made = context.world.store, dict[str, str]()
    store.ensure_account(Account("other", "other"))
    store.ensure_member("olaf", "other", "Olaf", Role.manager)
    for name, scope, account, member in (
        ("member", Scope.member, "default", "owner"),
        ("other", Scope.member, "other", "olaf"),
        ("node2", Scope.node, "default", "owner"),
    ):
        made[name] = new_token()
        digest = token_digest(made[name])
        node_id = name if scope is Scope.node else None
        now = context.world.clock.now_ms()
        known = {each.id for each in store.tokens(account)}  # a server that was started again
        token_id = f"{name}-{len(known)}" if name in known else name
        store.add_token(
            TokenRecord(token_id, digest, made[name][:8], scope, account, member, name, now, node_id=node_id)
        )
    return made


@contextlib.contextmanager
def serving(home: Path, settings: Settings | None = None) -> Iterator[Api]:
    """The application, answering on a free port of loopback; stopped at the end."""
    owner, node = "ryd_" + secrets.token_urlsafe(32), "ryd_" + secrets.token_urlsafe(32)
    bootstrap = Bootstrap(token_digest(owner), owner[:8], token_digest(node), node[:8])
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = int(listening.getsockname()[1])
    app, context = build(home, settings or Settings(), bootstrap, f"http://127.0.0.1:{port}")
    tokens = {"owner": owner, "node": node} | _tokens(context)
    config = uvicorn.Config(
        app, http=Patient, log_level="error", access_log=False, timeout_graceful_shutdown=1, lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the server")
        yield Api(app, context, port, home, tokens)
    finally:
        server.should_exit = True
        thread.join(TIMEOUT_S)
        listening.close()
    assert not thread.is_alive()


def sse(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any, str | None]]:
    """The events of a stream: name, data, id."""
    found: dict[str, str] = {}
    while line := response.readline():
        text = line.decode().rstrip("\n")
        if not text and "event" in found:
            yield found["event"], json.loads(found["data"]), found.get("id")
        if not text or text.startswith(":"):
            found = {}
            continue
        name, _, value = text.partition(": ")
        found[name] = value
