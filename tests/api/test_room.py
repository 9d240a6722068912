"""Retention, what takes the disks, and letting go, over HTTP and on real folders."""

import threading

import pytest

from runyard.engine.world import World
from runyard.ports.disk import PLENTY, Space
from runyard.ports.logs import LogKey
from runyard.ports.metrics import MetricKey
from runyard.wire import facts, orders
from tests.api.serving import MANIFEST, Api, Machine
from tests.support.waiting import wait_until

RUN_LOG = b"a line of the log\n" * 2000


def canceled(api: Api) -> str:
    """A final run that has left a log, points, and a result in the embedded store."""
    (run_id,) = api.call("POST", "/training-runs", {"manifest": MANIFEST}).json()["ids"]
    api.call("POST", f"/training-runs/{run_id}/cancel", {})
    world: World = api.context.world
    world.logs.append(LogKey(run_id, 1), 0, RUN_LOG, world.clock.now_ms())
    world.metrics.append(MetricKey(run_id, 1), 0, bytes(5000))
    assert api.call("PUT", f"/data/results/{run_id}/model.pt", b"w" * 9000).status == 201
    return str(run_id)


def test_a_retention_is_shown_to_its_account_and_set_by_an_administrator(api: Api) -> None:
    found = api.call("GET", "/retention/default", token="member").json()
    assert found == {"account": "default", "days": dict.fromkeys(("results", "logs", "metrics", "records")), "own": []}
    assert api.call("PUT", "/retention/default", {"logs": 1}, token="member").status == 403
    found = api.call("PUT", "/retention/default", {"logs": 1.5, "records": 0}).json()
    assert found["days"] == {"results": None, "logs": 1.5, "metrics": None, "records": None}
    assert found["own"] == ["logs", "records"]
    assert api.call("PUT", "/retention/default", {"logs": None}).json()["own"] == ["records"]
    assert api.call("PUT", "/retention/default", {}).code == "invalid_request"
    for body in ({"logs": -1}, {"logs": 1e9}, {"bills": 1}):
        assert api.call("PUT", "/retention/default", body).status == 422
    assert api.call("PUT", "/retention/nobody", {"logs": 1}).status == 404
    assert api.call("GET", "/retention/nobody").status == 404


def test_what_is_due_is_told_first_and_then_goes(api: Api, machine: Machine) -> None:
    run_id = canceled(api)
    soon = {"logs": 5e-5, "results": 5e-5}  # days; the station looks now, when it is not due, and again in an hour
    assert api.call("PUT", "/retention/default", soon).status == 200

    def due() -> dict[str, dict[str, int]]:
        return {each["what"]: each for each in api.call("POST", "/gc", {"dry_run": True}).json()["items"]}

    wait_until(lambda: set(due()) == {"logs", "results"}, "logs and results are due")
    told = due()
    assert told["results"]["bytes"] == 9000
    assert told["logs"]["bytes"] >= len(RUN_LOG)
    assert api.context.world.logs.size(LogKey(run_id, 1)) == len(RUN_LOG)
    went = api.call("POST", "/gc", {"dry_run": False}).json()
    assert went["next"] is None
    assert {each["what"] for each in went["items"]} == {"logs", "results"}
    assert api.context.world.logs.size(LogKey(run_id, 1)) == 0
    assert api.context.world.metrics.size(MetricKey(run_id, 1)) == 5000, "these are kept, in the same folder"
    assert api.call("GET", f"/data/results/{run_id}/model.pt").status == 404
    assert "retention" in api.call("GET", f"/training-runs/{run_id}").json()["notes"][-1]
    assert api.call("POST", "/gc", {"dry_run": False}).json()["items"] == []
    assert api.call("POST", "/gc", {}, token="member").status == 403


def test_what_takes_the_disks_is_told_by_kind_account_and_run(api: Api, machine: Machine) -> None:
    run_id = canceled(api)
    answers: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: answers.append(api.call("GET", "/disk").json()))
    thread.start()
    order = machine.order(orders.CacheCommand)
    kinds = {"data": 10, "runs": 30, "code": 20}
    assert machine.tell(facts.CacheState(order.number, 30, 99, kinds=kinds, free=5, total=50)) == [True]
    thread.join(20)
    (found,) = answers
    sizes = {row["group"]: row["bytes"] for row in found["items"]}  # type: ignore[index, attr-defined]
    assert {"logs", "metrics", "results", "database"} <= set(sizes)
    assert sizes["results"] >= 9000
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    (node,) = found["nodes"]  # type: ignore[misc]
    assert [row["group"] for row in node["items"]] == ["runs", "code", "data"]
    assert (node["answered"], node["free_bytes"], node["total_bytes"]) == (True, 5, 50)
    runs = api.call("GET", "/disk?by=run", token="member").json()
    assert [row["group"] for row in runs["items"]].count(run_id) == 1
    assert runs["nodes"] == []
    assert api.call("GET", "/disk?by=account", token="other").json()["items"] == []
    assert api.call("GET", "/disk?by=moon").status == 422


class _Small:
    """A disk with a room that a test says."""

    def __init__(self, free: int) -> None:
        self.free = free

    def space(self) -> Space:
        return Space(self.free, PLENTY.total)


def test_on_a_disk_that_is_nearly_full_nothing_new_is_taken(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = api.context.world.disk
    small = _Small(1 << 20)
    monkeypatch.setattr(type(disk), "space", lambda _self: small.space())
    assert api.context.world.rules.disk_reserve == 1 << 30
    answer = api.call("POST", "/training-runs", {"manifest": MANIFEST})
    assert (answer.status, answer.code) == (507, "disk_full")
    assert "gc" in answer.json()["detail"]
    small.free = 1 << 40
    assert api.call("POST", "/training-runs", {"manifest": MANIFEST}).status == 201


def test_a_machine_whose_disk_is_short_is_closed_until_it_says_otherwise(api: Api, machine: Machine) -> None:
    def closed() -> str | None:
        (node,) = api.context.world.store.nodes()
        return node.closed

    assert closed() is None
    assert machine.tell(facts.DiskState("The machine's disk has only 1 MiB left.")) == [True]
    assert closed() == "The machine's disk has only 1 MiB left."
    assert machine.tell(facts.DiskState()) == [True]
    assert closed() is None
