"""The server's half of the wire, small and real: an HTTP server on loopback that gives a node orders and keeps facts.

It obeys docs/rooms/wire.md, so that what a node does against it a server may rely on: orders that stand are sent again
on every connect, logs are appended by offset arithmetic, the embedded store keeps what it is given.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from runyard.wire import facts, objects, orders

BASE = "/api/v1/node"
T = TypeVar("T")
Standing = orders.Stage | orders.Launch | orders.Stop | orders.Store


class WireServer:
    """What the server knows. Its address lasts over :meth:`stop` and :meth:`start`, and so does its memory."""

    def __init__(self, token: str = "node-token") -> None:
        self.token = token
        self.hellos: list[facts.Hello] = []
        self.facts: list[facts.Fact] = []
        self.logs: dict[tuple[str, int, str], bytes] = {}
        """By run, attempt and stream, which has the learner's number behind a slash from the second on."""
        self.puts: list[tuple[str, int, int]] = []
        """Log requests: path, offset, bytes."""
        self.definitions: dict[str, bytes] = {}
        self.objects: dict[tuple[str, str, str], bytes] = {}
        """By account, bucket and key."""
        self.is_stale: Callable[[facts.Fact], bool] = _never
        self.fact_status: Callable[[list[facts.Fact]], int] = _taken
        """A status to refuse some facts with; 0: they are taken."""
        self.log_status = 0
        """A status to refuse logs with; 0: they are taken."""
        self.data_status = 0
        """The same for the embedded store."""
        self.definitions_gate = threading.Event()
        """Definitions are handed out while it is set."""
        self.definitions_gate.set()
        self.requests: list[str] = []
        self.plain = False
        """As a server that takes ranges and objects one by one alone."""
        self._standing: list[Standing] = []
        self._streams: list[_Stream] = []
        self._changed = threading.Condition()
        self._http: _Http | None = None
        self.port = 0

    # ---------------------------------------------------------------------------------------------------------- life

    def start(self) -> None:
        """Listen, at the port of before if there was one."""
        self._http = _Http(("127.0.0.1", self.port), self)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Go away as a killed server does: nobody listens, every connection is cut."""
        http, self._http = self._http, None
        if http is not None:
            self.cut_streams()
            http.shutdown()
            http.server_close()
            http.cut()

    def cut_streams(self) -> None:
        """End the streams of orders: the node connects anew."""
        with self._changed:
            for stream in self._streams:
                stream.end()
            self._streams.clear()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    # -------------------------------------------------------------------------------------------------------- orders

    def give(self, order: orders.Order) -> None:
        """Send an order to the node that is connected; those that stand are sent again on every connect."""
        with self._changed:
            self._keep(order)
            for stream in self._streams:
                stream.put(order)

    def _keep(self, order: orders.Order) -> None:
        run = getattr(order, "run", None)
        if isinstance(order, orders.Release):
            self._standing = [kept for kept in self._standing if getattr(kept, "run", None) != run]
        elif isinstance(order, orders.Store):
            self._standing = [kept for kept in self._standing if getattr(kept, "run", None) != run]
            self._standing.append(order)
        elif isinstance(order, orders.StopStoring):
            self._standing = [k for k in self._standing if not (isinstance(k, orders.Store) and k.run == run)]
        elif isinstance(order, orders.Stage | orders.Launch | orders.Stop):
            self._standing.append(order)

    def forget(self, run: str) -> None:
        """Let no order of a run stand: the next resync does without it."""
        with self._changed:
            self._standing = [kept for kept in self._standing if getattr(kept, "run", None) != run]

    def open_stream(self) -> _Stream:
        """A node's stream, with all that stands and the resync in it."""
        with self._changed:
            for stream in self._streams:
                stream.end()
            stream = _Stream()
            self._streams = [stream]
            for order in self._standing:
                stream.put(order)
            runs = {order.run for order in self._standing if not isinstance(order, orders.Stage)}
            stream.put(orders.Resync(tuple(sorted(runs))))
            self._changed.notify_all()
            return stream

    # --------------------------------------------------------------------------------------------------------- facts

    def ask(self, line: str) -> None:
        """A request came."""
        with self._changed:
            self.requests.append(line)
            self._changed.notify_all()

    def hear_hello(self, hello: facts.Hello) -> None:
        """A node introduced itself."""
        with self._changed:
            self.hellos.append(hello)
            self._changed.notify_all()

    def hear(self, told: list[facts.Fact]) -> list[bool]:
        """Facts came."""
        with self._changed:
            self.facts.extend(told)
            self._changed.notify_all()
            return [not self.is_stale(fact) for fact in told]

    def wait_for(self, kind: type[T], where: Callable[[T], bool] | None = None, seconds: float = 30.0) -> T:
        """The first fact of a kind that fits, now or when it comes. Raises ``TimeoutError``."""
        found: list[T] = []

        def is_there() -> bool:
            found.extend(fact for fact in self.facts if isinstance(fact, kind) and (where is None or where(fact)))
            return bool(found)

        self.wait(is_there, f"a fact {kind.__name__}", seconds)
        return found[0]

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Until a condition on what came holds. Raises ``TimeoutError``."""
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                raise TimeoutError(f"{what}: not within {seconds:g} s; facts so far: {self.facts}")

    # ---------------------------------------------------------------------------------------------------------- logs

    def append(self, key: tuple[str, int, str], offset: int, chunk: bytes) -> int:
        """What is there already is skipped, a gap writes nothing; the size is the answer."""
        with self._changed:
            have = self.logs.get(key, b"")
            if offset <= len(have):
                have += chunk[len(have) - offset :]
                self.logs[key] = have
            self.puts.append(("/".join(map(str, key)), offset, len(chunk)))
            self._changed.notify_all()
            return len(have)

    def log(self, run: str, attempt: int = 1, stream: str = "training-log") -> bytes:
        """What came of a stream."""
        return self.logs.get((run, attempt, stream), b"")

    # ---------------------------------------------------------------------------------------------------------- data

    def put_definition(self, content: bytes) -> str:
        """Keep a zip; returns its hash."""
        digest = hashlib.sha256(content).hexdigest()
        self.definitions[digest] = content
        return digest

    def put_object(self, bucket: str, key: str, content: bytes, account: str = "acme") -> orders.Item:
        """Keep an object; returns it as a listing would."""
        with self._changed:
            self.objects[account, bucket, key] = content
            self._changed.notify_all()
        return orders.Item(key, len(content), etag_of(content))

    def bucket(self, bucket: str, account: str = "acme") -> dict[str, bytes]:
        """The objects of a bucket."""
        with self._changed:
            return {key: content for (a, b, key), content in self.objects.items() if (a, b) == (account, bucket)}


def _taken(_: list[facts.Fact]) -> int:
    return 0


def _never(_: facts.Fact) -> bool:
    return False


def etag_of(content: bytes) -> str:
    """An etag as the embedded store makes it, quoted."""
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


class _Stream:
    """Orders on their way to one connection."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: list[bytes] = []
        self._ended = False

    def put(self, order: orders.Order) -> None:
        with self._changed:
            self._lines.append(orders.encode(order))
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def next(self, patience_s: float) -> bytes | None:
        """The next lines, a ping when there are none for long, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._ended, patience_s)
            if self._ended:
                return None
            lines, self._lines = b"".join(self._lines), []
            return lines or orders.encode(orders.Ping())


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], wire: WireServer) -> None:
        self.wire = wire
        self._open: set[_Handler] = set()
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nodes are killed in tests: that a connection broke is no news. Anything else is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # pyright: ignore[reportArgumentType] - sockets, in the stub

    def cut(self) -> None:
        """Close every connection."""
        for handler in list(self._open):
            handler.cut()

    def entered(self, handler: _Handler) -> None:
        self._open.add(handler)

    def left(self, handler: _Handler) -> None:
        self._open.discard(handler)


class _Handler(BaseHTTPRequestHandler):
    """One connection. ``self.server`` is our :class:`_Http`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self.http.entered(self)

    def finish(self) -> None:
        self.http.left(self)
        try:
            super().finish()
        except OSError:
            pass  # the connection was cut

    def cut(self) -> None:
        """Close the connection under the node."""
        try:
            self.connection.shutdown(2)
        except OSError:
            pass  # it was closed already

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests look at what was kept."""

    @property
    def http(self) -> _Http:
        assert isinstance(self.server, _Http)
        return self.server

    @property
    def wire(self) -> WireServer:
        return self.http.wire

    # ------------------------------------------------------------------------------------------------------- routing

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_DELETE(self) -> None:
        self._route()

    def _route(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        if len(body) < length:
            self.close_connection = True  # the node died while it sent: what came is worth nothing
            return
        parts = urlsplit(self.path)
        path = unquote(parts.path.removeprefix(BASE))
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.wire.ask(f"{self.command} {path}")
        if self.headers.get("Authorization") != f"Bearer {self.wire.token}":
            self._answer(401)
        elif path == "/hello":
            self.wire.hear_hello(facts.decode_hello(body))
            self._answer(204)
        elif path == "/facts":
            told = facts.decode_facts(body)
            status = self.wire.fact_status(told)
            self._answer(status) if status else self._json(self.wire.hear(told))
        elif path == "/orders":
            self._orders()
        elif path in ("/objects", "/ranges") and not self.wire.plain:
            self._objects(body) if path == "/objects" else self._ranges(body)
        elif path.startswith("/definitions/"):
            self.wire.definitions_gate.wait(30)
            self._content(self.wire.definitions.get(path.removeprefix("/definitions/")))
        elif path.startswith("/logs/"):
            self._logs(path.split("/")[2:], query, body)
        elif path.startswith("/metrics/"):
            run, attempt, learner, *rest = path.split("/")[2:]
            self._logs([run, attempt, learner, "metrics", *rest], query, body)
        elif path == "/objects/read":
            self._answer(self.wire.data_status) if self.wire.data_status else self._many(json.loads(body))
        elif path.startswith("/data/"):
            self._data(path.removeprefix("/data/"), query, body)
        else:
            self._answer(404)

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    # ------------------------------------------------------------------------------------------------------ answers

    def _orders(self) -> None:
        stream = self.wire.open_stream()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        try:
            while (lines := stream.next(5.0)) is not None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(lines), lines))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # the node went

    def _logs(self, parts: list[str], query: dict[str, str], body: bytes) -> None:
        run, attempt, learner, stream = parts[:4]
        key = (run, int(attempt), stream if learner == "1" else f"{stream}/{learner}")
        if self.wire.log_status:
            self._answer(self.wire.log_status)
        elif parts[4:] == ["size"]:
            self._json({"size": len(self.wire.logs.get(key, b""))})
        else:
            self._json({"size": self.wire.append(key, int(query["offset"]), body)})

    def _ranges(self, body: bytes) -> None:
        line, _, content = body.partition(b"\n")
        sizes: list[int] = []
        at = 0
        for run, attempt, learner, stream, offset, length in json.loads(line):
            key = (run, int(attempt), stream if learner == 1 else f"{stream}/{learner}")
            gone = self.wire.log_status in (404, 410)
            sizes.append(-1 if gone else self.wire.append(key, offset, content[at : at + length]))
            at += length
        refused = self.wire.log_status not in (0, 404, 410)
        self._answer(self.wire.log_status) if refused else self._json(sizes)

    def _objects(self, body: bytes) -> None:
        if self.wire.data_status:
            self._answer(self.wire.data_status)
            return
        kept: list[dict[str, object]] = []
        for named, content in objects.decode(body):
            item = self.wire.put_object(named.bucket, named.key, bytes(content), named.account)
            kept.append({"size": item.size, "etag": item.etag})
        self._json(kept)

    def _data(self, path: str, query: dict[str, str], body: bytes) -> None:
        account, bucket, *rest = path.split("/", 2)
        if self.wire.data_status:
            self._answer(self.wire.data_status)
        elif not rest:
            self._list(account, bucket, query)
        elif self.command == "PUT":
            item = self.wire.put_object(bucket, rest[0], body, account)
            self._json({"key": item.key, "size": item.size, "etag": item.etag})
        elif self.command == "DELETE":
            self.wire.objects.pop((account, bucket, rest[0]), None)
            self._answer(204)
        else:
            self._content(self.wire.objects.get((account, bucket, rest[0])))

    def _many(self, asked: tuple[str, str, list[tuple[str, int, str]]]) -> None:
        account, bucket, items = asked
        found = [self.wire.objects.get((account, bucket, key)) for key, _, _ in items]
        sizes = [
            -1 if content is None else -2 if etag_of(content).strip('"') != etag or len(content) != size else size
            for content, (_, size, etag) in zip(found, items, strict=True)
        ]
        good = [content for content, size in zip(found, sizes, strict=True) if content and size >= 0]
        self._answer(200, b"\n".join((json.dumps(sizes).encode(), b"".join(good))))

    def _list(self, account: str, bucket: str, query: dict[str, str]) -> None:
        found = self.wire.bucket(bucket, account)
        if not found:
            self._answer(404)
            return
        keys = sorted(key for key in found if key.startswith(query.get("prefix", "")))
        first = next((n for n, key in enumerate(keys) if key > query.get("cursor", "")), len(keys))
        page = keys[first : first + int(query.get("limit", "1000"))]
        items = [{"key": key, "size": len(found[key]), "etag": etag_of(found[key])} for key in page]
        self._json({"items": items, "next": page[-1] if first + len(page) < len(keys) else None})

    def _content(self, content: bytes | None) -> None:
        if content is None:
            self._answer(404)
            return
        etag = etag_of(content)
        if self.headers.get("If-Match", etag) != etag:
            self._answer(412)
            return
        wanted = self.headers.get("Range", "")
        if not wanted:
            self._answer(200, content, {"ETag": etag})
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        self._answer(206, part, {"ETag": etag, "Content-Range": span})
