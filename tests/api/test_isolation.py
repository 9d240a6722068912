"""Nothing of another account can be seen, changed or guessed: generated from the description of the API.

Every operation has a recipe here: which objects of account A its requests name. Each is made by account B, in each
role: the answer is 404, the same as for what is not there; 403 where the role reaches no such end-point at all; or it
holds nothing of A's. An operation without a recipe fails the test.
"""

import hashlib
import http.client
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import event

from runyard.api.doorkeeper import token_digest
from runyard.api.throttle import Throttle
from runyard.api.tokens import new_token
from runyard.core.account import Account, Role, Scope
from runyard.ports.accounts import TokenRecord
from runyard.wire import facts
from tests.api.serving import MANIFEST, Answer, Api, Machine
from tests.api.test_openapi import described

MARK = "belongs-to-a"
"""In every name and content of account A."""
ABSENT = "belongs-to-n"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A request about one object: ``path`` and ``body`` take the words of :class:`Theirs`. ``sees``: it names nothing
    of A's, and its answer must hold nothing of A's. ``answers``: besides 403, to a stranger."""

    path: str
    body: Any = None
    sees: bool = False
    answers: tuple[int, ...] = (404,)
    accept: str = "application/json"


ONE = "/training-runs/{run}"
RECIPES: dict[tuple[str, str], list[Recipe]] = {
    ("GET", "/healthz"): [Recipe("//healthz", sees=True)],
    ("GET", "/status"): [Recipe("/status", sees=True)],
    ("HEAD", "/definitions/{}"): [Recipe("/definitions/{sha}")],
    ("PUT", "/definitions/{}"): [Recipe("/definitions/{sha}", b"no such content", answers=(422,))],
    ("GET", "/definitions/{}"): [Recipe("/definitions/{sha}")],
    ("POST", "/training-runs"): [
        Recipe("/training-runs", {"manifest": MANIFEST, "definition": "{sha}"}),
        Recipe("/training-runs", {"manifest": MANIFEST, "overrides": {"after": ["{run}"]}}, answers=(404, 409)),
        Recipe("/training-runs", {"manifest": MANIFEST + "runyard: {start_from: {run}}\n"}, answers=(404, 409)),
        Recipe("/training-runs", {"manifest": MANIFEST + "runyard: {secrets: [{secret}]}\n"}, answers=(404, 409)),
        Recipe(
            "/training-runs",
            {"manifest": MANIFEST.replace("type: local\n", "type: s3\n  connection: {name: {connection}}\n")},
        ),
    ],
    ("GET", "/training-runs"): [Recipe("/training-runs", sees=True), Recipe("/training-runs?tag={tag}", sees=True)],
    ("GET", "/training-runs/{}"): [Recipe(ONE), Recipe("/training-runs/{start}")],
    ("PATCH", "/training-runs/{}"): [Recipe(ONE, {"priority": 60})],
    ("PUT", "/quota/{}/share"): [Recipe("/quota/{account}/share", {"weight": 2}, answers=(403,))],
    ("PUT", "/quota/{}/budget"): [Recipe("/quota/{account}/budget", {"per": "week", "gpu_hours": 1}, answers=(403,))],
    ("DELETE", "/quota/{}/budget"): [Recipe("/quota/{account}/budget", answers=(403,))],
    ("GET", "/nodes"): [Recipe("/nodes", sees=True)],
    ("POST", "/nodes/{}/drain"): [Recipe("/nodes/local/drain", {}, answers=(403,))],
    ("POST", "/nodes/{}/resume"): [Recipe("/nodes/local/resume", {}, answers=(403,))],
    ("POST", "/training-runs/{}/cancel"): [Recipe(ONE + "/cancel")],
    ("POST", "/training-runs/cancel"): [
        Recipe("/training-runs/cancel", {"runs": ["{run}", "tag:{tag}"]}, sees=True, answers=(202,))
    ],
    ("DELETE", "/training-runs/{}"): [Recipe(ONE), Recipe(ONE + "?with_results=true")],
    ("GET", "/training-runs/{}/logs"): [
        Recipe(ONE + "/logs"),
        Recipe(ONE + "/logs?follow=true"),
        Recipe(ONE + "/logs", accept="text/event-stream"),
        Recipe(ONE + "/logs", accept="application/vnd.runyard.log"),
    ],
    ("GET", "/training-runs/{}/metrics"): [
        Recipe(ONE + "/metrics"),
        Recipe(ONE + "/metrics?format=csv"),
        Recipe(ONE + "/metrics", accept="text/event-stream"),
    ],
    ("GET", "/training-runs/{}/events"): [Recipe(ONE + "/events")],
    ("GET", "/training-runs/{}/explain"): [Recipe(ONE + "/explain")],
    ("GET", "/training-runs/{}/results"): [Recipe(ONE + "/results")],
    ("GET", "/training-runs/{}/results/{}"): [Recipe(ONE + "/results/model")],
    ("GET", "/events"): [Recipe("/events?after=0&limit=1000", sees=True)],
    ("GET", "/queue"): [Recipe("/queue", sees=True)],
    ("POST", "/queue/pause"): [Recipe("/queue/pause", {"all": True}, answers=(403,))],
    ("POST", "/queue/resume"): [Recipe("/queue/resume", {}, sees=True)],
    ("POST", "/queue/move"): [Recipe("/queue/move", {"id": "{run}", "position": 1})],
    ("GET", "/quota"): [Recipe("/quota", sees=True)],
    ("GET", "/quota/{}"): [Recipe("/quota/{account}")],
    ("PUT", "/quota/{}"): [Recipe("/quota/{account}", {"gpus": 9}, answers=(403,))],
    ("GET", "/retention/{}"): [Recipe("/retention/{account}")],
    ("PUT", "/retention/{}"): [Recipe("/retention/{account}", {"logs": 1}, answers=(403,))],
    ("GET", "/disk"): [Recipe(f"/disk?by={by}", sees=True) for by in ("account", "run", "kind")],
    ("POST", "/gc"): [Recipe("/gc", {"dry_run": True}, answers=(403,))],
    ("GET", "/usage"): [Recipe(f"/usage?by={by}", sees=True) for by in ("account", "user", "day", "tag")],
    ("GET", "/data"): [Recipe("/data", sees=True)],
    ("GET", "/data/{}"): [Recipe("/data/{bucket}")],
    ("DELETE", "/data/{}"): [Recipe("/data/{bucket}", sees=True, answers=(204,))],
    ("PUT", "/data/{}/{}"): [Recipe("/data/own/{bucket}", b"x", sees=True, answers=(201,))],
    ("GET", "/data/{}/{}"): [
        Recipe("/data/{bucket}/{bucket}"),
        Recipe("/data/{bucket}/..%2f..%2f{account}%2fx", answers=(404, 422)),
    ],
    ("HEAD", "/data/{}/{}"): [Recipe("/data/{bucket}/{bucket}")],
    ("DELETE", "/data/{}/{}"): [Recipe("/data/{bucket}/{bucket}")],
    ("GET", "/cache"): [Recipe("/cache", sees=True)],
    ("POST", "/cache"): [Recipe("/cache", {"action": "clear", "bucket": "{bucket}"}, answers=(403,))],
    ("GET", "/connections"): [Recipe("/connections", sees=True)],
    ("POST", "/connections"): [Recipe("/connections", {"name": "own", "type": "volume", "path": "/x"}, True, (201,))],
    ("DELETE", "/connections/{}"): [Recipe("/connections/{connection}")],
    ("GET", "/secrets"): [Recipe("/secrets", sees=True)],
    ("PUT", "/secrets/{}"): [Recipe("/secrets/OWN", {"value": "b"}, sees=True)],
    ("DELETE", "/secrets/{}"): [Recipe("/secrets/{secret}")],
    ("POST", "/secrets/rotate-key"): [Recipe("/secrets/rotate-key", {}, answers=(403,))],
    ("GET", "/tokens"): [Recipe("/tokens", sees=True)],
    ("POST", "/tokens"): [Recipe("/tokens", {"scope": "admin"}, answers=(403,))],
    ("DELETE", "/tokens/{}"): [Recipe("/tokens/{token}")],
    ("GET", "/frameworks"): [Recipe("/frameworks", sees=True)],
    ("POST", "/frameworks"): [Recipe("/frameworks", {"name": "own", "python": "/opt/x"}, True, (201,))],
    ("DELETE", "/frameworks/{}"): [Recipe("/frameworks/{framework}")],
    ("GET", "/frameworks/{}/versions"): [Recipe("/frameworks/{framework}/versions", sees=True, answers=(404, 409))],
    ("GET", "/accounts"): [Recipe("/accounts", sees=True)],
    ("POST", "/accounts"): [Recipe("/accounts", {"id": "{account}"}, answers=(403,))],
    ("GET", "/accounts/{}"): [Recipe("/accounts/{account}")],
    ("PUT", "/accounts/{}"): [Recipe("/accounts/{account}", {"name": "x"}, answers=(403,))],
    ("DELETE", "/accounts/{}"): [Recipe("/accounts/{account}", answers=(403,))],
    ("GET", "/accounts/{}/members"): [Recipe("/accounts/{account}/members")],
    ("POST", "/accounts/{}/members"): [Recipe("/accounts/{account}/members", {"name": "spy"})],
    ("PUT", "/accounts/{}/members/{}"): [Recipe("/accounts/{account}/members/{member}", {"role": "viewer"})],
    ("DELETE", "/accounts/{}/members/{}"): [Recipe("/accounts/{account}/members/{member}")],
    ("PUT", "/accounts/{}/members/{}/password"): [
        Recipe("/accounts/{account}/members/{member}/password", {"password": "a long password"})
    ],
    ("POST", "/login"): [
        Recipe("/login", {"account": "{account}", "member": "{member}", "password": "guess"}, answers=(401, 429))
    ],
    ("POST", "/login/oidc"): [Recipe("/login/oidc", {"redirect_port": 5000})],  # off: test_login_oidc.py has it on
    ("POST", "/login/oidc/finish"): [Recipe("/login/oidc/finish", {"login": "guess", "state": "{member}"})],
    ("GET", "/plans"): [Recipe("/plans", sees=True)],
    ("PUT", "/plans/{}"): [Recipe("/plans/free", {}, answers=(403,))],
    ("DELETE", "/plans/{}"): [Recipe("/plans/free", answers=(403,))],
    ("GET", "/audit"): [Recipe("/audit?since=2999-01-01", sees=True), Recipe("/audit?account={account}")],
    ("GET", "/manifests/template"): [Recipe("/manifests/template", sees=True)],
    ("POST", "/manifests/check"): [
        Recipe("/manifests/check", {"manifest": MANIFEST, "overrides": {"after": ["{run}"]}}, answers=(404, 409)),
        Recipe("/manifests/check", {"manifest": MANIFEST, "definition": "{sha}"}),
    ],
    ("POST", "/manifests/convert"): [Recipe("/manifests/convert", {"manifest": MANIFEST}, sees=True)],
    ("GET", "/manifests/schema"): [Recipe("/manifests/schema", sees=True)],
}
ROLES = [role.value for role in Role if role is not Role.admin]
"""Of account B: an administrator's token is the installation's, and the next test is about that."""


@dataclass(slots=True)
class Theirs:
    """The names of what account A has, and of the like that nobody has."""

    there: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def add_token(api: Api, name: str, scope: Scope, account: str, member: str, node: str | None = None) -> None:
    api.tokens[name] = new_token()
    digest, now = token_digest(api.tokens[name]), api.context.world.clock.now_ms()
    record = TokenRecord(name, digest, api.tokens[name][:8], scope, account, member, name, now, node_id=node)
    api.context.world.store.add_token(record)


@pytest.fixture(scope="module")
def theirs(api: Api, machine: Machine) -> Theirs:
    """Account A with one of everything, account B with a member of each role, and the names of what A has."""
    store = api.context.world.store
    store.add_account(Account(f"{MARK}-acc", MARK))
    member = store.add_member(f"{MARK}-acc", f"{MARK}-mia", Role.manager)
    add_token(api, f"{MARK}-tok", Scope.member, member.account_id, member.id)
    store.add_account(Account("b", "b"))
    for role in ROLES:
        add_token(api, role, Scope.member, "b", store.add_member("b", role, Role(role)).id)
    a = f"{MARK}-tok"
    content = f"PK{MARK}".encode()
    sha = hashlib.sha256(content).hexdigest()
    assert api.call("PUT", f"/definitions/{sha}", content, token=a).status == 201
    assert api.call("PUT", f"/data/{MARK}/{MARK}", b"x", token=a).status == 201
    connection = {"name": MARK, "type": "s3", "access_key_id": "AKIA1234", "secret_access_key": "s3cr3t"}
    assert api.call("POST", "/connections", connection, token=a).status == 201
    assert api.call("PUT", "/secrets/BELONGS_TO_A", {"value": "s3cr3t"}, token=a).status == 200
    assert api.call("POST", "/frameworks", {"name": MARK, "python": "/opt/a"}, token=a).status == 201
    run = machine.started(token=a, manifest=MANIFEST.replace("digits", MARK), overrides={"tags": [MARK]})
    machine.print(run, 0, f"{MARK}\n".encode())
    there = {
        "run": run, "start": run[:-2], "sha": sha, "bucket": MARK, "connection": MARK, "secret": "BELONGS_TO_A",
        "framework": MARK, "account": f"{MARK}-acc", "member": f"{MARK}-mia", "token": a, "tag": MARK,
    }  # fmt: skip
    absent = {
        "run": "training-zzzzzzzzz", "start": "training-zzzzzzz", "sha": "e" * 64, "bucket": ABSENT,
        "connection": ABSENT, "secret": "BELONGS_TO_N", "framework": ABSENT, "account": f"{ABSENT}-acc",
        "member": f"{ABSENT}-mia", "token": f"{ABSENT}-tok", "tag": ABSENT,
    }  # fmt: skip
    return Theirs(there, absent)


def filled(value: Any, words: dict[str, str]) -> Any:
    """A recipe's path or body with these words."""
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: words[found[1]], value)
    if isinstance(value, dict):
        return {key: filled(each, words) for key, each in value.items()}
    return [filled(each, words) for each in value] if isinstance(value, list) else value


