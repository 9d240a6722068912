"""Queue, quota, bill, data, access, manifests: each command once in words and once as JSON."""

import json

import pytest

from tests.cli.calling import Cli
from tests.client.api_server import ApiServer


def test_queue(server: ApiServer, cli: Cli) -> None:
    assert "Nothing waits." in cli("queue").stderr
    run = server.add_run()
    assert cli("queue", "pause").stderr.startswith("The queue is held")
    done = cli("queue")
    assert "The queue is held" in done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == ["1", run]
    assert json.loads(cli("queue", "--json").stdout)["waiting"] == 1
    assert json.loads(cli("queue", "resume", "--all", "--json").stdout) == {"paused": False}
    assert json.loads(server.asked("POST", ".*/resume")[0].body) == {"all": True}
    assert cli("queue", "move", "last", "1").stdout == f"{run}\n"
    assert server.state.moved == [(run, 1)]


def test_quota(server: ApiServer, cli: Cli) -> None:
    assert "1 of 1" in cli("quota", "show").stdout
    assert "as many as there are" in cli("quota", "set", "default", "--gpus", "none").stdout
    assert server.state.quota == {"default": None}
    assert json.loads(cli("quota", "set", "default", "--gpus", "3", "--json").stdout)["gpus"] == 3
    assert cli("quota", "show", "unknown").returncode == 4


def test_usage(server: ApiServer, cli: Cli) -> None:
    lines = cli("usage", "--by", "user", "--since", "7d").stdout.splitlines()
    assert lines[0].split() == ["USER", "RUNS", "ATTEMPTS", "GPU-SECONDS", "CPU-SECONDS", "GB-SECONDS", "COST", "WASTE"]
    assert lines[1].split() == ["default", "2", "3", "12.5", "50.0", "150.0", "0.012300", "1.0"]
    assert lines[2].split()[0] == "total"
    assert "T" in server.asked("GET", ".*/usage")[0].query["since"][0]
    csv = cli("usage", "--csv").stdout.splitlines()
    assert csv[0] == "group,runs,attempts,gpu_seconds,cpu_seconds,gb_seconds,cost,waste_gpu_seconds"
    assert csv[1] == "default,2,3,12.5,50.0,150.0,0.012300,1.0"
    assert json.loads(cli("usage", "--json").stdout)["total"]["runs"] == 2


def test_data(server: ApiServer, cli: Cli) -> None:
    (cli.folder / "d" / "sub").mkdir(parents=True)
    (cli.folder / "d" / "sub" / "a.csv").write_text("12")
    (cli.folder / "d" / "b.csv").write_text("3")
    assert cli("data", "push", "d", "bucket/in").stdout.split() == ["bucket/in/b.csv", "bucket/in/sub/a.csv"]
    assert cli("data", "ls").stdout == "bucket\n"
    assert "in/sub/a.csv" in cli("data", "ls", "bucket").stdout
    assert json.loads(cli("data", "ls", "--json").stdout) == [{"name": "bucket"}]
    assert [each["size"] for each in json.loads(cli("data", "ls", "bucket/in", "--json").stdout)] == [1, 2]
    assert cli("data", "pull", "bucket/in", "back").stdout.split() == ["back/b.csv", "back/sub/a.csv"]
    assert (cli.folder / "back" / "sub" / "a.csv").read_text() == "12"
    assert cli("data", "pull", "bucket/nothing", "back").returncode == 2
    assert cli("data", "rm", "bucket/in/b.csv").stderr == "Removed 1 object.\n"
    assert cli("data", "rm", "bucket/in/b.csv").returncode == 4
    assert json.loads(cli("data", "rm", "-r", "bucket", "--json").stdout) == {"removed": 1}
    assert server.state.objects == {"bucket": {}}


def test_connections(server: ApiServer, cli: Cli) -> None:
    done = cli(
        "connections", "add", "minio", "--endpoint-url", "http://s3", "--access-key-id", "AK", "--secret-stdin",
        stdin="hidden\n",
    )  # fmt: skip
    assert done.stdout == "minio\n"
    assert server.state.connections["minio"] == {
        "name": "minio", "type": "s3", "endpoint_url": "http://s3", "access_key_id": "AK",
        "secret_access_key": "hidden",
    }  # fmt: skip
    listed = cli("connections", "list")
    assert "minio" in listed.stdout
    assert "hidden" not in listed.stdout + listed.stderr + done.stderr
    assert cli("list", "connections").stdout == listed.stdout
    assert cli("connections", "rm", "minio").returncode == 0
    assert json.loads(cli("connections", "list", "--json").stdout) == []


def test_a_secret_is_never_asked_for_off_a_terminal(cli: Cli) -> None:
    done = cli("connections", "add", "minio", "--access-key-id", "AK", stdin="")
    assert done.returncode == 2
    assert "AWS_SECRET_ACCESS_KEY" in done.stderr


