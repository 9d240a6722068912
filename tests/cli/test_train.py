"""``train``: either order, every option in the request, and staying until the end."""

import json

import pytest

from tests.cli.calling import Cli
from tests.client.api_server import ApiServer
from tests.support.waiting import wait_until


@pytest.mark.parametrize("words", [["model", "m.yml"], ["m.yml", "model"], ["training-runs", "model", "m.yml"]])
def test_either_order(server: ApiServer, cli: Cli, words: list[str]) -> None:
    done = cli("train", *words)
    assert done.returncode == 0
    assert done.stdout.splitlines() == list(server.state.runs)
    assert "1 file, " in done.stderr
    assert f"runyard logs --follow {done.stdout.strip()}" in done.stderr
    assert "note: CPUs are scaled to this machine." in done.stderr
    assert server.state.submissions[0]["manifest"] == "model_definition:\n  name: demo\n"


def test_a_zip_and_a_manifest_from_stdin(server: ApiServer, cli: Cli) -> None:
    import zipfile  # noqa: PLC0415  # only here

    with zipfile.ZipFile(cli.folder / "code.zip", "w") as archive:
        archive.writestr("train.py", "print()")
    done = cli("train", "-", "code.zip", stdin="name: from stdin\n")
    assert done.returncode == 0
    assert server.state.submissions[0]["manifest"] == "name: from stdin\n"
    assert list(server.state.definitions.values()) == [(cli.folder / "code.zip").read_bytes()]


def test_every_option_is_sent(server: ApiServer, cli: Cli) -> None:
    earlier = server.add_run()
    done = cli(
        "train", "model", "m.yml", "--set", "lr=0.1,0.2", "--set", "w=1,2", "--zip", "--args", "--env", "A=b=c",
        "--override", "model_definition.name=x", "--framework", "pytorch:2", "--python", "/usr/bin/python3",
        "--gpus", "2", "--name", "n", "--tag", "t1", "--tag", "t2", "--priority", "70", "--after", "last",
        "--max-runtime", "2h", "--data", "bucket/prefix", "--idempotency-key", "key1", "--force",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sent = server.state.submissions[0]
    assert sent["parameters"] == [{"lr": 0.1, "w": 1}, {"lr": 0.2, "w": 2}]
    assert (sent["append_args"], sent["force"]) == (True, True)
    assert sent["overrides"] == {
        "name": "n", "tags": ["t1", "t2"], "priority": 70, "max_runtime": "2h", "gpus": 2, "framework": "pytorch:2",
        "env": {"A": "b=c"}, "after": [earlier], "python": "/usr/bin/python3", "data": ["bucket/prefix"],
        "paths": {"model_definition.name": "x"},
    }  # fmt: skip
    assert server.asked("POST", "/api/v1/training-runs")[0].headers["idempotency-key"] == "key1"
    again = cli("train", "model", "m.yml", "--idempotency-key", "key1")
    assert again.stdout == done.stdout
    assert "used before" in again.stderr


def test_a_sweep_prints_its_ids(server: ApiServer, cli: Cli) -> None:
    done = cli("train", "model", "m.yml", "--set", "lr=0.1,0.01,0.001", "--set", "w=1..2:2")
    assert done.stdout.split() == list(server.state.runs)
    assert len(done.stdout.split()) == 6
    done = cli("train", "model", "m.yml", "--json")
    assert json.loads(done.stdout) == {"ids": list(server.state.runs)[6:]}


def test_a_folder_of_data_is_sent_first(server: ApiServer, cli: Cli) -> None:
    (cli.folder / "my data").mkdir()
    (cli.folder / "my data" / "a.csv").write_text("1")
    assert cli("train", "model", "m.yml", "--data", "./my data").returncode == 0
    assert server.state.objects == {"my-data": {"a.csv": b"1"}}
    assert server.state.submissions[0]["overrides"]["data"] == ["my-data"]
    again = cli("train", "model", "m.yml", "--data", "my data")
    assert "Sent 0 files" in again.stderr
    assert "1 are there unchanged" in again.stderr


def test_a_dry_run(server: ApiServer, cli: Cli) -> None:
    done = cli("train", "model", "m.yml", "--set", "lr=1,2", "--dry-run")
    assert done.returncode == 0
    assert "each with  1 GPU, 4 CPU, 8 GB" in done.stdout
    assert "Nothing was submitted." in done.stderr
    assert server.state.runs == {}
    assert json.loads(cli("train", "model", "m.yml", "--dry-run", "--json").stdout)["runs"] == 1


def test_one_run_is_followed_with_its_log(server: ApiServer, cli: Cli) -> None:
    server.on_submit = lambda run: server.live(run, log="epoch 1\nepoch 2\n")
    done = cli("train", "model", "m.yml", "--follow")
    run = next(iter(server.state.runs))
    assert done.returncode == 0
    assert done.stdout == f"{run}\nepoch 1\nepoch 2\n"
    assert f"{run}: completed after " in done.stderr
    assert "cost 0.0012" in done.stderr


def test_a_failed_run_says_what_to_do(server: ApiServer, cli: Cli) -> None:
    server.on_submit = lambda run: server.live(run, "failed", log="oops\n")
    done = cli("train", "model", "m.yml", "-f")
    assert done.returncode == 1
    assert "runyard show" in done.stderr
    assert "failed after" in done.stderr
    assert "It is failed." in done.stderr


@pytest.mark.parametrize("option", ["--wait", "--follow"])
def test_several_runs_are_waited_for(server: ApiServer, cli: Cli, option: str) -> None:
    endings = {0.1: "completed", 0.2: "failed"}

    def live(run: str) -> None:
        server.live(run, endings[server.state.runs[run]["hyper_parameters"]["lr"]])

    server.on_submit = live
    done = cli("train", "model", "m.yml", "--set", "lr=0.1,0.2", option)
    one, two = server.state.runs
    assert done.returncode == 1
    assert done.stdout.split() == [one, two]
    assert "STATE" in done.stderr
    assert "\x1b" not in done.stderr
    header, first, second, fetch = (line.split() for line in done.stderr.splitlines()[-4:])
    assert header[:3] == ["ID", "STATE", "lr"]
    assert [first[:3], second[:3]] == [[one, "completed", "0.1"], [two, "failed", "0.2"]]
    assert fetch == ["fetch:", "runyard", "download", one]


def test_staying_as_json_is_one_document(server: ApiServer, cli: Cli) -> None:
    server.on_submit = server.live
    done = cli("train", "model", "m.yml", "--wait", "--json")
    document = json.loads(done.stdout)
    assert document["ids"] == list(server.state.runs)
    assert document["runs"][0]["state"] == "completed"
    followed = cli("train", "model", "m.yml", "--follow", "--json")
    assert json.loads(followed.stdout) == {"ids": list(server.state.runs)[1:]}
    assert "hello" in followed.stderr


def test_what_is_left_out_is_told(cli: Cli) -> None:
    (cli.folder / "model" / "out").symlink_to("/etc")
    assert "note: left out out: the link leads out of the folder" in cli("train", "model", "m.yml").stderr


def test_progress_on_a_terminal(server: ApiServer, cli: Cli) -> None:
    def live(run: str) -> None:
        wait_until(lambda: bool(server.asked("GET", "/api/v1/events")), "the command waits")
        server.live(run)

    server.on_submit = live
    code, text = cli.on_terminal("train", "model", "m.yml", "--set", "lr=1,2", "--wait")
    assert code == 0
    assert "\r\x1b[K" in text
    assert "2 waiting" in text
    assert "2 completed" in text
    assert text.count("training-") >= 4
