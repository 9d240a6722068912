"""A node that lies, slow clients, and the embedded store's addresses."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from http.client import HTTPResponse

from tests.hostile.case import Case
from tests.hostile.yard import Answer, Yard


def node(what: str, method: str, path: str, status: int, code: str, words: str, **more: object) -> Case:
    """A request with the node's token; RUN in it stands for a run that has begun on the node, SPEC for its spec."""

    def send(yard: Yard) -> Answer:
        body = more.get("body")
        if isinstance(body, bytes):
            body = body.replace(b"RUN", yard.run.encode()).replace(b"SPEC", str(yard.spec).encode())
        return yard.call(method, path.replace("RUN", yard.run), body, token="node")

    return Case("node", what, send, status, code, words, kept=more.get("kept"))  # type: ignore[arg-type]  # words or None


def _garbled(yard: Yard) -> Answer:
    body = b"\xff\xfe not a block\n"
    assert yard.call("PUT", f"/node/metrics/{yard.run}/1/1?offset=0", body, token="node").status == 200
    return yard.call("GET", f"/training-runs/{yard.run}/metrics?points=true")


def told(what: str, *found: object, answer: str = "[false]") -> Case:
    """Facts that are not taken: each is answered for itself."""
    return node(what, "POST", "/node/facts", 200, "", answer, body=json.dumps(found).encode())


def ranges(what: str, head: object, content: bytes, status: int, code: str, words: str) -> Case:
    """Ranges of logs."""
    return node(what, "POST", "/node/ranges", status, code, words, body=json.dumps(head).encode() + b"\n" + content)


