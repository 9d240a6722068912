"""A small real HTTP server that speaks docs/api.md from memory, in threads: what the client's tests talk to.

It decides nothing: the tests move its runs. What a network does to people can be asked for as well: answers that never
come, streams that are cut, a restart on the same port.
"""
# long: one page of routes, answered in one place, so that it can be read beside docs/api.md

import base64
import contextlib
import hashlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from runyard.core.ids import run_id

TOKEN = "ryd_test-token"
FINAL = ("completed", "failed", "canceled")
TEMPLATE = "model_definition:\n  name: my-model\n"


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class State:
    """All that the service knows; shared by its threads under ``changed``."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, list[bytearray]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    definitions: dict[str, bytes] = field(default_factory=dict)
    mentions: dict[str, str] = field(default_factory=dict)
    objects: dict[str, dict[str, bytes]] = field(default_factory=dict)
    results: dict[str, dict[str, bytes]] = field(default_factory=dict)
    replays: dict[str, list[str]] = field(default_factory=dict)
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    frameworks: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    quota: dict[str, int | None] = field(default_factory=lambda: {"default": 1})
    part: dict[str, Any] = field(default_factory=dict[str, Any])
    drained: list[tuple[str, str, Any]] = field(default_factory=list[tuple[str, str, Any]])
    paused: bool = False
    moved: list[tuple[str, int]] = field(default_factory=list)
    submissions: list[dict[str, Any]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)


class ApiServer:
    """The service. ``on_submit`` is called with each new id, in a thread of its own, once it was answered."""

    def __init__(self) -> None:
        self.state = State()
        self.on_submit: Callable[[str], None] | None = None
        self.drop = 0
        """So many requests more are read and then cut off without an answer, after they took effect."""
        self.unavailable = 0
        """So many requests more are answered with 503."""
        self.refusal: tuple[int, dict[str, Any]] | None = None
        """What to answer to every submission instead."""
        self.short_by = 0
        """So many bytes are missing at the end of each result."""
        self.tls: ssl.SSLContext | None = None
        """Speak https with this."""
        self._counter = 0
        self._sockets: set[socket.socket] = set()
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
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "ApiServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------------------------------- what the tests move

    def add_run(self, **values: Any) -> str:
        """A run, waiting unless told otherwise; its id."""
        with self.state.changed:
            self._counter += 1
            run = run_id((self._counter * 0x9E3779B97F4A7C15) % 2**64)
            now = time.time() + self._counter / 1000
            self.state.runs[run] = blank_run(run, now) | values
            self.state.logs[run] = []
            self._event("accepted", run)
        return run

    def move(self, run: str, state: str, **values: Any) -> None:
        """Bring a run into another state, with its event."""
        with self.state.changed:
            record = self.state.runs[run]
            record.update(values, state=state)
            now = iso(time.time())
            if state == "starting":
                number = len(record["attempts"]) + 1
                record["attempts"].append({"number": number, "node": "n1", "slots": [0], "assigned_at": now})
                self.state.logs[run].append(bytearray())
                self._event("assigned", run, number, node="n1", slots=[0])
            elif state == "running":
                record["started_at"] = now
                self._event("running", run, len(record["attempts"]))
            elif state in FINAL:
                record.update(finished_at=now, stored_at=now, sentence=record["sentence"] or f"It is {state}.")
                ending = {"completed": "finished", "failed": "nonzero_exit", "canceled": "canceled"}[state]
                record["reason"] = values.get("reason", ending)
                self._event("finished", run, state=state, reason=record["reason"])
            else:
                self._event("requeued" if state == "waiting" else state, run, len(record["attempts"]))

    def print_log(self, run: str, text: str) -> None:
        with self.state.changed:
            self.state.logs[run][-1] += text.encode()
            self.state.changed.notify_all()

    def live(self, run: str, ending: str = "completed", log: str = "hello\n") -> None:
        """A whole life."""
        self.move(run, "starting")
        self.move(run, "running")
        self.print_log(run, log)
        self.move(run, "storing")
        self.move(run, ending)

    def forget(self, run: str) -> None:
        with self.state.changed:
            del self.state.runs[run]
            self._event("deleted", run)

    def _event(self, kind: str, run: str, attempt: int | None = None, **body: Any) -> None:
        seq = len(self.state.events) + 1
        head = {"seq": seq, "at": iso(time.time()), "kind": kind, "run": run, "attempt": attempt}
        self.state.events.append(body | head)
        self.state.changed.notify_all()

    def asked(self, method: str, pattern: str) -> list[Seen]:
        """The requests so far whose path matches."""
        return [each for each in self.state.seen if each.method == method and re.fullmatch(pattern, each.path)]


def blank_run(run: str, now: float) -> dict[str, Any]:
    """A waiting run with every field of docs/api.md."""
    nothing = dict.fromkeys(
        ("fault", "estimate", "staged_at", "started_at", "finished_at", "stored_at", "exit_code", "definition",
         "staging", "max_runtime_seconds")
    )  # fmt: skip
    return nothing | {
        "id": run, "name": "demo", "account": "default", "member": "owner", "state": "waiting", "readiness": "quota",
        "reason": "quota", "sentence": "", "position": 1, "attempts": [], "created_at": iso(now),
        "gpu_seconds": 1.5, "cpu_seconds": 6.0, "gb_seconds": 18.0, "cost": "0.001200",
        "results": {"type": "local", "bucket": "results", "prefix": "", "endpoint_url": None},
        "hyper_parameters": {}, "command": "python3 train.py", "framework": "pytorch 2",
        "resources": {"gpus": 1, "cpus": 4.0, "memory_mib": 8192}, "learners": 1, "priority": 50, "tags": [],
        "notes": [], "description": "", "provenance": {}, "data": [],
    }  # fmt: skip


class Problem(Exception):
    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.document = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail} | more


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_of_tests: ApiServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.server_of_tests._sockets.add(self.connection)

    def finish(self) -> None:
        self.server_of_tests._sockets.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self.handle_call()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815  # http.server's names

    def handle_call(self) -> None:
        server = self.server_of_tests
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in self.headers.items()}
        seen = Seen(self.command, unquote(parts.path), parse_qs(parts.query), headers, body)
        server.state.seen.append(seen)
        if server.unavailable > 0:
            server.unavailable -= 1
            self.answer(503, b"")
            return
        try:
            self.authorise(seen)
            status, answer = self.route(seen)
        except Problem as problem:
            self.answer_json(problem.status, problem.document, "application/problem+json")
            return
        if server.drop > 0:
            server.drop -= 1
            self.close_connection = True
        elif callable(answer):
            answer()
        elif isinstance(answer, bytes):
            self.answer(status, answer)
        else:
            self.answer_json(status, answer)

    def authorise(self, seen: Seen) -> None:
        basic = "Basic " + base64.b64encode(f"someone:{TOKEN}".encode()).decode()
        if seen.path != "/healthz" and seen.headers.get("authorization") not in (f"Bearer {TOKEN}", basic):
            raise Problem(401, "access_denied", "The token is not known: set RUNYARD_TOKEN to a valid one.")

    def route(self, seen: Seen) -> tuple[int, Any]:
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, seen.path)
            if found and method == seen.method:
                return getattr(self, name)(seen, *found.groups())
        raise Problem(404, "not_found", f"There is no {seen.path}.")

    def answer_json(self, status: int, document: Any, kind: str = "application/json") -> None:
        self.answer(status, json.dumps(document).encode(), kind)

    def answer(self, status: int, body: bytes, kind: str = "application/octet-stream", **headers: str) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", kind)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # --------------------------------------------------------------------------------------------- streams

    def event_stream(self, pieces: Iterator[bytes]) -> Callable[[], None]:
        def send() -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in pieces:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

        return send

    def account_events(self, seen: Seen) -> tuple[int, Any]:
        state = self.server_of_tests.state
        after = int(seen.headers.get("last-event-id") or seen.query.get("after", [len(state.events)])[0])

        def pieces() -> Iterator[bytes]:
            nonlocal after
            while True:
                with state.changed:
                    page = state.events[after:]
                    if not page:
                        state.changed.wait(0.2)
                if not page:
                    yield b": quiet\n\n"  # also finds out that the reader is gone
                for event in page:
                    after = event["seq"]
                    yield sse(event["kind"], event, str(after))

        if "text/event-stream" in seen.headers.get("accept", ""):
            return 200, self.event_stream(pieces())
        return 200, {"items": state.events[after:], "next": None}

    def log(self, seen: Seen, run: str) -> tuple[int, Any]:
        record = self.find(run)
        run = record["id"]
        if "text/event-stream" in seen.headers.get("accept", ""):
            return 200, self.event_stream(self.log_pieces(record, seen))
        state = self.server_of_tests.state
        attempt = int(seen.query.get("attempt", [len(state.logs[run])])[0])
        text = bytes(state.logs[run][attempt - 1]) if state.logs[run] else b""
        if "tail" in seen.query:
            lines = text.splitlines(keepends=True)
            text = b"".join(lines[len(lines) - int(seen.query["tail"][0]) :])
        offset = int(seen.query.get("offset", ["0"])[0])
        return 200, lambda: self.answer(200, text[offset:], "text/plain", Runyard_Log_Offset=str(offset))

    def log_pieces(self, record: dict[str, Any], seen: Seen) -> Iterator[bytes]:
        state = self.server_of_tests.state
        attempt, offset, shown = 1, 0, ""
        if "last-event-id" in seen.headers:
            attempt, offset = map(int, seen.headers["last-event-id"].split(":"))
        while True:
            with state.changed:
                logs = state.logs[record["id"]]
                chunk = bytes(logs[attempt - 1][offset:]) if attempt <= len(logs) else b""
                now, more = record["state"], attempt < len(logs)
                if not chunk and now == shown and not more and now not in FINAL:
                    state.changed.wait(0.2)
            if now != shown:
                shown = now
                yield sse("state", {"state": now, "reason": record["reason"]})
            if chunk:
                data = {"attempt": attempt, "offset": offset, "text": chunk.decode()}
                offset += len(chunk)
                yield sse("log", data, f"{attempt}:{offset}")
            elif more:
                attempt, offset = attempt + 1, 0
            elif now in FINAL:
                yield sse("end", {"state": now})
                return
            else:
                yield b": quiet\n\n"

    # -------------------------------------------------------------------------------------------- runs

    def find(self, selector: str) -> dict[str, Any]:
        runs = list(self.server_of_tests.state.runs.values())
        if selector == "last" or selector.startswith("last-"):
            number = int(selector[5:] or 0)
            if number < len(runs):
                return runs[-1 - number]
            raise Problem(404, "not_found", f"There is no training run {selector}.")
        found = [run for run in runs if run["id"].startswith(selector)]
        if len(found) > 1:
            raise Problem(409, "conflict", f"{selector} begins several ids: add to it.")
        if not found:
            raise Problem(404, "not_found", f"There is no training run {selector}.")
        return found[0]

    def submit(self, seen: Seen) -> tuple[int, Any]:
        server = self.server_of_tests
        if server.refusal is not None:
            raise Problem(server.refusal[0], **server.refusal[1])
        document = json.loads(seen.body)
        key = seen.headers.get("idempotency-key", "")
        if not key:
            raise Problem(422, "invalid_request", "Every submission of this client has a key.")
        if document["definition"] not in server.state.definitions:
            raise Problem(404, "not_found", f"There is no model definition {document['definition']}.")
        if key in server.state.replays:
            return 201, {"ids": server.state.replays[key], "replayed": True, "notes": []}
        server.state.submissions.append(document)
        name = document["overrides"]["name"] or "demo"
        shared = {"name": name, "tags": document["overrides"]["tags"], "definition": document["definition"]}
        ids = [server.add_run(hyper_parameters=each, **shared) for each in document["parameters"] or [{}]]
        server.state.replays[key] = ids
        if server.on_submit is not None:
            for each in ids:
                threading.Thread(target=server.on_submit, args=(each,), daemon=True).start()
        return 201, {"ids": ids, "replayed": False, "notes": ["CPUs are scaled to this machine."]}

    def check(self, seen: Seen) -> tuple[int, Any]:
        server = self.server_of_tests
        if server.refusal is not None:
            raise Problem(server.refusal[0], **server.refusal[1])
        count = len(json.loads(seen.body)["parameters"]) or 1
        checks = [{"what": "results", "verdict": "ok", "message": ""}]
        resources = {"gpus": 1, "cpus": 4.0, "memory_mib": 8192}
        results = {"type": "local", "bucket": "results", "prefix": ""}
        told = {"name": "demo", "command": "python3 train.py", "runs": count, "notes": []}
        return 200, told | {"resources": resources, "results": results, "checks": checks}

    def list_runs(self, seen: Seen) -> tuple[int, Any]:
        query = seen.query
        found = [
            run
            for run in reversed(list(self.server_of_tests.state.runs.values()))
            if ("state" not in query or run["state"] in query["state"])
            and ("tag" not in query or query["tag"][0] in run["tags"])
        ]
        begin, limit = int(query.get("cursor", ["0"])[0]), int(query.get("limit", ["100"])[0])
        more = begin + limit < len(found)
        return 200, {"items": found[begin : begin + limit], "next": str(begin + limit) if more else None}

    def show(self, _: Seen, run: str) -> tuple[int, Any]:
        return 200, dict(self.find(run))

    def cancel(self, _: Seen, run: str) -> tuple[int, Any]:
        record = self.find(run)
        if record["state"] not in FINAL:
            self.server_of_tests.move(record["id"], "canceled")
        return 202, dict(record)

    def cancel_many(self, seen: Seen) -> tuple[int, Any]:
        runs = self.server_of_tests.state.runs
        items: list[dict[str, Any]] = []
        refused: list[dict[str, str]] = []
        for named in json.loads(seen.body)["runs"]:
            tagged = [run for run, each in runs.items() if named.removeprefix("tag:") in each["tags"]]
            try:
                for run in tagged if named.startswith("tag:") else [named]:
                    _, record = self.cancel(seen, run)
                    items.append({"id": record["id"], "state": record["state"], "sentence": record["sentence"] or ""})
            except Problem as error:
                refused.append({"id": named, "code": "not_found", "message": str(error)})
        return 202, {"items": items, "refused": refused}

    def delete(self, _: Seen, run: str) -> tuple[int, Any]:
        record = self.find(run)
        if record["state"] not in FINAL:
            raise Problem(409, "conflict", f"{record['id']} is {record['state']}: cancel it first.")
        self.server_of_tests.forget(record["id"])
        return 204, b""

    def history(self, _: Seen, run: str) -> tuple[int, Any]:
        run = self.find(run)["id"]
        return 200, {"items": [each for each in self.server_of_tests.state.events if each["run"] == run]}

    def metrics(self, _: Seen, run: str) -> tuple[int, Any]:
        return 200, {"id": self.find(run)["id"], "items": [], "notes": []}

    def explain(self, _: Seen, run: str) -> tuple[int, Any]:
        record = self.find(run)
        return 200, {"id": record["id"], "state": record["state"], "readiness": "quota", "position": 2, "ahead": 1,
                     "sentence": "The account holds its quota of 1 GPU.", "estimate": iso(time.time() + 60),
                     "steps": ["accepted", "code and data ready"]}  # fmt: skip

    def results(self, _: Seen, run: str) -> tuple[int, Any]:
        stored = self.server_of_tests.state.results.get(self.find(run)["id"], {})
        items = [{"key": key, "size": len(body)} for key, body in stored.items()]
        return 200, {"items": items, "location": {"type": "local", "bucket": "results"}}

    def result(self, _: Seen, run: str, key: str) -> tuple[int, Any]:
        stored = self.server_of_tests.state.results.get(self.find(run)["id"], {})
        if key not in stored:
            raise Problem(404, "not_found", f"There is no {key}.")
        return 200, stored[key][: len(stored[key]) - self.server_of_tests.short_by]

    # ------------------------------------------------------------------------------------- definitions and data

    def has_definition(self, _: Seen, sha256: str) -> tuple[int, Any]:
        return (200 if sha256 in self.server_of_tests.state.definitions else 404), b""

    def put_definition(self, seen: Seen, sha256: str) -> tuple[int, Any]:
        if hashlib.sha256(seen.body).hexdigest() != sha256:
            raise Problem(422, "invalid_request", "The upload has another hash.")
        self.server_of_tests.state.definitions[sha256] = seen.body
        self.server_of_tests.state.mentions[sha256] = seen.query.get("mentions_config", [""])[0]
        return 201, b""

    def get_definition(self, _: Seen, sha256: str) -> tuple[int, Any]:
        return 200, self.server_of_tests.state.definitions[sha256]

    def buckets(self, _: Seen) -> tuple[int, Any]:
        return 200, {"items": [{"name": name} for name in sorted(self.server_of_tests.state.objects)]}

    def list_objects(self, seen: Seen, bucket: str) -> tuple[int, Any]:
        if bucket not in self.server_of_tests.state.objects:
            raise Problem(404, "not_found", f"There is no bucket {bucket}.")
        stored = self.server_of_tests.state.objects[bucket]
        prefix = seen.query.get("prefix", [""])[0]
        moment = iso(time.time() + 3600)
        items = [
            {"key": key, "size": len(stored[key]), "etag": "e", "modified_at": moment}
            for key in sorted(stored)
            if key.startswith(prefix) and key > seen.query.get("cursor", [""])[0]
        ]
        limit = int(seen.query.get("limit", ["100"])[0])
        return 200, {"items": items[:limit], "next": items[limit - 1]["key"] if len(items) > limit else None}

    def put_object(self, seen: Seen, bucket: str, key: str) -> tuple[int, Any]:
        self.server_of_tests.state.objects.setdefault(bucket, {})[key] = seen.body
        return 201, {"key": key, "size": len(seen.body), "etag": "e", "modified_at": iso(time.time())}

    def get_object(self, seen: Seen, bucket: str, key: str) -> tuple[int, Any]:
        stored = self.server_of_tests.state.objects.get(bucket, {})
        if key not in stored:
            raise Problem(404, "not_found", f"There is no object {key}.")
        begin = seen.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        return 200, stored[key][int(begin) :]

    def delete_object(self, _: Seen, bucket: str, key: str) -> tuple[int, Any]:
        if self.server_of_tests.state.objects.get(bucket, {}).pop(key, None) is None:
            raise Problem(404, "not_found", f"There is no object {key}.")
        return 204, b""

    def delete_objects(self, seen: Seen, bucket: str) -> tuple[int, Any]:
        prefix = seen.query.get("prefix", [""])[0]
        stored = self.server_of_tests.state.objects.get(bucket, {})
        gone = [key for key in stored if key.startswith(prefix)]
        for key in gone:
            del stored[key]
        return 204, lambda: self.answer(204, b"", Runyard_Deleted=str(len(gone)))

    # ------------------------------------------------------------------------------------- the rest

    def health(self, _: Seen) -> tuple[int, Any]:
        return 200, {"status": "ok"}

    def status(self, _: Seen) -> tuple[int, Any]:
        state = self.server_of_tests.state
        counts: dict[str, int] = {}
        for run in state.runs.values():
            counts[run["state"]] = counts.get(run["state"], 0) + 1
        node = {"id": "n", "name": "n1", "connected": True, "gpus": ["L4", "L4"], "logical_gpus": False, "cpus": 8.0,
                "memory_mib": 32768, "version": "0.1.0", "closed": None, "notes": []}  # fmt: skip
        return 200, {"version": "0.1.0", "started_at": iso(time.time() - 90), "account": "default", "member": "owner",
                     "nodes": [node], "slots": {"total": 2, "used": 1}, "counts": counts,
                     "queue_paused": state.paused, "url": self.server_of_tests.url}  # fmt: skip

    def cache(self, _: Seen) -> tuple[int, Any]:
        return 200, {"nodes": []}

    def queue(self, _: Seen) -> tuple[int, Any]:
        waiting = [run for run in self.server_of_tests.state.runs.values() if run["state"] == "waiting"]
        items = [
            {"position": place, "id": run["id"], "name": run["name"], "account": "default", "priority": 50,
             "readiness": "quota", "sentence": "The account holds its quota."}
            for place, run in enumerate(waiting, 1)
        ]  # fmt: skip
        paused = self.server_of_tests.state.paused
        return 200, {"paused": False, "account_paused": paused, "items": items, "waiting": len(items)}

    def pause(self, _: Seen, verb: str) -> tuple[int, Any]:
        self.server_of_tests.state.paused = verb == "pause"
        return 200, {"paused": self.server_of_tests.state.paused}

    def move_run(self, seen: Seen) -> tuple[int, Any]:
        wish = json.loads(seen.body)
        self.server_of_tests.state.moved.append((wish["id"], wish["position"]))
        return 200, dict(self.find(wish["id"]))

    def quota(self, seen: Seen, account: str = "default") -> tuple[int, Any]:
        quota = self.server_of_tests.state.quota
        if account not in quota:
            raise Problem(404, "not_found", f"There is no account {account}.")
        if seen.method == "PUT":
            quota[account] = json.loads(seen.body)["gpus"]
        return 200, {"account": account, "plan": "free", "gpus": quota[account], "used_gpus": 1, "slots": 2,
                     "used_cpu_millis": 500, "used_memory_mib": 2048, "used_waiting": 3,
                     "used_storage_bytes": None, **self._part()}  # fmt: skip

    def _part(self) -> dict[str, Any]:
        return self.server_of_tests.state.part

    def share(self, seen: Seen, account: str) -> tuple[int, Any]:
        self._part().update({"share": {"weight": 1.0, "used_gpu_hours": 2.5}} | json.loads(seen.body))
        return self.quota(Seen("GET", seen.path, {}, {}, b""), account)

    def budget(self, seen: Seen, account: str) -> tuple[int, Any]:
        self._part().pop("budget", None)
        if seen.method == "PUT":
            told = {"percent": 10, "sentence": None, "gpu_hours": None, "money": None}
            self._part()["budget"] = told | json.loads(seen.body)
        return self.quota(Seen("GET", seen.path, {}, {}, b""), account)

    def nodes(self, _: Seen) -> tuple[int, Any]:
        return 200, {"items": [self._machine(None)]}

    def drain(self, seen: Seen, node: str, verb: str) -> tuple[int, Any]:
        self.server_of_tests.state.drained.append((node, verb, json.loads(seen.body)))
        return 200, self._machine(iso(time.time()) if verb == "drain" else None)

    def _machine(self, since: str | None) -> dict[str, Any]:
        node = {"id": "n1", "name": "big", "connected": True, "gpus": ["a", "b"], "closed": None}
        return {"node": node, "running": 2, "draining_since": since}

    def change_run(self, seen: Seen, run: str) -> tuple[int, Any]:
        self.find(run).update(json.loads(seen.body))
        return 200, dict(self.find(run))

    def usage(self, seen: Seen) -> tuple[int, Any]:
        line = {"group": "default", "runs": 2, "attempts": 3, "gpu_seconds": 12.5, "cpu_seconds": 50.0,
                "gb_seconds": 150.0, "cost": "0.012300", "waste_gpu_seconds": 1.0}  # fmt: skip
        return 200, {"by": seen.query["by"][0], "items": [line], "total": line | {"group": "total"}}

    def named(self, seen: Seen, kind: str) -> tuple[int, Any]:
        kept: dict[str, dict[str, Any]] = getattr(self.server_of_tests.state, kind)
        if seen.method == "GET":
            shown = [{key: value for key, value in each.items() if "secret" not in key} for each in kept.values()]
            return 200, {"items": shown}
        document = json.loads(seen.body)
        if kind == "tokens":
            name = f"t{len(kept) + 1}"
            kept[name] = (
                {"scope": "member"} | document | {"id": name, "member": "owner", "created_at": iso(time.time())}
            )
            return 201, {"id": name, "token": f"ryd_new-{name}"}
        if document["name"] in kept:
            raise Problem(409, "conflict", f"There is a connection {document['name']} already.")
        kept[document["name"]] = document
        return 201, {key: value for key, value in document.items() if "secret" not in key}

    def convert(self, seen: Seen) -> tuple[int, Any]:
        text = json.loads(seen.body)["manifest"]
        return 200, {"manifest": f"# Brought over.\n{text}", "notes": ["It was old."], "left": []}

    def frameworks(self, seen: Seen) -> tuple[int, Any]:
        kept = self.server_of_tests.state.frameworks
        if seen.method == "POST":
            made = {"version": "", "python": None, "instead": None, "created_at": iso(time.time())}
            made |= json.loads(seen.body)
            kept[made["name"]] = made
            return 201, made
        known = [{"name": "pytorch", "distribution": "torch", "aliases": ["torch"], "installed": ["2.10.0"]}]
        return 200, {"known": known, "registered": list(kept.values())}

    def versions(self, _: Seen, name: str) -> tuple[int, Any]:
        return 200, {"name": name, "versions": ["2.10.0", "2.9.1"]}

    def secrets(self, seen: Seen, name: str = "") -> tuple[int, Any]:
        kept = self.server_of_tests.state.secrets
        if seen.method == "PUT":
            kept[name] = json.loads(seen.body)["value"]
            return 200, {"name": name, "created_at": iso(time.time())}
        return 200, {"items": [{"name": each, "created_at": iso(time.time())} for each in sorted(kept)]}

    def unname(self, _: Seen, kind: str, name: str) -> tuple[int, Any]:
        if getattr(self.server_of_tests.state, kind).pop(name, None) is None:
            raise Problem(404, "not_found", f"There is no {name}.")
        return 204, b""

    def accounts(self, _: Seen) -> tuple[int, Any]:
        return 200, {
            "items": [
                {"id": "default", "name": "default", "plan": "free", "quota_gpus": None, "paused": False, "quota": {}}
            ]
        }

    def template(self, seen: Seen) -> tuple[int, Any]:
        if seen.query["kind"][0] != "training-runs":
            raise Problem(501, "not_in_this_version", "This kind of manifest is not in this version.")
        return 200, lambda: self.answer(200, TEMPLATE.encode(), "text/plain")

    def schema(self, _: Seen) -> tuple[int, Any]:
        return 200, {"type": "object"}


def sse(event: str, data: dict[str, Any], id: str | None = None) -> bytes:
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {event}\ndata: {json.dumps(data)}\n\n".encode()


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
