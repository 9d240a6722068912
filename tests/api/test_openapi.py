"""The description of the API: valid, in step with the page, and with a call of the client for every route."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from runyard.api import node, node_metrics, node_reading
from runyard.client import Client, ClientError, Limits, Submission, WhichLog
from tests.api.serving import Api

DOCS = Path(__file__).parents[2] / "docs" / "api.md"
ROOT = "/api/v1"
RUN = "training-000000000"
SHA = "a" * 64
METHODS = {"get", "put", "post", "patch", "delete", "head"}


def plain(path: str) -> str:
    """A path whose parameters have no name."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def described(api: Api) -> set[tuple[str, str]]:
    """Method and path of every operation."""
    return {
        (method.upper(), plain(path.removeprefix(ROOT)))
        for path, item in api.app.openapi()["paths"].items()
        for method in item
        if method in METHODS
    }


def told_on_the_page() -> set[tuple[str, str]]:
    """Method and path of every operation in the table of docs/api.md."""
    found = {("GET", "/healthz")}
    for line in DOCS.read_text().splitlines():
        cell = re.split(r"(?<!\\)\|", line)[1] if line.startswith("| ") else ""
        methods, fresh = list[str](), True
        for word in re.findall(r"`/[^`]*`|[A-Z]{3,6}(?=[ ,]|$)", cell):
            if word.startswith("`"):
                path = plain(word.strip("`").partition("?")[0])
                found |= {(method, path) for method in methods}
                fresh = True
            else:
                methods, fresh = ([word], False) if fresh else ([*methods, word], False)
    return found


def test_every_route_is_on_the_page_and_none_that_is_not_there(api: Api) -> None:
    assert told_on_the_page() == described(api)


def test_the_routes_of_machines_are_on_the_page_too() -> None:
    text = plain(DOCS.read_text())
    for route in (*node.router.routes, *node_metrics.router.routes, *node_reading.router.routes):
        path = plain(getattr(route, "path", "")).removeprefix("/node/")
        assert path.split("/")[0] in text
        assert path in text or path.replace("{}/{}/{}", "{}/{}/{}") in text, path