def ask(api: Api, token: str, method: str, recipe: Recipe, words: dict[str, str]) -> Answer:
    path, body = filled(recipe.path, words), filled(recipe.body, words)
    return api.call(method, path, body, token=token, headers={"Accept": recipe.accept})


def same(answer: Answer, words: dict[str, str]) -> tuple[int, str]:
    """An answer without the words of its question, longest first."""
    text = answer.body.decode()
    for name, word in sorted(words.items(), key=lambda each: -len(each[1])):
        text = text.replace(word, f"<{name}>")
    text = text.replace(words["sha"][:12], "<sha>")
    return answer.status, re.sub("wait [0-9]+ seconds", "wait", text)


def test_every_operation_has_a_recipe(api: Api) -> None:
    assert set(RECIPES) == described(api), "say here how an account could reach another one's objects by it"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), RECIPES)
def test_another_account_gets_nothing(api: Api, theirs: Theirs, method: str, path: str, role: str) -> None:
    api.context.gate.throttle = Throttle()
    for recipe in RECIPES[method, path]:
        answer = ask(api, role, method, recipe, theirs.there)
        if recipe.sees:
            assert answer.status in (200, 403, *recipe.answers), answer.body
            asked = json.dumps([filled(recipe.path, theirs.there), filled(recipe.body, theirs.there)], default=str)
            words = {each for each in (MARK, "BELONGS_TO_A", theirs.there["run"]) if each not in asked}
            assert not [word for word in words if word.encode() in answer.body]
            continue
        assert answer.status in (403, *recipe.answers), (recipe, answer.body)
        absent = ask(api, role, method, recipe, theirs.absent)
        assert same(answer, theirs.there) == same(absent, theirs.absent)


