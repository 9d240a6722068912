"""Looking at runs: tables and texts for people, one JSON document for programs."""

import json

import pytest

from tests.cli.calling import Cli
from tests.client.api_server import ApiServer


def test_the_list(server: ApiServer, cli: Cli) -> None:
    waiting = server.add_run(name="first", sentence="The account holds its quota of 1 GPU.", tags=["a", "b"])
    failed = server.add_run(name="second")
    server.live(failed, "failed")
    done = cli("list")
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["ID", "NAME", "STATE", "WHY", "AGE", "TIME", "TAGS", "COST"]
    assert rows[0].split()[:3] == [failed, "second", "failed"]
    assert rows[1].split()[:3] == [waiting, "first", "waiting"]
    assert "The account holds its quota of 1 GPU." in rows[1]
    assert "a,b" in rows[1]
    assert "0.0012" in rows[0]
    assert [run["id"] for run in json.loads(cli("list", "training-runs", "--json").stdout)] == [failed, waiting]


def test_the_list_is_filtered_sorted_and_limited(server: ApiServer, cli: Cli) -> None:
    names = {server.add_run(name=name, state=state, tags=[name]): name for name, state in
             (("b", "running"), ("a", "failed"), ("c", "waiting"))}  # fmt: skip

    def shown(*words: str) -> list[str]:
        return [names[run["id"]] for run in json.loads(cli("list", "--json", *words).stdout)]

    assert shown() == ["c", "a", "b"]
    assert shown("--state", "running", "--state", "failed") == ["a", "b"]
    assert shown("--state", "pending") == ["c"]
    assert shown("--tag", "a") == ["a"]
    assert shown("--sort", "name") == ["a", "b", "c"]
    assert shown("--sort", "-name") == ["c", "b", "a"]
    assert shown("--limit", "2") == ["c", "a"]
    assert "--limit shows more" in cli("list", "--limit", "2").stderr
    assert "no such runs" in cli("list", "--tag", "z").stderr


def test_a_run_is_shown(server: ApiServer, cli: Cli) -> None:
    run = server.add_run(
        description="What it is for", hyper_parameters={"lr": 0.1}, tags=["x"], definition="ab" * 32,
        data=[{"type": "s3", "bucket": "mnist", "prefix": ""}],
        inputs=[{"objects": 2000, "bytes": 3_200_000, "digest": "feed" * 16}],
        provenance={"git_commit": "c0ffee" * 6, "git_branch": "main", "git_dirty": True, "git_diff": "-1"},
    )  # fmt: skip
    server.live(run, "failed")
    server.state.runs[run].update(exit_code=3, fault="user", sentence="The program ended with exit code 3.")
    done = cli("show", "training-runs", run)
    facts = {" ".join(line.split("  ")[:1]): line for line in done.stdout.splitlines() if line}
    for key, value in {
        "id": run, "state": "failed (nonzero_exit)", "because": "exit code 3", "fault": "user's", "exit code": "3",
        "parameters": "lr=0.1", "asks for": "1 GPU, 4 CPU, 8 GB", "code": "abababababab",
        "data": "s3 mnist/ (2000 objects, 3.1 MB, digest feedfeedfeed)",
        "commit": f"c0ffeec0ffee on main, with changes (provenance.git_diff of `show {run} --json`)",
        "used": "1.5 GPU-seconds, cost 0.0012", "ended": "+",
    }.items():  # fmt: skip
        assert value in facts[key], key
    assert "ATTEMPT" in done.stdout
    assert f"runyard logs {run}" in done.stderr
    document = json.loads(cli("show", "last", "--json").stdout)
    wanted = (
        "id name account state reason fault position estimate attempts created_at staged_at started_at finished_at "
        "stored_at exit_code gpu_seconds cost results hyper_parameters"
    )
    assert set(wanted.split()) <= set(document)


def test_several_runs_are_shown(server: ApiServer, cli: Cli) -> None:
    runs = [server.add_run(tags=["x"]) for _ in range(2)]
    assert [run["id"] for run in json.loads(cli("show", "tag:x", "--json").stdout)] == runs[::-1]
    assert cli("show", *runs).stdout.count("priority") == 2


