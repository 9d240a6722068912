"""Every route has its method, and what comes back are values."""

import dataclasses
from pathlib import Path

import pytest

from runyard.client import Client, Misuse, NotFound, Overrides, Submission, WhichLog
from tests.client.api_server import ApiServer

SHA = "a" * 64


def test_runs_are_listed_page_by_page_as_they_are_asked_for(
    server: ApiServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard.client.calls.PAGE", 2)
    ids = [server.add_run() for _ in range(5)]
    assert [run.id for run in client.runs()] == ids[::-1]
    assert len(server.asked("GET", "/api/v1/training-runs")) == 3
    assert [run.id for run in client.runs(limit=3)] == ids[:1:-1]
    assert next(iter(client.runs())).id == ids[-1]
    assert len(server.asked("GET", "/api/v1/training-runs")) == 3 + 2 + 1


def test_runs_are_filtered(server: ApiServer, client: Client) -> None:
    tagged = server.add_run(tags=["x"], state="running")
    server.add_run(state="failed")
    assert [run.id for run in client.runs(states=["running", "waiting"], tag="x")] == [tagged]


def test_a_run_is_a_value(server: ApiServer, client: Client) -> None:
    run_id = server.add_run(hyper_parameters={"lr": 0.1}, tags=["x"])
    server.live(run_id)
    run = client.run(run_id)
    assert (run.state, run.final, run.reason, run.gpu_seconds, run.cost) == (
        "completed",
        True,
        "finished",
        1.5,
        "0.001200",
    )
    assert run.hyper_parameters == {"lr": 0.1}
    assert run.attempts[0].number == 1
    assert run.attempts[0].slots == (0,)
    assert run.created_at is not None
    assert run.created_at.tzinfo is not None
    assert run.raw["resources"] == {"gpus": 1, "cpus": 4.0, "memory_mib": 8192}
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.state = "running"  # type: ignore[misc]


def test_selectors(server: ApiServer, client: Client) -> None:
    first, second = server.add_run(tags=["x"]), server.add_run(tags=["x"])
    assert client.resolve("last") == (second,)
    assert client.resolve("last-1") == (first,)
    assert client.resolve(first[:-1]) == (first,)
    assert client.resolve(first.removeprefix("training-")[:6]) == (first,)
    assert client.resolve("tag:x") == (second, first)
    asked = len(server.state.seen)
    assert client.resolve("training-AAAAAAAAA") == ("training-AAAAAAAAA",)
    assert len(server.state.seen) == asked
    with pytest.raises(Misuse, match="No run carries"):
        client.resolve("tag:y")
    with pytest.raises(NotFound):
        client.resolve("nonsense")
    with pytest.raises(Misuse):
        client.run("tag:x")
    with pytest.raises(Misuse):
        client.run("")


def test_what_changes_runs(server: ApiServer, client: Client) -> None:
    run = server.add_run()
    assert client.cancel(run).state == "canceled"
    assert [event.kind for event in client.history(run)] == ["accepted", "finished"]
    assert client.history(run)[-1].state == "canceled"
    client.delete(run, with_results=True)
    assert server.asked("DELETE", ".*")[0].query == {"with_results": ["true"]}


def test_what_is_told_of_a_run(server: ApiServer, client: Client) -> None:
    run = server.add_run()
    server.live(run, log="one\ntwo\n")
    server.state.results[run] = {"model/weights": b"w" * 10}
    found = client.explain(run)
    assert (found.position, found.ahead, found.steps) == (2, 1, ("accepted", "code and data ready"))
    assert client.log(run, WhichLog(tail=1)) == b"two\n"
    assert client.log(run, WhichLog(offset=4)) == b"two\n"
    results = client.results(run)
    assert [(item.key, item.size) for item in results.items] == [("model/weights", 10)]
    with client.read_result(run, "model/weights") as stream:
        assert b"".join(stream.chunks()) == b"w" * 10


def test_what_is_submitted(server: ApiServer, client: Client) -> None:
    server.state.definitions[SHA] = b""
    overrides = Overrides(name="n", tags=("a",), priority=7, env={"K": "V"}, paths={"a.b": "c"}, data=("d",))
    submission = Submission("text", SHA, parameters=[{"lr": 0.1}], append_args=True, overrides=overrides)
    submitted = client.submit(submission, idempotency_key="key")
    assert submitted.notes == ("CPUs are scaled to this machine.",)
    sent = server.state.submissions[0]
    assert sent["overrides"] == {
        "name": "n", "tags": ["a"], "priority": 7, "max_runtime": None, "gpus": None, "framework": None,
        "env": {"K": "V"}, "after": [], "python": None, "data": ["d"], "paths": {"a.b": "c"},
    }  # fmt: skip
    assert (sent["manifest"], sent["parameters"], sent["append_args"], sent["force"]) == (
        "text",
        [{"lr": 0.1}],
        True,
        False,
    )
    assert client.submit(submission, idempotency_key="key").replayed
    assert client.check(submission).runs == 1


def test_the_service_and_its_queue(server: ApiServer, client: Client) -> None:
    run = server.add_run()
    assert client.healthy()
    status = client.status()
    assert (status.slots_total, status.slots_used, status.counts) == (2, 1, {"waiting": 1})
    assert client.pause_queue() is True
    queue = client.queue()
    assert (queue.account_paused, queue.waiting, queue.items[0].id, queue.items[0].position) == (True, 1, run, 1)
    assert client.resume_queue(everybody=True) is False
    client.move(run, 3)
    assert server.state.moved == [(run, 3)]


def test_quota_usage_and_accounts(client: Client) -> None:
    assert client.quota().gpus == 1
    assert client.set_quota("default", {"gpus": None}).gpus is None
    assert client.quota("default").gpus is None
    usage = client.usage("day", since="2026-01-01")
    assert (usage.items[0].gpu_seconds, usage.total.cost, usage.by) == (12.5, "0.012300", "day")
    assert [account.id for account in client.accounts()] == ["default"]


def test_connections_and_tokens(server: ApiServer, client: Client) -> None:
    made = client.add_connection("minio", endpoint_url="http://s3", access_key_id="AK", secret_access_key="hidden")
    assert server.state.connections["minio"]["secret_access_key"] == "hidden"
    assert "hidden" not in repr(made)
    assert [each.name for each in client.connections()] == ["minio"]
    client.remove_connection("minio")
    assert client.connections() == ()
    token = client.add_token("laptop", scope="admin", expires_in_days=3)
    assert token.token not in repr(token)
    assert [(each.name, each.scope) for each in client.tokens()] == [("laptop", "admin")]
    client.remove_token(token.id)
    assert client.tokens() == ()


def test_secrets_go_in_and_come_out_by_name(server: ApiServer, client: Client) -> None:
    assert client.put_secret("HF_TOKEN", "sesame").name == "HF_TOKEN"
    assert server.state.secrets == {"HF_TOKEN": "sesame"}
    assert [each.name for each in client.secrets()] == ["HF_TOKEN"]
    assert "sesame" not in repr(client.secrets())
    client.remove_secret("HF_TOKEN")
    assert client.secrets() == ()
    with pytest.raises(NotFound):
        client.remove_secret("HF_TOKEN")


def test_many_are_canceled_in_one_call(server: ApiServer, client: Client) -> None:
    tagged = [server.add_run(tags=["x"]) for _ in range(2)]
    done = server.add_run(state="completed")
    found = client.cancel_many(["tag:x", done, "unknown00"])
    assert [run.id for run in found.runs] == [*tagged, done]
    assert {run.state for run in found.runs} == {"canceled", "completed"}
    assert found.pending == ()
    assert [(name, code) for name, code, _ in found.refused] == [("training-unknown00", "not_found")]
    assert len(server.asked("POST", "/api/v1/training-runs/cancel")) == 1


def test_objects(client: Client, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    told: list[tuple[int, int]] = []
    stored = client.put_object(
        "b", "folder/ä b.txt", tmp_path / "f", progress=lambda done, total: told.append((done, total))
    )
    assert stored.size == 10
    assert told[-1] == (10, 10)
    client.put_object("b", "other", b"x")
    assert client.buckets() == ("b",)
    assert [each.key for each in client.objects("b", "folder/")] == ["folder/ä b.txt"]
    with client.read_object("b", "folder/ä b.txt", offset=4) as stream:
        assert b"".join(stream.chunks()) == b"456789"
    assert client.has_object("b", "other")
    assert not client.has_object("b", "missing")
    client.delete_object("b", "other")
    assert client.delete_objects("b") == 1


def test_definitions_and_manifests(server: ApiServer, client: Client) -> None:
    server.state.definitions[SHA] = b"zip"
    assert client.has_definition(SHA)
    assert not client.has_definition("b" * 64)
    with client.read_definition(SHA) as stream:
        assert b"".join(stream.chunks()) == b"zip"
    assert client.manifest_template().startswith("model_definition:")
    assert client.manifest_schema() == {"type": "object"}


def test_clocks_are_compared(client: Client) -> None:
    assert abs(client.clock_difference()) < 5
