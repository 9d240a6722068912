"""Queue, quotas, usage, accounts, status."""

import pytest

from tests.api.serving import Api, Machine


@pytest.fixture(scope="module")
def waiting(api: Api) -> list[str]:
    """Three runs that wait: the machine that there is, is away."""
    gone = Machine(api)
    gone.hello()
    return api.submit(parameters=[{}] * 3)


def order_of(api: Api) -> list[str]:
    return [each["id"] for each in api.get("/queue")["items"]]


def test_the_queue_and_moving_in_it(api: Api, waiting: list[str]) -> None:
    shown = api.get("/queue")
    assert [each["position"] for each in shown["items"]] == [1, 2, 3]
    assert (shown["waiting"], shown["paused"], shown["account_paused"]) == (3, False, False)
    assert all(each["sentence"] and each["readiness"] for each in shown["items"])
    moved = api.call("POST", "/queue/move", {"id": waiting[2], "position": 1})
    assert (moved.status, moved.json()["position"]) == (200, 1)
    assert order_of(api) == [waiting[2], waiting[0], waiting[1]]
    assert len(api.get("/queue?limit=1")["items"]) == 1
    assert api.get("/queue", token="other")["items"] == []


@pytest.mark.parametrize("position", [0, -1, 10**30, "first", None])
def test_positions_that_make_no_sense(api: Api, waiting: list[str], position: object) -> None:
    answer = api.call("POST", "/queue/move", {"id": waiting[0], "position": position})
    assert (answer.status, answer.code) == (422, "invalid_request")


def test_moving_what_is_not_there_or_does_not_wait(api: Api, waiting: list[str]) -> None:
    assert api.call("POST", "/queue/move", {"id": waiting[0], "position": 1}, token="other").code == "not_found"
    run = api.submit()[0]
    api.call("POST", f"/training-runs/{run}/cancel")
    assert api.call("POST", "/queue/move", {"id": run, "position": 1}).code == "conflict"


def test_holding_the_accounts_queue_and_the_whole(api: Api, waiting: list[str]) -> None:
    assert api.call("POST", "/queue/pause", token="member").json() == {"paused": True}
    shown = api.get("/queue")
    assert (shown["account_paused"], shown["paused"]) == (True, False)
    assert not api.get("/queue", token="other")["account_paused"]
    assert api.call("POST", "/queue/resume", {}).json() == {"paused": False}
    assert api.call("POST", "/queue/pause", {"all": True}).json() == {"paused": True}
    assert api.get("/queue", token="other")["paused"]
    assert api.get("/status")["queue_paused"]
    assert api.call("POST", "/queue/resume", {"all": True}).status == 200
    assert not api.get("/queue")["paused"]
    assert api.call("POST", "/queue/pause", {"everything": True}).code == "invalid_request"


def test_quotas(api: Api) -> None:
    shown = api.get("/quota")
    assert (shown["account"], shown["plan"]) == ("default", "unlimited")
    limits = ("gpus", "cpu_millis", "memory_mib", "waiting", "storage_bytes")
    assert {key: shown[key] for key in limits} == dict.fromkeys(limits)
    assert (shown["used_gpus"], shown["slots"], shown["used_storage_bytes"]) == (0, 0, None)
    assert (shown["share"]["weight"], shown["budget"], shown["window"]) == (1.0, None, None)
    answer = api.call("PUT", "/quota/other", {"gpus": 3})
    assert (answer.status, answer.json()["gpus"]) == (200, 3)
    assert api.get("/quota", token="other")["gpus"] == 3
    assert api.get("/quota/other")["gpus"] == 3
    assert api.call("GET", "/quota/default", token="other").code == "not_found"
    assert api.call("GET", "/quota/nobody").code == "not_found"
    assert api.call("PUT", "/quota/nobody", {"gpus": 3}).code == "not_found"
    for wrong in ({"gpus": -1}, {"gpus": 10**30}, {"gpus": "many"}, {"plan": ["x"]}, {"gpus": 1, "cpus": 2}):
        assert api.call("PUT", "/quota/other", wrong).code == "invalid_request"


@pytest.mark.parametrize("by", ["account", "user", "day", "tag"])
def test_usage(api: Api, by: str) -> None:
    shown = api.get(f"/usage?by={by}&since=2020-01-01&until=2100-01-01T00:00:00Z")
    assert (shown["by"], shown["total"]["cost"]) == (by, "0.000000")


@pytest.mark.parametrize(
    ("query", "status"),
    [("by=colour", 409), ("since=yesterday", 422), ("until=1e3", 422), ("since=", 422)],
)
def test_usage_of_what_makes_no_sense(api: Api, query: str, status: int) -> None:
    assert api.call("GET", f"/usage?{query}").status == status


def test_usage_since_the_beginning_of_time(api: Api) -> None:
    assert api.call("GET", "/usage?since=0001-01-01T00:00:00%2B14:00").status in (200, 422)


def test_accounts_are_seen_by_administrators(api: Api) -> None:
    assert [each["id"] for each in api.get("/accounts")["items"]] == ["default", "other"]
    assert [each["id"] for each in api.get("/accounts", token="other")["items"]] == ["other"]


