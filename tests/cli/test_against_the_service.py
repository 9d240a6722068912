"""The command line and the real service, started and stopped as people do it."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.calling import Cli
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]

MANIFEST = """
model_definition:
  name: story
  framework: {name: python}
  execution:
    command: python3 train.py
    compute_configuration: {name: small}
training_data_reference: {name: d, source: {bucket: numbers}, type: local}
training_results_reference: {name: r, target: {bucket: results}, type: local}
"""
PROGRAM = """
import json, os, time
data = os.environ["DATA_DIR"]
print("sum", sum(int(open(os.path.join(data, name)).read()) for name in os.listdir(data)))
settings = json.load(open("config.json")) if os.path.exists("config.json") else {}
for step in range(settings.get("steps", 1)):
    print("step", step, flush=True)
    time.sleep(0.1)
os.makedirs(os.path.join(os.environ["RESULT_DIR"], "model"), exist_ok=True)
open(os.path.join(os.environ["RESULT_DIR"], "model", "weights"), "w").write(str(settings))
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A command line whose home has a service that runs."""
    folder = tmp_path_factory.mktemp("story")
    cli = Cli(folder)
    (folder / "code").mkdir()
    (folder / "code" / "train.py").write_text(PROGRAM)
    (folder / "m.yml").write_text(MANIFEST)
    (folder / "numbers").mkdir()
    for number in (1, 2, 3):
        (folder / "numbers" / f"{number}.txt").write_text(str(number))
    up = cli("up", "--detach", "--port", "0", "--fake-gpus", "2")
    try:
        assert up.returncode == 0, up.stderr
        assert cli("data", "push", "numbers", "numbers").returncode == 0
        yield cli
    finally:
        down = cli("down", "--cancel-runs")
    assert down.returncode == 0, down.stderr


def test_from_a_folder_to_a_model(real: Cli, tmp_path: Path) -> None:
    done = real("train", "code", "m.yml", "--set", "steps=3", "--tag", "one", "--follow")
    run, *log = done.stdout.splitlines()
    assert (done.returncode, log) == (0, ["sum 6", "step 0", "step 1", "step 2"]), done.stderr
    document = json.loads(real("show", run[9:14], "--json").stdout)
    assert (document["state"], document["exit_code"], document["tags"]) == ("completed", 0, ["one"])
    assert real("download", "tag:one", "--to", str(tmp_path), "--only", "model").returncode == 0
    assert (tmp_path / run / "model" / "weights").read_text() == "{'steps': 3}"
    assert real("logs", run, "--tail", "1").stdout == "step 2\n"
    assert [each["kind"] for each in json.loads(real("events", run, "--json").stdout)][-1] == "finished"
    assert real("delete", run, "--with-results").returncode == 0
    assert real("show", run).returncode == 4


def test_a_sweep_is_waited_for(real: Cli) -> None:
    done = real("train", "m.yml", "code", "--set", "steps=1,2", "--set", "seed=1,2", "--wait", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert [run["state"] for run in document["runs"]] == ["completed"] * 4
    assert [run["id"] for run in document["runs"]] == document["ids"]
    usage = json.loads(real("usage", "--json").stdout)
    assert usage["total"]["attempts"] >= 4


def test_a_canceled_run_exits_with_3(real: Cli) -> None:
    run = real("train", "code", "m.yml", "--set", "steps=600").stdout.strip()
    wait_until(lambda: json.loads(real("show", run, "--json").stdout)["state"] == "running", "the program runs")
    assert real("cancel", run).stdout == f"{run}\n"
    assert real("wait", run, "--timeout", "60").returncode == 3


def test_following_outlives_the_server(real: Cli) -> None:
    with real.start("train", "code", "m.yml", "--set", "steps=60", "--follow") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        os.kill(server_process(real.folder / "home"), signal.SIGKILL)
        rest, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert ("".join(lines) + rest).splitlines()[1:] == ["sum 6", *(f"step {step}" for step in range(60))]


def server_process(home: Path) -> int:
    """The server of this installation: the one that was started with its home."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if "runyard.server" in words and str(home) in words:
                return int(folder.name)
    raise LookupError(f"no server of {home}")


def test_what_the_service_refuses(real: Cli) -> None:
    (real.folder / "bad.yml").write_text("model_definition:\n  nam: x\n")
    done = real("train", "code", "bad.yml")
    assert done.returncode == 4
    assert "line 2, model_definition.nam" in done.stderr
    assert real("train", "code", "m.yml", "--gpus", "64").returncode == 4
    assert real("train", "code", "m.yml", "--data", "no-such-bucket").returncode == 4


def test_the_rest_answers(real: Cli) -> None:
    assert real("status").returncode == 0
    assert real("queue", "pause").returncode == 0
    assert json.loads(real("queue", "--json").stdout)["account_paused"] is True
    assert real("queue", "resume").returncode == 0
    assert json.loads(real("quota", "set", "default", "--gpus", "2", "--json").stdout)["gpus"] == 2
    assert real("quota", "set", "default", "--gpus", "none").returncode == 0
    token = real("tokens", "add", "ci").stdout.strip()
    url = (real.folder / "home" / "url").read_text().strip()
    elsewhere = Cli(real.folder, {"RUNYARD_URL": url, "RUNYARD_TOKEN": token, "RUNYARD_HOME": "/nonexistent"})
    assert elsewhere("list").returncode == 0
    assert elsewhere("quota", "set", "default", "--gpus", "1").returncode == 4
    assert real("connections", "add", "here", "--type", "s3", "--endpoint-url", "http://127.0.0.1:1").returncode == 0
    assert [each["name"] for each in json.loads(real("connections", "list", "--json").stdout)] == ["here"]
    assert real("connections", "rm", "here").returncode == 0
    assert real("generate-manifest").stdout.startswith("#")
    assert real("doctor", "--json").returncode in (0, 1)


def test_secrets_come_from_stdin_and_are_never_shown(real: Cli) -> None:
    value = "sesame-open-0123456789"
    done = real("secrets", "add", "CLI_TOKEN", stdin=value + "\n")
    assert (done.returncode, done.stdout) == (0, "CLI_TOKEN\n")
    for words in (["list"], ["list", "--json"]):
        done = real("secrets", *words)
        assert "CLI_TOKEN" in done.stdout
        assert value not in done.stdout + done.stderr
    assert real("secrets", "add", "CLI_TOKEN", stdin="\n").returncode == 2
    assert real("secrets", "add", "CLI_TOKEN", value).returncode == 2
    assert real("secrets", "add", "DATA_DIR", stdin=value).returncode == 4
    assert real("secrets", "rm", "CLI_TOKEN").returncode == 0
    assert real("secrets", "rm", "CLI_TOKEN").returncode == 4
