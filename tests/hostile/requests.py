"""Hostile HTTP: what is no request, bodies that lie, addresses that lead elsewhere, tokens, odd parameters."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable

from tests.hostile.case import Case, Send
from tests.hostile.manifests import GOOD
from tests.hostile.yard import Answer, Yard

_NO_HTTP = "This is no HTTP request that can be read"


def http(what: str, sent: bytes | Callable[[Yard], bytes], status: int, code: str, words: str, **more: object) -> Case:
    """Bytes on a connection. ``TOKEN`` in them stands for the owner's."""

    def send(yard: Yard) -> Answer:
        content = sent if isinstance(sent, bytes) else sent(yard)
        return yard.raw(content.replace(b"TOKEN", yard.tokens["owner"].encode()), end=bool(more.get("end")))

    return Case("HTTP", what, send, status, code, words)


def asked(kind: str, what: str, method: str, path: str, status: int, code: str, words: str, **more: object) -> Case:
    """A request of the owner, or of whom ``token`` names."""
    body, token, headers = more.get("body"), more.get("token", "owner"), more.get("headers")

    def send(yard: Yard) -> Answer:
        return yard.call(method, path, body, token=token, headers=headers)  # type: ignore[arg-type]  # the row's fields

    return Case(kind, what, send, status, code, words)


def post(path: str, headers: bytes, body: bytes) -> bytes:
    """A POST with these headers and no others than its token."""
    start = f"POST /api/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nConnection: close\r\n".encode()
    return start + headers + b"\r\n" + body