def test_all_is_as_it_was(api: Api, theirs: Theirs) -> None:
    a = theirs.there["token"]
    assert api.get(f"/training-runs/{theirs.there['run']}", token=a)["state"] == "running"
    assert api.get(f"/data/{MARK}", token=a)["items"][0]["key"] == MARK
    assert [each["name"] for each in api.get("/connections", token=a)["items"]] == [MARK]
    assert [each["name"] for each in api.get("/secrets", token=a)["items"]] == ["BELONGS_TO_A"]
    assert not api.get("/queue", token=a)["account_paused"]
    assert {each["account"] for each in api.get("/audit?limit=1000", token="manager")["items"]} == {"b"}
    listed = api.get("/accounts", token=a)["items"]
    assert [each["id"] for each in listed] == [f"{MARK}-acc"]


@pytest.mark.parametrize(("method", "path"), [each for each in RECIPES if each[1].startswith("/training-runs/{}")])
def test_an_administrators_token_is_of_one_account_where_runs_are_asked_for(
    api: Api, theirs: Theirs, method: str, path: str
) -> None:
    for recipe in RECIPES[method, path]:
        assert ask(api, "owner", method, recipe, theirs.there).status == 404


def test_a_machine_reaches_nothing_of_another_machines_attempts(api: Api, theirs: Theirs, machine: Machine) -> None:
    run, now = theirs.there["run"], int(time.time() * 1000)
    stranger = Machine(api, "node2", gpus=0)
    told = [facts.Exited(run, 1, now, exit_code=1), facts.Lost(run, 1, "shim_lost", ""), facts.Began(run, 1, now)]
    api.call("POST", "/node/hello", b"{}", token="node2")  # the doorkeeper knows it now: the short way is taken
    assert stranger.tell(*told) == [False, False, False]
    assert stranger.print(run, 0, b"forged").status == 404
    metrics = f"/node/metrics/{run}/1/1?offset=0"
    assert api.call("PUT", metrics, b"", token="node2").status == 404
    assert api.get(f"/training-runs/{run}", token=theirs.there["token"])["state"] == "running"