_LOG = "/node/logs/RUN/1/1/training-log"
_NO_ATTEMPT = "on this node"
NODES = (
    node("facts: nothing", "POST", "/node/facts", 422, "invalid_request", "These are no facts", body=b""),
    node("facts: bytes that are no UTF-8", "POST", "/node/facts", 422, "invalid_request", "These are no facts", body=b'[{"type": "\xff"}]'),
    node("facts of a kind that is none", "POST", "/node/facts", 422, "invalid_request", "These are no facts", body=b'[{"type": "dances"}]'),
    node("facts nested 100,000 levels deep", "POST", "/node/facts", 422, "invalid_request", "These are no facts", body=b"[" * 100_000),
    node("facts: ten million numbers", "POST", "/node/facts", 422, "invalid_request", "These are no facts", body=b"[" + b"1," * 5_000_000 + b"1]"),
    node("facts of 17 MiB", "POST", "/node/facts", 413, "too_large", "may have 16777216 bytes", body=b" " * (17 << 20)),
    told("the end of a run of nobody", {"type": "exited", "run": "training-aaaaaaaaa", "attempt": 1, "at_ms": 1, "exit_code": 0}),
    told("the end of attempt 999", {"type": "exited", "run": "RUN", "attempt": 999, "at_ms": 1, "exit_code": 0}),
    told("the end of attempt -1", {"type": "exited", "run": "RUN", "attempt": -1, "at_ms": 1, "exit_code": 0}),
    told("the beginning of attempt 2", {"type": "began", "run": "RUN", "attempt": 2, "at_ms": 1}),
    told("results stored of a run that runs", {"type": "stored", "run": "RUN", "objects": 1, "size": 1}),
    told("code made ready for a spec of nobody", {"type": "staged", "spec": 999_999_999}),
    node("an attempt of 10^400", "POST", "/node/facts", 200, "", "[false]", body=b'[{"type": "began", "run": "RUN", "attempt": 1' + b"0" * 400 + b', "at_ms": 1}]'),
    node("a hello that is none", "POST", "/node/hello", 422, "invalid_request", "This is no hello", body=b"{}"),
    node("a hello with bytes that are no UTF-8", "POST", "/node/hello", 422, "invalid_request", "This is no hello", body=b'{"name": "\xff"}'),
    node("a log at an offset beyond its end", "PUT", _LOG + "?offset=1000000", 200, "", '{"size":5}', body=b"x"),
    node("a log over what is there", "PUT", _LOG + "?offset=0", 200, "", '{"size":5}', body=b"HELLO"),
    node("a log at offset -1", "PUT", _LOG + "?offset=-1", 422, "invalid_request", "offset", body=b"x"),
    node("a log at offset 2^63", "PUT", _LOG + "?offset=9223372036854775808", 422, "invalid_request", "offset", body=b"x"),
    node("a log without an offset", "PUT", _LOG, 422, "invalid_request", "offset", body=b"x"),
    node("a log of a run of nobody", "PUT", "/node/logs/training-aaaaaaaaa/1/1/training-log?offset=0", 404, "not_found", _NO_ATTEMPT, body=b"x"),
    node("a log of attempt 7", "PUT", "/node/logs/RUN/7/1/training-log?offset=0", 404, "not_found", _NO_ATTEMPT, body=b"x"),
    node("a log of attempt 10^12", "PUT", "/node/logs/RUN/1000000000000/1/training-log?offset=0", 422, "invalid_request", "attempt", body=b"x"),
    node("a log whose run leads out", "PUT", "/node/logs/..%2f..%2fetc/1/1/training-log?offset=0", 404, "not_found", "There is no such address: /api/openapi.json lists those that there", body=b"x"),
    node("a log stream that leads out", "PUT", "/node/logs/RUN/1/1/..?offset=0", 404, "not_found", "There is no log stream '..'", body=b"x"),
    node("a flood: 2 MiB of log at once", "PUT", _LOG + "?offset=5", 413, "too_large", "may have 1048576 bytes", body=b"x" * (2 << 20)),
    node("a flood: 2 MiB of metrics at once", "PUT", "/node/metrics/RUN/1/1?offset=0", 413, "too_large", "may have 1048576 bytes", body=b"x" * (2 << 20)),
    Case("node", "metrics that are none, and then the metrics of that run", _garbled, 200, "", '"items":[]', kept="bytes in which no metric is found"),
    node("metrics of a run of nobody", "PUT", "/node/metrics/training-aaaaaaaaa/1/1?offset=0", 404, "not_found", _NO_ATTEMPT, body=b"x"),
    ranges("ranges: no list", "x", b"", 422, "invalid_request", "no list of ranges"),
    ranges("ranges longer than their bytes", [["RUN", 1, 1, "training-log", 5, 1000]], b"x", 422, "invalid_request", "no more and no less"),
    ranges("ranges shorter than their bytes", [["RUN", 1, 1, "training-log", 5, 1]], b"xyz", 422, "invalid_request", "no more and no less"),
    ranges("ranges of -1 bytes", [["RUN", 1, 1, "training-log", 5, -1]], b"x", 422, "invalid_request", "no list of ranges"),
    ranges("ranges of another's run", [["training-aaaaaaaaa", 1, 1, "training-log", 0, 1]], b"x", 200, "", "[-1]"),
    ranges("ranges of a stream that is none", [["RUN", 1, 1, "../../key", 0, 1]], b"x", 200, "", "[-1]"),
    node("objects: bytes that are no UTF-8", "POST", "/node/objects", 422, "invalid_request", "no list of objects", body=b'[["default","b","\xff",1]]\nx'),
    node("objects longer than their bytes", "POST", "/node/objects", 422, "invalid_request", "sizes of the objects", body=b'[["default","b","k",100]]\nx'),
    node("objects of -5 bytes", "POST", "/node/objects", 422, "invalid_request", "sizes of the objects", body=b'[["default","b","k",-5]]\nx'),
    node("an object whose key leads out", "POST", "/node/objects", 200, "", "error", body=b'[["default","b","../../../x",1]]\nx'),
    node("an object of an account that leads out", "POST", "/node/objects", 200, "", "error", body=b'[["../..","b","k",1]]\nx'),
    node("reading 10^18 bytes of objects", "POST", "/node/objects/read", 422, "invalid_request", "More than 16777216 bytes were asked for at once", body=b'["default","b",[["k",1000000000000000000,"e"]]]'),
)  # fmt: skip


def slow(what: str, sent: bytes, piece: bytes = b"") -> Case:
    """A client that sends a beginning, then a little again and again, until it is answered or cut off."""

    def send(yard: Yard) -> Answer:
        first = sent.replace(b"TOKEN", yard.tokens["owner"].encode())
        with socket.create_connection(("127.0.0.1", yard.port), timeout=0.1) as connection:
            connection.sendall(first)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    if connection.recv(1, socket.MSG_PEEK) is not None:
                        break
                except TimeoutError:
                    connection.sendall(piece)
            connection.settimeout(10)
            response = HTTPResponse(connection)
            response.begin()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    return Case("slow client", what, send, 408, "too_slow", "send it again, without a pause")


