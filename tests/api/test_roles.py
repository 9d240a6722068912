"""What each role and each scope may do, route by route: docs/reference/roles.md says what the server does."""

import re
from itertools import pairwise

import pytest

from runyard.api.asking import ACTIONS
from runyard.core.account import Right, Role, Scope, rights
from tests.api.serving import Api, Machine
from tests.api.test_access import OPEN, routes
from tests.api.test_access import ROUTERS as ROOMS
from tests.api.test_isolation import add_token
from tools.gen_reference import rights_of_routes

TABLE = rights_of_routes()
SCOPES = (Scope.read, Scope.submit, Scope.member, Scope.admin)


@pytest.fixture(scope="module")
def people(api: Api) -> Api:
    """A token of each scope for a member of each role."""
    store = api.context.world.store
    for role in Role:
        member = store.add_member("default", f"a-{role.value}", role)
        for scope in SCOPES:
            add_token(api, f"{role.value}-{scope.value}", scope, "default", member.id)
    return api


def test_every_route_is_in_the_table() -> None:
    filled = {(method, re.sub(r"\{[a-z0-9_]+(:path)?\}", "1", path)) for method, path in TABLE}
    assert filled == set(routes(*ROOMS))
    assert [each for each, right in TABLE.items() if right is None] == OPEN


def test_each_role_may_do_all_that_the_one_before_it_may() -> None:
    for scope in Scope:
        held = [rights(scope, role) for role in Role]
        assert all(less <= more for less, more in pairwise(held))
    assert rights(Scope.member, Role.admin) == set(Right) - {Right.admin}
    assert rights(Scope.admin, Role.viewer) == rights(Scope.member, Role.viewer)
    assert not any(rights(Scope.node, role) for role in Role)


def test_what_changes_something_is_kept(api: Api) -> None:
    reads = {("POST", "/manifests/check"), ("POST", "/manifests/convert")}
    changing = set[object]()
    for room in ROOMS:
        for route in room.router.routes:
            changes = route.methods & {"POST", "PUT", "PATCH", "DELETE"}
            if changes and (next(iter(route.methods)), route.path) not in reads:
                changing.add(route.endpoint)
    assert changing == set(ACTIONS)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("role", list(Role))
def test_the_server_does_what_the_table_says(people: Api, role: Role, scope: Scope) -> None:
    """A request that makes no sense is refused for that by whoever gets in, and for the right by the others."""
    wrong = list[object]()
    for (method, path), right in TABLE.items():
        if right is None or path in ("/training-runs/{run}/logs", "/events"):
            continue
        address = re.sub(r"\{[a-z0-9_]+(:path)?\}", "no-such", path) + "?limit=no&since=no&attempt=no&with_results=no"
        body = b"{" if method in ("POST", "PUT", "PATCH") else None
        answer = people.call(method, address, body, token=f"{role.value}-{scope.value}")
        text = answer.body.decode()
        stopped = answer.status == 403 and (method == "HEAD" or (text.startswith('{"type"') and "This needs" in text))
        if stopped is (right in rights(scope, role)):
            wrong.append((method, path, answer.status, text))
    assert not wrong


def test_a_user_changes_their_own_runs_and_a_manager_all(people: Api, machine: Machine) -> None:
    mine = people.submit(token="user-member")[0]
    others = people.submit(token="manager-member")[0]
    for verb in ("cancel",):
        refused = people.call("POST", f"/training-runs/{others}/{verb}", token="user-member")
        assert (refused.status, refused.code) == (403, "access_denied")
        assert "another member's run" in refused.json()["detail"]
    assert people.call("DELETE", f"/training-runs/{others}", token="user-member").status == 403
    moved = people.call("POST", "/queue/move", {"id": others, "position": 1}, token="user-member")
    assert moved.status == 403
    many = people.call("POST", "/training-runs/cancel", {"states": ["waiting"]}, token="user-member").json()
    assert [each["id"] for each in many["items"]] == [mine]
    assert {"id": others, "code": "access_denied"}.items() <= many["refused"][0].items()
    assert people.get(f"/training-runs/{others}", token="viewer-member")["state"] == "waiting"
    assert people.call("POST", f"/training-runs/{others}/cancel", token="manager-member").status == 202