def test_a_secret_from_the_environment(server: ApiServer, cli: Cli) -> None:
    cli.environment |= {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "hidden"}
    assert cli("connections", "add", "aws").returncode == 0
    assert server.state.connections["aws"]["secret_access_key"] == "hidden"


def test_tokens(cli: Cli) -> None:
    done = cli("tokens", "add", "laptop", "--scope", "admin", "--expires-in-days", "3")
    assert done.stdout == "ryd_new-t1\n"
    assert "shown only now" in done.stderr
    listed = cli("tokens", "list").stdout
    assert listed.splitlines()[1].split()[:4] == ["t1", "laptop", "owner", "admin"]
    assert "ryd_new" not in listed
    assert cli("tokens", "rm", "t1").returncode == 0
    assert json.loads(cli("tokens", "list", "--json").stdout) == []


def test_accounts(cli: Cli) -> None:
    assert cli("accounts", "list").stdout.splitlines()[1].split() == ["default", "default", "free", "no", "limit"]
    assert json.loads(cli("accounts", "list", "--json").stdout)[0]["id"] == "default"


@pytest.mark.parametrize("words", [[], ["training-runs"], ["training-run"]])
def test_a_manifest_to_start_from(cli: Cli, words: list[str]) -> None:
    assert cli("generate-manifest", *words).stdout == "model_definition:\n  name: my-model\n"


def test_the_older_services_words(server: ApiServer, cli: Cli) -> None:
    server.on_submit = lambda run: server.live(run, "failed")
    done = cli("train", "model", "m.yml", program="ml")
    run = next(iter(server.state.runs))
    assert done.stdout == f"Model-ID is '{run}'\n"
    server.state.runs[run]["state"] = "failed"
    listed = cli("list", "training-runs", program="ml").stdout
    assert listed.splitlines()[1].split()[2] == "error"
    server.add_run()
    assert cli("list", program="ml").stdout.splitlines()[1].split()[2] == "pending"
    assert "ml explain" in cli("show", "last", program="ml").stderr
    assert json.loads(cli("show", "last", "--json", program="ml").stdout)["state"] == "waiting"
    assert cli("monitor", "training-runs", run, "logs", program="ml").returncode == 1


def test_a_budget_a_weight_and_a_window(server: ApiServer, cli: Cli) -> None:
    done = cli("quota", "set", "default", "--gpu-hours", "10", "--money", "12.50", "--per-week", "--weight", "3")
    assert "budget" in done.stdout
    assert "10 GPU-hours and 12.5 of money a week: 10 % is used." in done.stdout
    assert server.state.part["budget"]["money"] == "12.50"
    assert server.state.part["weight"] == 3.0
    assert "weight 1" in cli("quota", "show").stdout
    assert cli("quota", "set", "default", "--window", "22:00-06:00").returncode == 0
    assert server.state.part["window"] == "22:00-06:00"
    assert "22:00-06:00" in cli("quota", "show").stdout
    assert "budget" not in cli("quota", "set", "default", "--gpu-hours", "none", "--window", "none").stdout
    assert json.loads(cli("quota", "set", "default", "--money", "1", "--json").stdout)["budget"]["per"] == "month"


@pytest.mark.parametrize(
    "words", [[], ["--per", "week"], ["--warn", "5"], ["--gpu-hours", "many"], ["--weight", "x"], ["--warn", "0"]]
)
def test_a_quota_that_says_nothing_is_wrong_usage(cli: Cli, words: list[str]) -> None:
    assert cli("quota", "set", "default", *words).returncode == 2


def test_machines(server: ApiServer, cli: Cli) -> None:
    assert "open" in cli("nodes", "list").stdout.splitlines()[1]
    assert json.loads(cli("nodes", "list", "--json").stdout)[0]["node"]["id"] == "n1"
    done = cli("nodes", "drain", "big", "--preempt")
    assert (done.stdout, done.stderr) == (
        "n1\n",
        "big: nothing new starts on it; 2 runs on it are asked to make room.\n",
    )
    assert "left to end" in cli("nodes", "drain", "big").stderr
    assert cli("nodes", "resume", "big").stderr == "big: runs start on it again.\n"
    told = [("big", "drain", {"preempt": True}), ("big", "drain", {}), ("big", "resume", {})]
    assert server.state.drained == told
    assert json.loads(cli("nodes", "drain", "big", "--json").stdout)["draining_since"]


def test_another_priority(server: ApiServer, cli: Cli) -> None:
    run = server.add_run()
    done = cli("queue", "priority", run, "80")
    assert done.stdout == f"{run}\n"
    assert "has priority 80 now, at place 1." in done.stderr
    assert server.state.runs[run]["priority"] == 80
    assert json.loads(cli("queue", "priority", run, "70", "--json").stdout)["priority"] == 70
    assert cli("queue", "priority", run, "101").returncode == 2