_POST = b"POST /api/v1/training-runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Length: 1000\r\n\r\n"
SLOW = (
    slow("says nothing at all", b""),
    slow("a byte of the request line, then nothing", b"G"),
    slow("a header now and then, without end (slowloris)", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"a: b\r\n"),
    slow("headers, then nothing of the body", _POST),
    slow("half a body, then nothing", _POST + b"{" * 500),
)


def at_once(count: int, sent: Callable[[Yard], bytes]) -> Callable[[Yard], Answer]:
    """So many connections that have sent this and wait; the answer is that of one more, which is in order."""

    def send(yard: Yard) -> Answer:
        waiting: list[socket.socket] = []
        try:
            for _ in range(count):
                connection = socket.create_connection(("127.0.0.1", yard.port), timeout=10)
                connection.settimeout(0.5)
                waiting.append(connection)
                try:
                    connection.sendall(sent(yard))
                except OSError:
                    pass  # cut off, or it reads no more: as it should
            return yard.call("GET", "//healthz", token=None)
        finally:
            for connection in waiting:
                connection.close()

    return send


def _large(yard: Yard) -> bytes:
    token = yard.tokens["owner"].encode()
    head = b"POST /api/v1/training-runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    return head % (token, 32 << 20) + b" " * (8 << 20)


CROWDS = (
    Case("slow client", "300 at once with half a request", at_once(300, lambda _: b"GET /heal"), 200, "", "ok"),
    Case("slow client", "20 at once with 8 of 32 MiB of a body each", at_once(20, _large), 200, "", "ok"),
)


def stored(what: str, method: str, path: str, status: int, code: str, words: str, **more: object) -> Case:
    """An address of the embedded store."""

    def send(yard: Yard) -> Answer:
        return yard.call(method, path, more.get("body"), headers=more.get("headers"))  # type: ignore[arg-type]

    return Case("object", what, send, status, code, words)


STORED = (
    stored("a bucket that leads out", "PUT", "/data/..%2f..%2fx/key", 422, "invalid_request", "bucket name", body=b"x"),
    stored("a bucket named ..", "PUT", "/data/%2e%2e/key", 422, "invalid_request", "The bucket name '..' cannot be used", body=b"x"),
    stored("a bucket of 64 letters", "PUT", "/data/" + "b" * 64 + "/key", 422, "invalid_request", "1 to 63 letters", body=b"x"),
    stored("a key that leads out", "PUT", "/data/bucket/..%2f..%2f..%2fetc%2fpasswd", 422, "invalid_request", "cannot be used: a segment is empty, '.' or '..'", body=b"x"),
    stored("a key that leads out in the middle", "PUT", "/data/bucket/a/%2e%2e/%2e%2e/%2e%2e/b", 422, "invalid_request", "cannot be used: a segment is empty, '.' or '..'", body=b"x"),
    stored("a key with NUL", "PUT", "/data/bucket/a%00b", 422, "invalid_request", "it holds a control character", body=b"x"),
    stored("a key that ends in /", "PUT", "/data/bucket/a/", 422, "invalid_request", "it ends with a slash", body=b"x"),
    stored("a key of 5,000 letters", "PUT", "/data/bucket/" + "k" * 5000, 422, "invalid_request", "it is longer than 1024 bytes", body=b"x"),
    stored("a key of 2,000 folders", "PUT", "/data/bucket/" + "a/" * 2000 + "b", 422, "invalid_request", "it is longer than 1024 bytes", body=b"x"),
    stored("reading what leads out", "GET", "/data/bucket/..%2f..%2fkey", 422, "invalid_request", "cannot be used: a segment is empty, '.' or '..'"),
    stored("deleting what leads out", "DELETE", "/data/bucket/..%2f..%2fkey", 422, "invalid_request", "cannot be used: a segment is empty, '.' or '..'"),
    stored("a definition named by a path", "PUT", "/definitions/..%2f..%2fx", 404, "not_found", "There is no such address", body=b"x"),
    stored("a definition of another hash", "PUT", "/definitions/" + "0" * 64, 422, "invalid_request", "another SHA-256", body=b"x"),
    stored("a definition of 65 MiB", "PUT", "/definitions/" + "0" * 64, 413, "too_large", "Leave data out", body=bytes(65 << 20)),
)  # fmt: skip
CASES = (*NODES, *SLOW, *CROWDS, *STORED)