def references(value: Any) -> Iterator[str]:
    """Every ``$ref`` in a document."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_description_holds_together(api: Api) -> None:
    document = api.call("GET", "//api/openapi.json", token=None).json()
    assert document["openapi"].startswith("3.")
    assert document["info"]["title"] == "Runyard"
    schemas = document["components"]["schemas"]
    assert {each.removeprefix("#/components/schemas/") for each in references(document)} <= set(schemas)
    names = list[str]()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            names.append(operation["operationId"])
            assert operation["responses"], (method, path)
            assert operation["summary"], (method, path)
            wanted = set(re.findall(r"\{([^}]*)\}", path))
            given = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert given == wanted, (method, path)
    assert len(set(names)) == len(names)
    assert not any("/node/" in path for path in document["paths"])


CALLS: dict[tuple[str, str], Callable[[Client], object]] = {
    ("GET", "/healthz"): lambda c: c.healthy(),
    ("GET", "/status"): lambda c: c.status(),
    ("HEAD", "/definitions/{}"): lambda c: c.has_definition(SHA),
    ("PUT", "/definitions/{}"): lambda c: c.upload_definition(Path(__file__), SHA),
    ("GET", "/definitions/{}"): lambda c: _read(c.read_definition(SHA)),
    ("POST", "/training-runs"): lambda c: c.submit(Submission("x")),
    ("GET", "/training-runs"): lambda c: list(c.runs()),
    ("GET", "/training-runs/{}"): lambda c: c.run(RUN),
    ("POST", "/training-runs/{}/cancel"): lambda c: c.cancel(RUN),
    ("POST", "/training-runs/cancel"): lambda c: c.cancel_many([RUN]),
    ("DELETE", "/training-runs/{}"): lambda c: c.delete(RUN),
    ("GET", "/training-runs/{}/logs"): lambda c: c.log(RUN, WhichLog()),
    ("GET", "/training-runs/{}/metrics"): lambda c: c.metrics(RUN),
    ("GET", "/training-runs/{}/events"): lambda c: c.history(RUN),
    ("GET", "/training-runs/{}/explain"): lambda c: c.explain(RUN),
    ("GET", "/training-runs/{}/results"): lambda c: c.results(RUN),
    ("GET", "/training-runs/{}/results/{}"): lambda c: _read(c.read_result(RUN, "model/a")),
    ("GET", "/events"): lambda c: next(iter(c.events(0))),
    ("GET", "/queue"): lambda c: c.queue(),
    ("POST", "/queue/pause"): lambda c: c.pause_queue(),
    ("POST", "/queue/resume"): lambda c: c.resume_queue(),
    ("POST", "/queue/move"): lambda c: c.move(RUN, 1),
    ("GET", "/quota"): lambda c: c.quota(),
    ("GET", "/retention/{}"): lambda c: c.retention("other"),
    ("PUT", "/retention/{}"): lambda c: c.set_retention("other", logs=30.0),
    ("GET", "/disk"): lambda c: c.disk("run"),
    ("POST", "/gc"): lambda c: c.gc(dry_run=True),
    ("GET", "/quota/{}"): lambda c: c.quota("other"),
    ("PUT", "/quota/{}/share"): lambda c: c.set_share("other", weight=2.0),
    ("PUT", "/quota/{}/budget"): lambda c: c.set_budget("other", "week", gpu_hours=1.0),
    ("DELETE", "/quota/{}/budget"): lambda c: c.remove_budget("other"),
    ("GET", "/nodes"): lambda c: c.nodes(),
    ("POST", "/nodes/{}/drain"): lambda c: c.drain("n1", preempt=True),
    ("POST", "/nodes/{}/resume"): lambda c: c.resume_node("n1"),
    ("PATCH", "/training-runs/{}"): lambda c: c.set_priority(RUN, 60),
    ("PUT", "/quota/{}"): lambda c: c.set_quota("other", {"gpus": 1}),
    ("GET", "/usage"): lambda c: c.usage(),
    ("GET", "/data"): lambda c: c.buckets(),
    ("GET", "/data/{}"): lambda c: list(c.objects("bucket")),
    ("DELETE", "/data/{}"): lambda c: c.delete_objects("bucket", "a/"),
    ("PUT", "/data/{}/{}"): lambda c: c.put_object("bucket", "a/b", Path(__file__)),
    ("GET", "/data/{}/{}"): lambda c: _read(c.read_object("bucket", "a/b")),
    ("HEAD", "/data/{}/{}"): lambda c: c.has_object("bucket", "a/b"),
    ("DELETE", "/data/{}/{}"): lambda c: c.delete_object("bucket", "a/b"),
    ("GET", "/cache"): lambda c: c.caches(),
    ("POST", "/cache"): lambda c: c.change_caches("clear"),
    ("GET", "/connections"): lambda c: c.connections(),
    ("POST", "/connections"): lambda c: c.add_connection("archive", type="s3"),
    ("DELETE", "/connections/{}"): lambda c: c.remove_connection("archive"),
    ("GET", "/secrets"): lambda c: c.secrets(),
    ("PUT", "/secrets/{}"): lambda c: c.put_secret("MINE", "x"),
    ("DELETE", "/secrets/{}"): lambda c: c.remove_secret("MINE"),
    ("GET", "/tokens"): lambda c: c.tokens(),
    ("POST", "/tokens"): lambda c: c.add_token("mine"),
    ("DELETE", "/tokens/{}"): lambda c: c.remove_token("t"),
    ("GET", "/frameworks"): lambda c: c.frameworks(),
    ("POST", "/frameworks"): lambda c: c.add_framework("mine", python="/opt/env"),
    ("DELETE", "/frameworks/{}"): lambda c: c.remove_framework("mine", "1.0"),
    ("GET", "/frameworks/{}/versions"): lambda c: c.framework_versions("keras"),
    ("GET", "/accounts"): lambda c: c.accounts(),
    ("POST", "/accounts"): lambda c: c.add_account("a"),
    ("GET", "/accounts/{}"): lambda c: c.account("a"),
    ("PUT", "/accounts/{}"): lambda c: c.set_account("a", plan="free"),
    ("DELETE", "/accounts/{}"): lambda c: c.remove_account("a"),
    ("GET", "/accounts/{}/members"): lambda c: c.members("a"),
    ("POST", "/accounts/{}/members"): lambda c: c.add_member("a", "mia"),
    ("PUT", "/accounts/{}/members/{}"): lambda c: c.set_role("a", "mia", "user"),
    ("DELETE", "/accounts/{}/members/{}"): lambda c: c.remove_member("a", "mia"),
    ("PUT", "/accounts/{}/members/{}/password"): lambda c: c.set_password("a", "mia", "x"),
    ("POST", "/login"): lambda c: c.login("a", "mia", "x"),
    ("POST", "/login/oidc"): lambda c: c.begin_login(5000),
    ("POST", "/login/oidc/finish"): lambda c: c.finish_login("x"),
    ("GET", "/plans"): lambda c: c.plans(),
    ("PUT", "/plans/{}"): lambda c: c.set_plan("team", {"gpus": 1}),
    ("DELETE", "/plans/{}"): lambda c: c.remove_plan("team"),
    ("GET", "/audit"): lambda c: list(c.audit()),
    ("POST", "/secrets/rotate-key"): lambda c: c.rotate_key(),
    ("GET", "/manifests/template"): lambda c: c.manifest_template(),
    ("POST", "/manifests/check"): lambda c: c.check(Submission("x")),
    ("POST", "/manifests/convert"): lambda c: c.convert_manifest("x"),
    ("GET", "/manifests/schema"): lambda c: c.manifest_schema(),
}
"""Which call of the client makes which request."""


def _read(opened: Any) -> bytes:
    with opened as stream:
        return b"".join(stream.chunks())


@pytest.fixture(scope="module")
def heard() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server that notes method and path of each request and answers 404."""
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            seen.append((self.command, self.path.partition("?")[0]))
            BytesIO(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_route_has_a_call_of_the_client(api: Api) -> None:
    assert set(CALLS) == described(api)


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_the_call_makes_that_request(heard: tuple[str, list[tuple[str, str]]], method: str, path: str) -> None:
    url, seen = heard
    seen.clear()
    with Client(url=url, token="t", limits=Limits(tries=1)) as client:
        try:
            CALLS[method, path](client)
        except (ClientError, StopIteration):
            pass  # the server says 404 to everything
    shape = re.escape(("" if path == "/healthz" else ROOT) + path).replace(r"\{\}", ".+")
    assert any(m == method and re.fullmatch(shape, p) for m, p in seen), seen


@pytest.mark.parametrize("number", [True, "1"])
@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/tokens", {}, "expires_in_days"),
        ("PUT", "/quota/acme", {}, "gpus"),
        ("PUT", "/retention/acme", {}, "logs"),
        ("PUT", "/plans/small", {}, "weight"),
        ("PUT", "/quota/acme/share", {}, "weight"),
        ("POST", "/queue/move", {"id": "last"}, "position"),
        ("POST", "/gc", {}, "after"),
    ],
)
def test_nothing_but_a_number_is_one(
    api: Api, method: str, path: str, body: dict[str, Any], field: str, number: object
) -> None:
    answer = api.call(method, path, {**body, field: number})
    assert (answer.status, answer.code) == (422, "invalid_request"), answer.body
    assert field in answer.body.decode()


def test_who_needs_a_token_is_described(api: Api) -> None:
    document = api.app.openapi()
    for path, item in document["paths"].items():
        method, operation = next(iter(item.items()))
        if "{" in path or method != "post":
            continue
        answer = api.call(method.upper(), path.removeprefix(ROOT), {}, token=None)
        assert (answer.status == 401) == ("security" in operation), (path, answer.status)
