"""The end-points of machines: hello, orders, facts, logs, and the bytes that they fetch and store."""

import http.client
import json
import logging
import time

import pytest

from runyard.core.errors import StoreAway
from runyard.core.run import StateName
from runyard.engine import nodes
from runyard.wire import facts, orders
from tests.api.serving import MANIFEST, Api, Machine
from tests.support.waiting import wait_until


def state_of(api: Api, run: str) -> str:
    return str(api.get(f"/training-runs/{run}")["state"])


def test_the_id_of_a_machine_is_its_tokens(api: Api, machine: Machine) -> None:
    assert Machine(api, "node2", gpus=0).hello() == "node2"


def test_only_the_machine_of_an_attempt_is_heard(api: Api, machine: Machine) -> None:
    run, stranger = machine.started(), Machine(api, "node2", gpus=0)
    now = int(time.time() * 1000)
    told = stranger.tell(
        facts.Exited(run, 1, now, exit_code=1),
        facts.Lost(run, 1, "shim_lost", ""),
        facts.Began(run, 1, now),
        facts.Stored(run, 1, 1),
        facts.StoreFailed(run, "no"),
    )
    assert told == [False] * 5
    assert state_of(api, run) == "running"
    answer = stranger.print(run, 0, b"forged")
    assert (answer.status, answer.code) == (404, "not_found")
    machine.tell(facts.Exited(run, 1, now, exit_code=0))
    assert stranger.tell(facts.Stored(run, 1, 1)) == [False]
    assert state_of(api, run) == "storing"
    assert machine.tell(facts.Stored(run, 1, 1)) == [True]
    assert machine.tell(facts.Stored(run, 1, 1)) == [False]


@pytest.mark.parametrize("path", ["/node/hello", "/node/facts"])
@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"type": "began"}', b'[{"type": "dances"}]', b"\xff"])
def test_what_is_no_fact(api: Api, path: str, body: bytes) -> None:
    answer = api.call("POST", path, body, token="node")
    assert (answer.status, answer.code) == (422, "invalid_request")


def test_words_that_the_server_does_not_know_are_the_platforms_fault(api: Api, machine: Machine) -> None:
    run = machine.started()
    assert machine.tell(facts.Lost(run, 1, "eaten_by_a_whale", "gone")) == [True]
    machine.order(orders.Launch, run=run, attempt=2)
    machine.tell(facts.Began(run, 2, int(time.time() * 1000)))
    now = int(time.time() * 1000)
    assert machine.tell(facts.Exited(run, 2, now, exit_code=3, cause="boredom")) == [True]
    shown = api.get(f"/training-runs/{run}")
    assert [each["reason"] for each in shown["attempts"]] == ["shim_lost", "nonzero_exit"]


def test_a_staging_failure_leaves_its_evidence(api: Api, machine: Machine) -> None:
    # What the machine is known to have would be started at once: this interpreter nobody else asks for.
    run = api.submit(manifest=MANIFEST + "runyard: {python: /usr/bin/python3}\n")[0]
    found = api.context.world.store.run(run)
    assert found is not None
    machine.order(orders.Stage, spec=found.spec_id)
    machine.tell(facts.StageFailed(found.spec_id, "code_invalid", "No zip.", "x" * 100_000))
    order = machine.order(orders.Store, run=run)
    assert (order.attempt, len(order.evidence)) == (0, 64 * 1024)
    logs = api.call("GET", f"/training-runs/{run}/logs?stream=load-data&attempt=0")
    assert len(logs.body) == 64 * 1024
    machine.tell(facts.Stored(run, 1, 1))
    assert state_of(api, run) == "failed"


def test_log_bytes_come_once(api: Api, machine: Machine) -> None:
    run = machine.started()
    assert machine.print(run, 0, b"abc").json() == {"size": 3}
    assert machine.print(run, 0, b"abcdef").json() == {"size": 6}
    assert machine.print(run, 9, b"later").json() == {"size": 6}, "nothing after a gap"
    assert api.call("GET", f"/node/logs/{run}/1/1/training-log/size", token="node").json() == {"size": 6}
    assert api.call("GET", f"/training-runs/{run}/logs").body == b"abcdef"