PLACES = [
    ("GET", "/training-runs/{run}"),
    ("POST", "/training-runs/{run}/cancel"),
    ("GET", "/training-runs/{run}/logs"),
    ("GET", "/training-runs/{run}/metrics"),
    ("GET", "/definitions/{sha}"),
    ("DELETE", "/connections/{connection}"),
    ("DELETE", "/secrets/{secret}"),
    ("DELETE", "/tokens/{token}"),
    ("GET", "/quota/{account}"),
    ("GET", "/accounts/{account}/members"),
]


@pytest.fixture
def statements(api: Api) -> Iterator[Callable[[], list[str]]]:
    """What the threads of requests ask the database from now on."""
    seen: list[str] = []
    database = api.context.world.store._db  # type: ignore[attr-defined]

    def trace(driver: Any, *_: object) -> None:
        driver.set_trace_callback(seen.append)

    while database._idle:
        database._idle.pop().close()
    database._reader.dispose()
    event.listen(database._reader, "connect", trace)
    yield lambda: [re.sub(r"'[^']*'|\b[0-9]+\b", "?", each) for each in seen]
    event.remove(database._reader, "connect", trace)
    while database._idle:
        database._idle.pop().close()
    database._reader.dispose()


@pytest.mark.parametrize(("method", "path"), PLACES)
def test_what_is_anothers_costs_the_same_statements_as_what_is_not_there(
    api: Api, theirs: Theirs, statements: Callable[[], list[str]], method: str, path: str
) -> None:
    """Time is not measured: the statements are the same, and read the same indexes."""
    asked: list[list[str]] = []
    for words in (theirs.there, theirs.absent, theirs.there, theirs.absent):
        before = len(statements())
        assert api.call(method, filled(path, words), token="manager").status == 404
        mine = [each for each in statements()[before:] if not each.startswith(("BEGIN", "PRAGMA", "ROLLBACK"))]
        asked.append([each for each in mine if "FROM tokens" not in each and "FROM nodes" not in each])
    assert {tuple(each) for each in asked} == {tuple(asked[0])}