def test_ids_may_be_shortened(server: ApiServer, cli: Cli) -> None:
    first, second = server.add_run(), server.add_run()
    for selector, run in {first[:14]: first, first[9:14]: first, "last": second, "last-1": first}.items():
        assert json.loads(cli("show", selector, "--json").stdout)["id"] == run


def test_logs(server: ApiServer, cli: Cli) -> None:
    run = server.add_run()
    server.live(run, log="loss 3\nacc 1\nloss 2\n")
    assert cli("logs", run).stdout == "loss 3\nacc 1\nloss 2\n"
    assert cli("logs", run, "--tail", "1").stdout == "loss 2\n"
    assert cli("logs", run, "--grep", "^loss").stdout == "loss 3\nloss 2\n"
    assert cli("logs", run, "--follow", "--grep", "acc").stdout == "acc 1\n"
    assert json.loads(cli("logs", run, "--json").stdout) == {"id": run, "text": "loss 3\nacc 1\nloss 2\n"}
    cli("logs", run, "--since", "10m", "--learner", "2", "--attempt", "1")
    query = server.asked("GET", ".*/logs")[-1].query
    assert (query["since"], query["learner"], query["attempt"]) == (["600"], ["2"], ["1"])


def test_one_run_has_one_log(server: ApiServer, cli: Cli) -> None:
    server.add_run(tags=["x"])
    server.add_run(tags=["x"])
    done = cli("logs", "tag:x")
    assert done.returncode == 2
    assert "2 are named" in done.stderr


@pytest.mark.parametrize("words", [["monitor"], ["monitor", "training-runs"]])
def test_monitor_is_following(server: ApiServer, cli: Cli, words: list[str]) -> None:
    run = server.add_run()
    server.live(run, "failed", log="line\n")
    done = cli(*words, run, "logs")
    assert (done.returncode, done.stdout) == (1, "line\n")


def test_events_and_explanation(server: ApiServer, cli: Cli) -> None:
    run = server.add_run()
    server.move(run, "starting")
    done = cli("events", run)
    assert [line.split()[2] for line in done.stdout.splitlines()[1:]] == ["accepted", "assigned"]
    assert "node n1" in done.stdout
    assert [event["kind"] for event in json.loads(cli("events", run, "--json").stdout)] == ["accepted", "assigned"]
    done = cli("explain", run)
    assert done.stdout.startswith("The account holds its quota of 1 GPU.\n")
    assert "2 in the queue" in done.stdout
    assert json.loads(cli("explain", run, "--json").stdout)["ahead"] == 1


def test_status(server: ApiServer, cli: Cli) -> None:
    server.add_run()
    done = cli("status")
    assert f"service  {server.url}, version 0.1.0" in done.stdout
    assert "1 waiting" in done.stdout
    assert "2 L4" in done.stdout
    assert json.loads(cli("status", "--json").stdout)["slots"] == {"total": 2, "used": 1}


def test_cancel_and_delete(server: ApiServer, cli: Cli) -> None:
    runs = [server.add_run(tags=["x"]) for _ in range(2)]
    done = cli("cancel", "tag:x")
    assert (done.returncode, sorted(done.stdout.split())) == (0, sorted(runs))
    waiting = server.add_run()
    done = cli("delete", *runs, waiting, "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["ids"], document["refused"][0]["id"]) == (4, runs, waiting)
    assert list(server.state.runs) == [waiting]


def test_download(server: ApiServer, cli: Cli) -> None:
    run = server.add_run(state="completed")
    server.state.results[run] = {"model/weights": b"w" * 100, "learner-1/training-log.txt": b"log"}
    done = cli("download", run, "--to", "out", "--only", "model")
    assert done.stdout == f"out/{run}/model/weights\n"
    assert (cli.folder / "out" / run / "model" / "weights").read_bytes() == b"w" * 100
    assert "1 file, 100 bytes" in done.stderr
    assert len(json.loads(cli("download", "last", "--json").stdout)["files"][run]) == 2


def test_a_narrow_terminal_cuts_the_reason(server: ApiServer, cli: Cli) -> None:
    server.add_run(sentence="The account holds its quota of 1 GPU and 23 other runs wait in front of it.")
    cli.environment["COLUMNS"] = "80"
    _, text = cli.on_terminal("list")
    assert "…" in text
    assert max(map(len, text.splitlines())) <= 80