_JSON = b"Content-Type: application/json\r\n"
HTTP = (
    http("no HTTP: random bytes", bytes(range(128, 256)) * 4 + b"\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("no HTTP: the beginning of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("a request without a version", b"GET /healthz\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("a version that is none: HTTP/nine", b"GET /healthz HTTP/nine\r\nHost: x\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("no Host", b"GET /healthz HTTP/1.1\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("two Hosts", b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("a header without a colon", b"GET /healthz HTTP/1.1\r\nHost: x\r\nbad\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("NUL in a header", b"GET /healthz HTTP/1.1\r\nHost: x\r\na: b\0c\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("a header name with a space", b"GET /healthz HTTP/1.1\r\nHost: x\r\na b: c\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("headers of 1 MiB", b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"a: " + b"x" * (1 << 20) + b"\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("200,000 headers", b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 200_000 + b"\r\n", 400, "invalid_request", _NO_HTTP),
    http("an address of 1 MiB", b"GET /" + b"x" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("an address with bytes that are no ASCII", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid_request", _NO_HTTP),
    http("lengths that contradict each other", b"POST /api/v1/queue/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "invalid_request", _NO_HTTP),
    http("a length below 0", post("/queue/pause", _JSON + b"Content-Length: -1\r\n", b""), 400, "invalid_request", _NO_HTTP),
    http("a length in words", post("/queue/pause", _JSON + b"Content-Length: ten\r\n", b""), 400, "invalid_request", _NO_HTTP),
    http("a length of 30 digits", post("/queue/pause", _JSON + b"Content-Length: " + b"9" * 30 + b"\r\n", b""), 400, "invalid_request", _NO_HTTP),
    http("a length of 10^17", post("/queue/pause", _JSON + b"Content-Length: 100000000000000000\r\n", b""), 413, "too_large", "send less at once"),
    http("a length of a byte more than is allowed", post("/tokens", _JSON + b"Content-Length: 1048577\r\n", b""), 413, "too_large", "may have 1048576 bytes"),
    http("a coding of the body that nobody knows", post("/queue/pause", b"Transfer-Encoding: gzip\r\n", b""), 400, "invalid_request", _NO_HTTP),
    http("a chunk whose length is no number", post("/queue/move", _JSON + b"Transfer-Encoding: chunked\r\n", b"zz\r\nab\r\n0\r\n\r\n"), 400, "invalid_request", _NO_HTTP),
    http("a chunk that lies about its length", post("/queue/move", _JSON + b"Transfer-Encoding: chunked\r\n", b"2\r\nabcdef\r\n0\r\n\r\n"), 400, "invalid_request", _NO_HTTP),
    http("chunks of more than the limit, 2 MiB", post("/tokens", _JSON + b"Transfer-Encoding: chunked\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n") + (b"10000\r\n" + b" " * 65536 + b"\r\n") * 31, 413, "too_large", "send less at once"),
    http("half a body, and no more", post("/queue/move", _JSON + b"Content-Length: 100\r\n", b'{"id"'), 0, "", "", end=True),
    http("half a request line, and no more", b"GET /heal", 0, "", "", end=True),
    http("half the headers, and no more", b"GET /healthz HTTP/1.1\r\nHost: x\r\nAuth", 0, "", "", end=True),
    http("a method that nobody knows", b"STEAL /api/v1/secrets HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer TOKEN\r\n\r\n", 405, "invalid_request", "does not take this method"),
    http("TRACE", b"TRACE /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer TOKEN\r\n\r\n", 405, "invalid_request", "does not take this method"),
    http("CONNECT to another machine", b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "not_found", "There is no such address"),
    http("a whole address of another machine", b"GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "not_found", "There is no such address"),
    http("the beginning of HTTP/2", b"PRI * HTTP/2.0\r\nConnection: close\r\n\r\nSM\r\n\r\n", 404, "not_found", "There is no such address"),
    http("an upgrade to a web socket", b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n", 401, "access_denied", "No valid token"),
    http("two requests at once, the second of another's (request smuggling)", post("/queue/move", _JSON + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nX"), 422, "invalid_request", "body: Field required"),
)  # fmt: skip

_TOKEN = "No valid token: set RUNYARD_TOKEN"


def token(what: str, header: str | None) -> Case:
    """A header Authorization that speaks for nobody."""
    headers = {} if header is None else {"Authorization": header}
    return asked("token", what, "GET", "/secrets", 401, "access_denied", _TOKEN, token=None, headers=headers)


TOKENS = (
    token("none", None),
    token("an empty header", ""),
    token("the scheme alone", "Bearer"),
    token("the scheme and a space", "Bearer "),
    token("another's scheme", "Digest username=root"),
    token("Basic that is no Base64", "Basic %%%"),
    token("Basic without a colon", "Basic " + base64.b64encode(b"root").decode()),
    token("Basic with bytes that are no UTF-8", "Basic " + base64.b64encode(b"a:\xff\xfe").decode()),
    token("of 60,000 letters", "Bearer " + "x" * 60_000),
    token("of another form", "Bearer ryd_' OR 1=1 --"),
    token("of bytes above ASCII", "Bearer \xff\xfe\xfd"),
    token("a digest in the place of the token", "Bearer " + "0" * 64),
    asked("token", "a node's, where members go", "GET", "/secrets", 403, "access_denied", "does not reach so far", token="node"),
    asked("token", "a member's, where nodes go", "POST", "/node/facts", 403, "access_denied", "for nodes", body=b"[]"),
    asked("token", "made without end: 10^9 days", "POST", "/tokens", 422, "invalid_request", "less than or equal to 36500", body={"expires_in_days": 10**9}),
    asked("token", "made with NaN days", "POST", "/tokens", 422, "invalid_request", "expires_in_days", body=b'{"expires_in_days": NaN}', headers={"Content-Type": "application/json"}),
    asked("token", "made with a scope of one's own", "POST", "/tokens", 422, "invalid_request", "scope", body={"scope": "root"}),
)  # fmt: skip

RUN = "/training-runs/training-aaaaaaaaa"


def odd(what: str, method: str, path: str, status: int, code: str, words: str, **more: object) -> Case:
    """A parameter that makes no sense."""
    return asked("parameter", what, method, path, status, code, words, **more)


def json_text(text: bytes) -> dict[str, object]:
    """A JSON body as it stands."""
    return {"body": text, "headers": {"Content-Type": "application/json"}}


PARAMETERS = (
    odd("an id of 60,000 letters", "GET", "/training-runs/" + "x" * 60_000, 404, "not_found", "There is no training run"),
    odd("an id with NUL", "GET", "/training-runs/a%00b", 404, "not_found", "There is no training run"),
    odd("an id that leads out", "GET", "/training-runs/..%2f..%2fetc", 404, "not_found", "There is no such address: /api/openapi.json lists those that there"),
    odd("an id with SQL in it", "GET", "/training-runs/' OR 1=1 --".replace(" ", "%20"), 404, "not_found", "There is no training run"),
    odd("an id of wildcards", "GET", "/training-runs/training-%25", 404, "not_found", "There is no training run"),
    odd("last-10^30", "GET", "/training-runs/last-" + "9" * 30, 404, "not_found", "is no selector: write `last`"),
    odd("a cursor of one's own", "GET", "/training-runs?cursor=abc", 422, "invalid_request", "The cursor is not one"),
    odd("a cursor below 0", "GET", "/training-runs?cursor=-1", 422, "invalid_request", "The cursor is not one"),
    odd("a cursor of 5,000 digits", "GET", "/training-runs?cursor=" + "9" * 5000, 422, "invalid_request", "The cursor is not one"),
    odd("a limit of 0", "GET", "/training-runs?limit=0", 422, "invalid_request", "limit"),
    odd("a limit of 10^9", "GET", "/training-runs?limit=1000000000", 422, "invalid_request", "limit"),
    odd("a limit of 5,000 digits", "GET", "/training-runs?limit=" + "9" * 5000, 422, "invalid_request", "limit"),
    odd("a state that is none", "GET", "/training-runs?state=sleeping", 422, "invalid_request", "state"),
    odd("events after -1", "GET", "/events?after=-1", 422, "invalid_request", "after"),
    odd("events after 2^63", "GET", "/events?after=9223372036854775808", 422, "invalid_request", "after"),
    odd("Last-Event-ID that is no number", "GET", "/events", 422, "invalid_request", "Last-Event-ID", headers={"Accept": "text/event-stream", "Last-Event-ID": "x;y"}),
    odd("Last-Event-ID of 40,000 digits", "GET", "/events", 422, "invalid_request", "Last-Event-ID", headers={"Accept": "text/event-stream", "Last-Event-ID": "9" * 40_000}),
    odd("Last-Event-ID below 0", "GET", "/events", 422, "invalid_request", "Last-Event-ID", headers={"Accept": "text/event-stream", "Last-Event-ID": "-5"}),
    odd("the log of a run of nobody", "GET", RUN + "/logs", 404, "not_found", "There is no training run"),
    odd("a log from a negative offset", "GET", RUN + "/logs?offset=-1", 422, "invalid_request", "offset"),
    odd("a log from beyond all files", "GET", RUN + "/logs?offset=99999999999999999999", 422, "invalid_request", "offset"),
    odd("a log of learner 10^12", "GET", RUN + "/logs?learner=1000000000000", 422, "invalid_request", "learner"),
    odd("metrics with a limit of 1", "GET", RUN + "/metrics?limit=1", 422, "invalid_request", "limit"),
    odd("metrics as poems", "GET", RUN + "/metrics?format=poem", 422, "invalid_request", "`format` is json or csv"),
    odd("the bill since never", "GET", "/usage?since=never", 422, "invalid_request", "ISO 8601"),
    odd("the bill since the year 99999", "GET", "/usage?since=99999-01-01", 422, "invalid_request", "ISO 8601"),
    odd("the bill by wishes", "GET", "/usage?by=wishes", 409, "refused", "by account, user, day or tag"),
    odd("a priority of 10^30", "PATCH", RUN, 422, "invalid_request", "priority", body={"priority": 10**30}),
    odd("a priority of true", "PATCH", RUN, 422, "invalid_request", "priority", body={"priority": "high"}),
    odd("a position of 0", "POST", "/queue/move", 422, "invalid_request", "position", body={"id": "last", "position": 0}),
    odd("a position of 1e400", "POST", "/queue/move", 422, "invalid_request", "position", **json_text(b'{"id": "last", "position": 1e400}')),
    odd("an id of half a character", "POST", "/queue/move", 404, "not_found", "There is no training run \ud800: `runyard list` shows those that there are", **json_text(b'{"id": "\\ud800", "position": 1}')),
    odd("a field of half a character", "POST", "/queue/move", 422, "invalid_request", "body: Input should be a valid string, unable to parse raw data as a", **json_text(b'{"\\ud800": 1}')),
    odd("100,000 unknown fields", "POST", "/tokens", 422, "invalid_request", "Extra inputs", **json_text(b"{" + b",".join(b'"f%d":1' % n for n in range(90_000)) + b"}")),
    odd("JSON nested 100,000 levels deep", "POST", "/tokens", 400, "invalid_request", "could not be read", **json_text(b"[" * 100_000)),
    odd("a number of 100,000 digits", "POST", "/tokens", 400, "invalid_request", "could not be read", **json_text(b'{"expires_in_days": ' + b"9" * 100_000 + b"}")),
    odd("JSON said to be XML", "POST", "/tokens", 422, "invalid_request", "body: Input should be a valid dictionary or object to extract fields", body=b'{"name": "x"}', headers={"Content-Type": "application/xml"}),
    odd("a form in the place of JSON", "POST", "/tokens", 422, "invalid_request", "body: Input should be a valid dictionary or object to extract fields", body=b"name=x", headers={"Content-Type": "application/x-www-form-urlencoded"}),
    odd("JSON in UTF-16", "POST", "/tokens", 422, "invalid_request", "body.name: Input should be a valid string", body='{"name": 7}'.encode("utf-16"), headers={"Content-Type": "application/json"}),
    odd("a quota of -1", "PUT", "/quota/default", 422, "invalid_request", "gpus", body={"gpus": -1}),
    odd("a quota for an account of nobody", "PUT", "/quota/nobody", 404, "not_found", "nobody", body={"gpus": 1}),
    odd("a weight of NaN", "PUT", "/quota/default/share", 422, "invalid_request", "weight", **json_text(b'{"weight": NaN}')),
    odd("a window without hours", "PUT", "/quota/default/share", 409, "refused", "is no start window: write HH:MM-HH:MM", body={"window": "25:00-99:99"}),
    odd("a budget of Infinity", "PUT", "/quota/default/budget", 422, "invalid_request", "body.gpu_hours: Input should be a finite number", **json_text(b'{"per": "week", "gpu_hours": Infinity}')),
    odd("a budget of money in words", "PUT", "/quota/default/budget", 422, "invalid_request", "money", body={"per": "week", "money": "a lot"}),
    odd("a secret named PATH=x", "PUT", "/secrets/PATH%3Dx", 422, "invalid_request", "'PATH=x' cannot be an environment variable: use letters, digits and", body={"value": "x"}),
    odd("a secret with NUL", "PUT", "/secrets/MINE", 422, "invalid_request", "no NUL", body={"value": "a\0b"}),
    odd("a secret of half a character", "PUT", "/secrets/MINE", 422, "invalid_request", "The value holds half characters (surrogates): send UTF-8", **json_text(b'{"value": "\\ud800"}')),
    odd("a secret of 65,537 bytes", "PUT", "/secrets/MINE", 422, "invalid_request", "1 to 65536 bytes", body={"value": "x" * 65_537}),
    odd("a secret without a value", "PUT", "/secrets/MINE", 422, "invalid_request", "1 to 65536 bytes", body={"value": ""}),
    odd("a connection named ../x", "POST", "/connections", 422, "invalid_request", "name", body={"name": "../x"}),
    odd("a connection with half its keys", "POST", "/connections", 422, "invalid_request", "both access_key_id", body={"name": "x", "access_key_id": "a"}),
    odd("a framework of a path that leads out", "POST", "/frameworks", 422, "invalid_request", "A framework is registered as NAME or NAME:VERSION, of letters,", body={"name": "../x", "python": "/opt/env"}),
    odd("a cache command that is none", "POST", "/cache", 422, "invalid_request", "action", body={"action": "burn"}),
    odd("250,001 ids to cancel", "POST", "/training-runs/cancel", 422, "invalid_request", "250000", body={"runs": ["a"] * 250_001}),
    odd("four million nulls to cancel", "POST", "/training-runs/cancel", 422, "invalid_request", "Expected `str`", **json_text(b'{"runs": [' + b"null," * 1_600_000 + b"1]}")),
    odd("a template of another kind", "GET", "/manifests/template?kind=../../etc/passwd", 404, "not_found", "There is no template of this name: known here: experiments,"),
    odd("an address that leads out", "GET", "//../../../etc/passwd", 404, "not_found", "There is no such address"),
)  # fmt: skip


def at_once(yard: Yard, key: str, bodies: list[bytes]) -> list[Answer]:
    """Submissions at the same moment with one idempotency key."""
    answers: list[Answer] = []
    start = threading.Barrier(len(bodies))

    def send(body: bytes) -> None:
        start.wait()
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        answers.append(yard.call("POST", "/training-runs", body, headers=headers))

    threads = [threading.Thread(target=send, args=(body,)) for body in bodies]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return answers


def one_key(same: bool) -> Send:
    """Eight submissions at once with one key, the bodies all the same or all different: one is kept, once."""

    def send(yard: Yard) -> Answer:
        bodies = [
            json.dumps({"manifest": GOOD, "overrides": {"name": "n" if same else f"n{n}"}}).encode() for n in range(8)
        ]
        answers = at_once(yard, f"key-{same}", bodies)
        accepted = [each for each in answers if each.status == 201]
        ids = {tuple(each.json()["ids"]) for each in accepted}
        assert len(ids) == 1, ids
        assert len(accepted) == (8 if same else 1), [each.status for each in answers]
        assert sum(not each.json()["replayed"] for each in accepted) == 1
        refused = [each for each in answers if each.status != 201]
        return (accepted if same else refused)[0]

    return send


def replayed(yard: Yard) -> Answer:
    """The same key for another body, later."""
    headers = {"Idempotency-Key": "once", "Content-Type": "application/json"}
    body = json.dumps({"manifest": GOOD}).encode()
    assert yard.call("POST", "/training-runs", body, headers=headers).status == 201
    assert yard.call("POST", "/training-runs", body, headers=headers).json()["replayed"]
    return yard.call("POST", "/training-runs", body + b" ", headers=headers)


ONE = "one run, once"
KEYS = (
    Case("idempotency", "8 times the same request at once with one key", one_key(True), 201, "", "ids", kept=ONE),
    Case("idempotency", "8 different requests at once with one key", one_key(False), 409, "idempotency_conflict", "The idempotency key 'key-False' was used for another request: send", kept=ONE),
    Case("idempotency", "a key again, for another body", replayed, 409, "idempotency_conflict", "The idempotency key 'once' was used for another request: send the", kept=ONE),
    odd("an idempotency key of 201 letters", "POST", "/training-runs", 422, "invalid_request", "idempotency-key", body={"manifest": GOOD}, headers={"Idempotency-Key": "k" * 201}),
)  # fmt: skip
CASES = (*HTTP, *TOKENS, *PARAMETERS, *KEYS)