def test_a_stream_ends_when_its_token_is_revoked(api: Api, theirs: Theirs) -> None:
    made = api.call("POST", "/tokens", {"name": "short"}, token=theirs.there["token"]).json()
    streams = [("/events?after=0", "text/event-stream")]
    streams += [(f"/training-runs/{theirs.there['run']}/{what}", "text/event-stream") for what in ("logs", "metrics")]
    streams += [(f"/training-runs/{theirs.there['run']}/logs?follow=true", "text/plain")]
    opened: list[tuple[http.client.HTTPConnection, http.client.HTTPResponse]] = []
    for path, accept in streams:
        connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=15)
        connection.request("GET", "/api/v1" + path, headers=api.headers(made["token"], {"Accept": accept}))
        opened.append((connection, connection.getresponse()))
        assert opened[-1][1].status == 200
    began = time.monotonic()
    assert api.call("DELETE", f"/tokens/{made['id']}", token=theirs.there["token"]).status == 204
    for (connection, response), _ in zip(opened, itertools.count(), strict=False):
        response.read()  # returns at the stream's end; the socket's own time limit would raise
        connection.close()
    assert time.monotonic() - began < 12, "before a stream's own quiet word, which comes after 15 seconds"
    assert api.call("GET", "/status", token=made["token"]).status == 401
