"""Each exit code of the page, from the real entry point."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.calling import BIN, Cli
from tests.client.api_server import ApiServer
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("endings", "code"),
    [
        (["completed"], 0),
        (["failed"], 1),
        (["canceled"], 3),
        (["completed", "completed"], 0),
        (["completed", "failed", "canceled"], 1),
        (["completed", "canceled"], 3),
    ],
)
def test_how_runs_ended(server: ApiServer, cli: Cli, endings: list[str], code: int) -> None:
    ids = [server.add_run() for _ in endings]
    for run, ending in zip(ids, endings, strict=True):
        server.live(run, ending)
    done = cli("wait", *ids)
    assert done.returncode == code
    assert done.stdout == "".join(f"{run} {ending}\n" for run, ending in zip(ids, endings, strict=True))


@pytest.mark.parametrize(
    "words",
    [
        ["lits"],
        ["list", "--nonsense"],
        ["list", "--state", "asleep"],
        ["list", "--sort", "colour"],
        ["train"],
        ["train", "model", "missing.yml"],
        ["train", "m.yml", "m.yml"],
        ["train", "model", "m.yml", "--set", "lr"],
        ["train", "model", "m.yml", "--env", "NOVALUE"],
        ["train", "empty", "m.yml"],
        ["cancel"],
        ["show", "tag:nobody"],
        ["logs", "last", "--grep", "("],
        ["logs", "last", "--since", "yesterday"],
        ["quota", "set", "default", "--gpus", "many"],
        ["data", "rm", "bucket"],
        ["data", "push", "missing", "bucket"],
        ["up", "--gpus", "some"],
    ],
)
def test_wrong_usage_is_2(server: ApiServer, cli: Cli, words: list[str]) -> None:
    (cli.folder / "empty").mkdir()
    server.add_run()
    done = cli(*words)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_refused_is_4(server: ApiServer, cli: Cli) -> None:
    assert cli("show", "training-unknown00").returncode == 4
    run = server.add_run()
    done = cli("delete", run)
    assert done.returncode == 4
    assert "cancel it first" in done.stderr
    server.refusal = (409, {"code": "refused", "detail": "24 identical runs help nobody."})
    done = cli("train", "model", "m.yml")
    assert (done.returncode, done.stdout) == (4, "")
    assert "24 identical runs help nobody." in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["top"],
        ["experiments", "run", "x"],
        ["store", "training-definitions", "a", "b"],
        ["tensorboard", "--help"],
        ["shell", "last"],
        ["list", "experiment-runs", "x"],
        ["show", "models", "x"],
        ["generate-manifest", "experiments"],
    ],
)
def test_what_is_not_there_yet_is_4(cli: Cli, words: list[str]) -> None:
    done = cli(*words)
    assert done.returncode == 4
    assert "not in this version" in done.stderr


def test_nobody_there_is_5(nobody: Cli) -> None:
    done = nobody("list")
    assert done.returncode == 5
    assert "runyard up" in done.stderr
    nobody.environment["RUNYARD_URL"] = "http://127.0.0.1:1"
    done = nobody("status")
    assert done.returncode == 5
    assert "Nothing answers" in done.stderr


def test_not_signed_in_is_5(cli: Cli) -> None:
    cli.environment["RUNYARD_TOKEN"] = "wrong"
    done = cli("list")
    assert done.returncode == 5
    assert "token" in done.stderr


def test_out_of_time_is_124(server: ApiServer, cli: Cli) -> None:
    run = server.add_run()
    done = cli("wait", run, "--timeout", "0.3")
    assert done.returncode == 124
    assert run in done.stderr


@pytest.mark.parametrize("words", [["logs", "--follow"], ["monitor", "training-runs"], ["wait"]])
def test_ctrl_c_detaches_with_130(server: ApiServer, cli: Cli, words: list[str]) -> None:
    run = server.add_run()
    server.move(run, "starting")
    server.move(run, "running")
    server.print_log(run, "hello\n")
    with cli.start(*words, run) as process:
        wait_until(lambda: bool(server.asked("GET", "/api/v1/(events|.*/logs)")), "the command follows")
        time.sleep(0.3)  # the request is seen a moment before its answer is read
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Detached. The run goes on." in err
    assert f"runyard cancel {run}" in err
    assert f"runyard {'wait' if words == ['wait'] else 'logs --follow'} {run}" in err
    assert "Traceback" not in err
    assert server.state.runs[run]["state"] == "running"


def test_ctrl_c_elsewhere_is_130(server: ApiServer, cli: Cli) -> None:
    with cli.start("train", "model", "-") as process:
        time.sleep(0.5)  # it reads the manifest from its standard input, which never ends
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert server.state.submissions == []


def test_a_reader_that_leaves_is_no_error(server: ApiServer, cli: Cli) -> None:
    for _ in range(300):
        server.add_run()
    command = f"{BIN / 'runyard'} list --limit 1000 | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=cli.env(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ID")


def test_a_trace_is_shown_only_when_asked_for(nobody: Cli) -> None:
    assert "Traceback" not in nobody("list").stderr
    assert "Traceback" in nobody("list", "--debug").stderr


def test_an_error_as_json(server: ApiServer, cli: Cli) -> None:
    problems = [{"message": "This key is unknown.", "line": 2, "path": "model_definition.nam"}]
    server.refusal = (422, {"code": "invalid_manifest", "detail": "one problem", "problems": problems})
    done = cli("train", "model", "m.yml", "--json")
    assert done.returncode == 4
    assert (
        f'"problems": [{{"message": "This key is unknown.", "line": 2, "path": "{problems[0]["path"]}"}}]'
        in done.stdout
    )
    assert "line 2, model_definition.nam: This key is unknown." in done.stderr


def test_a_file_that_cannot_be_written_is_told(server: ApiServer, cli: Cli, tmp_path: Path) -> None:
    run = server.add_run(state="completed")
    server.state.results[run] = {"a": b"x"}
    (tmp_path / "file").write_text("")
    done = cli("download", run, "--to", "file")
    assert done.returncode == 2
    assert "file" in done.stderr
    assert "Traceback" not in done.stderr
