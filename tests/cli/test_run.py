"""``run``: what is sent for a command in a folder, what is told of it, and how it refuses."""

import json
import os

import pytest

from tests.cli.calling import Cli
from tests.client.api_server import ApiServer


@pytest.fixture
def here(cli: Cli) -> Cli:
    """The command line in a folder with a program."""
    (cli.folder / "train.py").write_text("print()\n")
    cli.environment |= {"HOME": "/nowhere", "RUNYARD_HOME": str(cli.folder.parent)}
    return cli


def test_a_command_becomes_a_manifest(server: ApiServer, here: Cli) -> None:
    done = here("run", "--", "python3", "train.py", "--lr", "0.1", "--follow", "a b")
    assert done.returncode == 0, done.stderr
    (sent,) = server.state.submissions
    assert sent["manifest"] == (
        f"# Written by `runyard run --save`.\nname: {here.folder.name}\ngpus: 1\ncpus: 4\nmemory: 16384MiB\n"
        "framework:\n"
        "  command: \"python3 train.py --lr 0.1 --follow 'a b'\"\n"
    )
    assert done.stdout.split() == list(server.state.runs)
    for told in (
        "Command: python3 train.py --lr",
        "may be another machine",
        "1 GPU, 4 CPUs, 16 GB",
        "bucket `results`",
    ):
        assert told in done.stderr


def test_what_is_said_is_not_inferred(server: ApiServer, here: Cli) -> None:
    done = here(
        "run", "--gpus", "0", "--cpus", "0.5", "--memory", "2Gb", "--name", "x", "--env", "A=b", "--tag", "t",
        "--priority", "70", "--max-runtime", "1h", "--framework", "pytorch:2", "--data", "bucket/a", "--set", "lr=1,2",
        "--args", "--override", "cpus=1", "--after", server.add_run(), "--idempotency-key", "k", "--",
        "python a.py | tee x",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (sent,) = server.state.submissions
    for line in (
        "name: x", "gpus: 0", "cpus: 0.5", "memory: 2Gb", "  name: pytorch", '  version: "2"', "  tags: [t]",
        "    A: b",
        '  command: "python a.py | tee x"', "  priority: 70", '  max_runtime: "1h"',
        '    training_data: {container: bucket/a}',
    ):  # fmt: skip
        assert line in sent["manifest"].splitlines(), line
    assert sent["overrides"]["paths"] == {"cpus": "1"}
    assert sent["parameters"] == [{"lr": 1}, {"lr": 2}]
    assert sent["append_args"] is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "There is no command to run. For example: runyard run --set"),
        (["run", "--"], "There is no command to run."),
        (["run", "--", " "], "There is no command to run."),
        (
            ["run", "--args", "python3", "train.py"],
            "Put `--` before the command: runyard run --args -- python3 train.py",
        ),
        (["run", "--save", "-", "--", "true"], "needs --dry-run"),
        (["run", "--cpus", "0", "--", "true"], "--cpus"),
        (["run", "--data", "", "--", "true"], "it is empty"),
    ],
)
def test_wrong_usage_is_2(server: ApiServer, here: Cli, words: list[str], said: str) -> None:
    done = here(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert server.state.submissions == []


def test_a_home_is_no_model_definition(server: ApiServer, here: Cli) -> None:
    here.environment["HOME"] = str(here.folder)
    done = here("run", "--", "true")
    assert done.returncode == 2
    assert "would be sent as the code" in done.stderr
    assert here("run", "--force", "--", "true").returncode == 0


def test_saving(server: ApiServer, here: Cli) -> None:
    done = here("run", "--dry-run", "--save", "-", "--", "python3", "train.py")
    assert done.stdout.startswith("# Written by")
    assert here("run", "--dry-run", "--save", "saved.yml", "--set", "lr=1,2", "--args", "--", "true").returncode == 0
    assert server.state.submissions == []
    done = here("run", "--save", "saved.yml", "--set", "lr=1,2", "--args", "--", "true")
    assert "The same again: runyard train . saved.yml --set lr=1,2 --args" in done.stderr
    assert (here.folder / "saved.yml").read_text() == server.state.submissions[0]["manifest"]


def test_a_program_that_is_not_there_is_warned_of(here: Cli) -> None:
    done = here("run", "--", "no-such-program")
    assert done.returncode == 0
    assert "warning: `no-such-program` is not found here" in done.stderr


def test_nobody_there_says_how_to_start_one(nobody: Cli) -> None:
    nobody.environment["HOME"] = "/nowhere"
    done = nobody("run", "--", "true")
    assert (done.returncode, done.stdout) == (5, "")
    assert "`runyard up --detach` starts one" in done.stderr


def test_json_is_one_document(here: Cli) -> None:
    done = here("run", "--json", "--set", "lr=1,2", "--args", "--", "true")
    assert len(json.loads(done.stdout)["ids"]) == 2


def test_ids_and_tags_are_completed_at_once(server: ApiServer, cli: Cli) -> None:
    runs = [server.add_run(tags=["base", "x"]) for _ in range(3)]
    best = 99.0
    for line in ("runyard show tr", "runyard train . m.yml --after tr", "runyard queue move tr"):
        words = line.split()
        cli.environment |= {
            "_RUNYARD_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
        }  # fmt: skip
        before = os.times()
        offered = cli().stdout.split()
        after = os.times()
        best = min(best, after.children_user + after.children_system - before.children_user - before.children_system)
        assert set(offered) == {f"plain,{run}" for run in runs}
    cli.environment |= {"COMP_WORDS": "runyard show t", "COMP_CWORD": "2"}
    assert {"plain,tag:base", "plain,tag:x"} <= set(cli().stdout.split())
    assert best < 0.3