@pytest.mark.parametrize(
    "path",
    ["{run}/2/1/training-log?offset=0", "{run}/0/1/training-log?offset=0",
     "training-000000000/1/1/training-log?offset=0",
     "..%2F..%2Fx/1/1/training-log?offset=0", "%2E%2E/1/1/training-log?offset=0", "{run}/1/1/passwords?offset=0",
     "{run}/1/1/training-log.idx?offset=0", "{run}/1/1/..%2Fx?offset=0", "{run}/-1/1/training-log?offset=0",
     "{run}/1/99999999999999999999999/training-log?offset=0", "{run}/1/1/training-log?offset=-1",
     "{run}/1/1/training-log?offset=99999999999999999999999", "{run}/1/1/training-log"],
)  # fmt: skip
def test_hostile_keys_of_logs(api: Api, machine: Machine, path: str) -> None:
    run = machine.started()
    answer = api.call("PUT", "/node/logs/" + path.replace("{run}", run), b"x", token="node")
    assert answer.status in (404, 422), answer.status
    size = api.call("GET", "/node/logs/" + path.replace("{run}", run).partition("?")[0] + "/size", token="node")
    assert size.status in (200, 404, 422)
    assert api.call("GET", f"/training-runs/{run}/logs").body == b""


def test_more_log_than_a_request_may_carry(api: Api, machine: Machine) -> None:
    run = machine.started()
    assert machine.print(run, 0, b"x" * 1024 * 1024).status == 200
    try:
        answer = machine.print(run, 1024 * 1024, b"x" * (1024 * 1024 + 1))
    except (BrokenPipeError, ConnectionResetError):
        return  # it said so while we were still sending
    assert (answer.status, answer.code) == (413, "too_large")


def test_code_and_data_for_machines(api: Api, machine: Machine) -> None:
    path = "/node/data/default/fetched/folder/object"
    assert api.call("PUT", path, b"0123456789", token="node").status == 201
    assert api.call("GET", path, token="node", headers={"Range": "bytes=2-3"}).body == b"23"
    assert api.call("HEAD", path, token="node").headers["content-length"] == "10"
    listed = api.call("GET", "/node/data/default/fetched?prefix=folder/", token="node").json()
    assert [each["key"] for each in listed["items"]] == ["folder/object"]
    assert api.call("GET", "/data/fetched/folder/object").body == b"0123456789"
    assert api.call("DELETE", path, token="node").status == 204
    assert api.call("GET", path, token="node").code == "not_found"
    assert api.call("GET", "/node/definitions/" + "a" * 64, token="node").code == "not_found"
    assert api.call("GET", "/node/definitions/..%2Fkey", token="node").status == 404


def connected(api: Api, name: str) -> bool:
    return any(node["id"] == name and node["connected"] for node in api.get("/status")["nodes"])


def test_a_newer_stream_ends_the_older_and_the_end_of_the_last_is_noted(api: Api, machine: Machine) -> None:
    first, second = Machine(api, "node2", gpus=0), Machine(api, "node2", gpus=0)
    first.hello()
    first.listen()
    assert connected(api, "node2")
    second.hello()
    second.listen()
    assert first.ended.wait(20)
    assert connected(api, "node2")
    first.hang_up()
    assert connected(api, "node2")
    second.hang_up()
    wait_until(lambda: not connected(api, "node2"), "the end is noted")


def test_a_machine_that_comes_and_goes_a_lot_ends_up_connected(api: Api, machine: Machine) -> None:
    for _ in range(15):
        made = Machine(api, "node2", gpus=0)
        made.hello()
        made.listen()
        made.hang_up()
    last = Machine(api, "node2", gpus=0)
    last.hello()
    last.listen()
    api.submit()  # give what still ends its time
    assert connected(api, "node2")
    last.hang_up()
    wait_until(lambda: not connected(api, "node2"), "the end is noted")


def test_a_token_for_a_machine_names_it(api: Api, machine: Machine) -> None:
    made = api.call("POST", "/tokens", {"name": "basement", "scope": "node"}).json()
    assert Machine(api, made["token"], gpus=0).hello() == f"node-{made['id']}"


