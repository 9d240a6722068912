"""Who gets in where: generated over every route that there is."""

import re
from base64 import b64encode

import pytest
from fastapi.routing import APIRoute

from runyard.api import (
    access,
    accounts,
    cache,
    canceling,
    converting,
    data,
    definitions,
    frameworks,
    login,
    login_oidc,
    logs,
    metrics,
    node,
    node_metrics,
    node_objects,
    node_ranges,
    node_reading,
    nodes,
    queue,
    results,
    room,
    runs,
    secrets,
    shares,
    status,
    tokens,
)
from tests.api.serving import Api

ROUTERS = (
    access, accounts, cache, canceling, converting, data, definitions, frameworks, login, login_oidc, logs, metrics,
    nodes, queue, results, room, runs, secrets, shares, status, tokens,
)  # fmt: skip


def routes(*rooms: object) -> list[tuple[str, str]]:
    """Method and path of every route, its parameters filled with something."""
    found: list[tuple[str, str]] = []
    for each in rooms:
        for router in (getattr(each, name, None) for name in ("router", "check_router")):
            for route in router.routes if router is not None else ():
                assert isinstance(route, APIRoute)
                path = re.sub(r"\{[a-z0-9_]+(:path)?\}", "1", route.path)
                found += [(method, path) for method in sorted(route.methods or ())]
    return found


OPEN = [("POST", "/login"), ("POST", "/login/oidc"), ("POST", "/login/oidc/finish")]
"""Who signs in has no token yet."""
PEOPLE = [each for each in routes(*ROUTERS) if each not in OPEN]
MACHINES = routes(node, node_metrics, node_objects, node_ranges, node_reading)


def test_all_routes_are_looked_at(api: Api) -> None:
    paths = api.app.openapi()["paths"]
    assert sum(len(each) for path, each in paths.items() if path != "/healthz") == len(PEOPLE) + len(OPEN)
    assert len(MACHINES) >= 11


@pytest.mark.parametrize(("method", "path"), PEOPLE + MACHINES)
@pytest.mark.parametrize("token", [None, "", "ryd_unknown"])
def test_without_a_token_nobody_gets_in(api: Api, method: str, path: str, token: str | None) -> None:
    answer = api.call(method, path, {} if method in ("POST", "PUT") else None, token=token)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    if method != "HEAD":
        assert answer.code == "access_denied"


@pytest.mark.parametrize(("method", "path"), PEOPLE)
def test_a_machines_token_reaches_no_route_of_people(api: Api, method: str, path: str) -> None:
    answer = api.call(method, path, {} if method in ("POST", "PUT") else None, token="node")
    assert answer.status == 403
    if method != "HEAD":
        assert answer.code == "access_denied"


@pytest.mark.parametrize(("method", "path"), MACHINES)
@pytest.mark.parametrize("token", ["owner", "member", "other"])
def test_nobodys_token_reaches_a_route_of_machines(api: Api, method: str, path: str, token: str) -> None:
    assert api.call(method, path, {} if method in ("POST", "PUT") else None, token=token).status == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/quota/default", {"gpus": 1}),
        ("POST", "/queue/pause", {"all": True}),
        ("POST", "/queue/resume", {"all": True}),
        ("POST", "/tokens", {"name": "x", "scope": "admin"}),
        ("POST", "/tokens", {"name": "x", "scope": "node"}),
    ],
)
def test_what_only_administrators_may(api: Api, method: str, path: str, body: dict[str, object]) -> None:
    answer = api.call(method, path, body, token="member")
    assert (answer.status, answer.code) == (403, "access_denied")


def test_health_and_the_description_need_no_token(api: Api) -> None:
    assert api.call("GET", "//healthz", token=None).json() == {"status": "ok"}
    assert api.call("GET", "//api/openapi.json", token=None).status == 200


def test_basic_authentication_with_the_token_as_the_password(api: Api) -> None:
    word = b64encode(f"anybody:{api.tokens['owner']}".encode()).decode()
    assert api.call("GET", "/status", token=None, headers={"Authorization": f"Basic {word}"}).status == 200


@pytest.mark.parametrize("value", ["Basic !!!", "Basic /w==", "Basic", "Bearer", "Digest x", "Bearer é", "nonsense"])
def test_headers_that_make_no_sense(api: Api, value: str) -> None:
    assert api.call("GET", "/status", token=None, headers={"Authorization": value}).status == 401


def test_a_token_that_expired_or_was_revoked(api: Api) -> None:
    made = api.call("POST", "/tokens", {"name": "short", "expires_in_days": 1e-9}).json()
    assert api.call("GET", "/status", token=made["token"]).status == 401
    made = api.call("POST", "/tokens", {"name": "long"}).json()
    assert api.call("GET", "/status", token=made["token"]).status == 200
    assert api.call("DELETE", f"/tokens/{made['id']}").status == 204
    assert api.call("GET", "/status", token=made["token"]).status == 401
    assert api.call("DELETE", f"/tokens/{made['id']}").status == 404


def test_members_revoke_their_own_kind_alone(api: Api) -> None:
    tokens = api.get("/tokens", token="member")["items"]
    assert api.call("DELETE", "/tokens/node2", token="member").status == 403
    assert api.call("DELETE", "/tokens/node2", token="other").status == 404
    admin = next(each["id"] for each in tokens if each["scope"] == "admin")
    assert api.call("DELETE", f"/tokens/{admin}", token="member").status == 403
    made = api.call("POST", "/tokens", {"name": "mine"}, token="member").json()
    assert api.call("DELETE", f"/tokens/{made['id']}", token="member").status == 204


def test_a_token_is_shown_once(api: Api) -> None:
    made = api.call("POST", "/tokens", {"name": "once"}).json()
    listed = api.call("GET", "/tokens").body.decode()
    assert made["id"] in listed
    assert made["token"] not in listed
    assert made["token"] not in repr(api.context.world.store.tokens("default"))


def test_addresses_and_methods_that_are_not_there(api: Api) -> None:
    missing = api.call("GET", "/nothing")
    assert (missing.status, missing.code) == (404, "not_found")
    wrong = api.call("POST", "/status")
    assert (wrong.status, wrong.code) == (405, "invalid_request")