def test_status(api: Api) -> None:
    shown = api.get("/status")
    assert (shown["account"], shown["member"], shown["url"]) == ("default", "owner", api.url)
    assert shown["slots"] == {"total": 0, "used": 0}
    assert [node["connected"] for node in shown["nodes"]] == [False]
    machine = Machine(api)
    machine.hello()
    machine.listen()
    assert api.get("/status")["slots"]["total"] == 2
    machine.hang_up()


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "access_key_id": "A"}, {"name": "x", "secret_access_key": "S"}, {"name": ""}, {"name": "a b"},
        {"name": "../x"}, {"name": "x", "type": "ftp"}, {"name": "x", "colour": "red"}, {},
    ],
)  # fmt: skip
def test_connections_that_make_no_sense(api: Api, body: dict[str, str]) -> None:
    answer = api.call("POST", "/connections", body)
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert '"S"' not in answer.body.decode()
    assert api.get("/connections")["items"] == []


@pytest.mark.parametrize(
    "body", [{"name": "x" * 101}, {"expires_in_days": 0}, {"expires_in_days": -1}, {"scope": "god"}]
)
def test_tokens_that_make_no_sense(api: Api, body: dict[str, object]) -> None:
    assert api.call("POST", "/tokens", body).code == "invalid_request"


def test_the_share_of_an_account(api: Api) -> None:
    answer = api.call("PUT", "/quota/other/share", {"weight": 2.5, "window": "22:00-06:00"})
    assert (answer.status, answer.json()["share"]["weight"], answer.json()["window"]) == (200, 2.5, "22:00-06:00")
    assert api.call("PUT", "/quota/other/share", {"weight": None}).json()["window"] == "22:00-06:00"
    shown = api.call("PUT", "/quota/other/share", {"window": None}).json()
    assert (shown["share"]["weight"], shown["window"]) == (1.0, None)
    for wrong in ({}, {"weight": 0}, {"weight": -1}, {"weight": "NaN"}, {"window": "noon"}, {"window": ""}, {"x": 1}):
        assert api.call("PUT", "/quota/other/share", wrong).status in (409, 422), wrong
    assert api.call("PUT", "/quota/nobody/share", {"weight": 1}).code == "not_found"
    assert api.call("PUT", "/quota/default/share", {"weight": 1}, token="member").code == "access_denied"


def test_the_budget_of_an_account(api: Api) -> None:
    answer = api.call("PUT", "/quota/other/budget", {"per": "week", "gpu_hours": 10, "money": "12.50"})
    budget = answer.json()["budget"]
    assert (budget["per"], budget["gpu_hours"], budget["money"], budget["warn_percent"]) == (
        "week",
        10.0,
        "12.500000",
        80,
    )
    assert (budget["percent"], budget["stopped"], budget["sentence"]) == (0, False, None)
    stopped = api.call("PUT", "/quota/other/budget", {"per": "month", "gpu_hours": 0}).json()["budget"]
    assert stopped["stopped"]
    assert "nothing new starts before" in stopped["sentence"]
    assert api.call("DELETE", "/quota/other/budget").json()["budget"] is None
    for wrong in ({}, {"per": "week"}, {"per": "day", "money": 1}, {"per": "week", "gpu_hours": -1}):
        assert api.call("PUT", "/quota/other/budget", wrong).status in (409, 422), wrong
    assert api.call("PUT", "/quota/nobody/budget", {"per": "week", "money": 1}).code == "not_found"
    assert api.call("PUT", "/quota/other/budget", {"per": "week", "money": 1}, token="other").status == 403


def test_the_priority_of_a_run(api: Api, waiting: list[str]) -> None:
    path = f"/training-runs/{waiting[1]}"
    before = api.get(path)
    answer = api.call("PATCH", path, {"priority": 60})
    assert (answer.status, answer.json()["priority"], answer.json()["position"]) == (200, 60, 1)
    events = api.get(f"{path}/events")["items"]
    assert (events[-1]["kind"], events[-1]["priority"], events[-1]["before"]) == ("priority", 60, 50)
    assert api.call("PATCH", path, {"priority": 50}).json()["position"] == before["position"]
    for wrong in ({}, {"priority": 101}, {"priority": -1}, {"priority": None}, {"priority": 5, "name": "x"}):
        assert api.call("PATCH", path, wrong).code == "invalid_request"
    assert api.call("PATCH", path, {"priority": 7}, token="other").code == "not_found"
    ended = api.submit()[0]
    api.call("POST", f"/training-runs/{ended}/cancel")
    assert api.call("PATCH", f"/training-runs/{ended}", {"priority": 7}).code == "conflict"


def test_machines_are_drained_and_go_on(api: Api, waiting: list[str]) -> None:
    (shown,) = [each for each in api.get("/nodes")["items"] if each["draining_since"] is None][:1]
    node = shown["node"]["id"]
    drained = api.call("POST", f"/nodes/{node}/drain", {"preempt": True})
    assert (drained.status, drained.json()["node"]["id"]) == (200, node)
    assert drained.json()["draining_since"] is not None
    assert api.call("POST", f"/nodes/{node}/resume").json()["draining_since"] is None
    assert api.call("POST", f"/nodes/{node}/drain", token="member").status == 403
    assert api.call("POST", "/nodes/nobody/drain").code == "not_found"
    assert api.call("POST", f"/nodes/{node}/drain", {"hard": True}).code == "invalid_request"