def test_stop_and_launch_reach_a_machine_that_was_away(api: Api, machine: Machine) -> None:
    run = machine.started()
    machine.hang_up()
    assert api.call("POST", f"/training-runs/{run}/cancel").json()["state"] == "stopping"
    machine.hello(held=(facts.Held(run, 1, "running"),))
    machine.listen()
    assert machine.order(orders.Stop, run=run).cause == "cancel"
    machine.tell(facts.Exited(run, 1, int(time.time() * 1000), signal=15, cause="cancel"))
    machine.order(orders.Store, run=run)
    machine.tell(facts.Stored(run, 1, 1))
    found = api.context.world.store.run(run)
    assert found is not None
    assert found.state_name is StateName.canceled


def test_no_secret_is_in_any_answer_or_file_of_the_server(api: Api, machine: Machine) -> None:
    secret = "open-sesame-7f3a9c"
    body = {"name": "archive", "type": "s3", "endpoint_url": "http://127.0.0.1:9", "access_key_id": "AKIAIOSFODNN7",
            "secret_access_key": secret, "session_token": secret}  # fmt: skip
    assert api.call("POST", "/connections", body).status == 201
    assert api.call("POST", "/connections", body | {"name": "!"}).status == 422
    manifest = (
        "model_definition:\n  name: digits\n  execution:\n    command: 'true'\n"
        "    compute_configuration: {name: small}\n"
        "training_data_reference:\n  type: s3\n  connection: {name: archive}\n  source: {bucket: data}\n"
        "training_results_reference:\n  type: local\n  target: {bucket: results}\n"
    )
    run = api.submit(manifest=manifest, force=True)[0]
    paths = ("/connections", f"/training-runs/{run}", "/events", f"/training-runs/{run}/events", "/training-runs")
    answers = [api.call("GET", path).body for path in paths]
    answers.append(api.call("POST", "/training-runs", {"manifest": manifest}).body)
    answers += [path.read_bytes() for path in api.home.rglob("*") if path.is_file()]
    assert all(secret.encode() not in answer for answer in answers)
    listed = api.get("/connections")["items"]
    assert [each["access_key_id"] for each in listed if each["name"] == "archive"] == ["AKIA****"]
    assert "secret" not in json.dumps(listed)
    assert api.call("GET", "/connections", token="other").json() == {"items": []}
    assert api.call("DELETE", "/connections/archive", token="other").status == 404
    assert api.call("DELETE", "/connections/archive").status == 204


@pytest.mark.parametrize("ahead_ms", [-3_600_000, 0, 3_600_000])
def test_a_machine_whose_clock_is_wrong_is_billed_right(api: Api, machine: Machine, ahead_ms: int) -> None:
    """Its program has held the slot for a second, by any clock."""
    run = machine.started()
    clock = api.context.world.clock
    found = api.context.world.store.run(run)
    assert found is not None
    assert found.attempt is not None
    assigned = found.attempt.assigned_ms
    wait_until(lambda: clock.now_ms() - assigned > 1_200, "it to hold its slot")
    now = clock.now_ms() - ahead_ms
    body = facts.encode([facts.Exited(run, 1, now - 100, 0)], now)
    assert api.call("POST", "/node/facts", body, token="node").json() == [True]
    machine.tell(facts.Stored(run, 0, 0))
    entry = api.context.world.store.ledger(run)[0]
    assert 1_000 < entry.to_ms - entry.from_ms < 30_000


def test_orders_break_off_where_the_database_goes_while_they_begin(
    api: Api, machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Machine(api, "node2", gpus=0).hello()

    def away(*_: object) -> None:
        raise StoreAway("The database does not answer.")

    monkeypatch.setattr(nodes, "connected", away)
    asking = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
    with caplog.at_level(logging.WARNING):
        asking.request("GET", "/api/v1/node/orders", headers=api.headers("node2"))
        answer = asking.getresponse()
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        wait_until(lambda: bool(warned(caplog)), "what the server's log says")
    assert warned(caplog) == ["GET /api/v1/node/orders broke off: The database does not answer."]
    assert not [each for each in caplog.records if each.exc_info]
    asking.close()


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name.startswith("runyard.")]
