"""A refused manifest, told of the options that it came from."""

import json
from collections.abc import Mapping

import pytest

from runyard.cli.flags import OptionsRefused, of_options
from runyard.client.errors import ManifestRefused, ProblemReport
from runyard.core.errors import Problem
from tests.cli.calling import Cli
from tests.client.api_server import ApiServer

NAMES = ("name", "gpus", "memory", "framework", "max_runtime", "python", "priority")
MANY = ("override", "tag", "env", "data", "after")
NONE: dict[str, object] = {**dict.fromkeys(NAMES), **dict.fromkeys(MANY, ())}


def refused(*problems: Problem) -> ManifestRefused:
    return ManifestRefused(ProblemReport(422, "invalid_manifest", "", "", problems))


def told(problem: Problem, options: Mapping[str, object] = NONE, *, written: bool = False) -> str:
    return str(of_options(refused(problem), {**NONE, **options}, written=written).problem.problems[0])


@pytest.mark.parametrize(
    ("path", "options", "flag"),
    [
        ("memory", {"memory": "lots"}, "--memory"),
        ("runyard.tags[3]", {"tag": ("a b",)}, "--tag"),
        ("runyard.env", {"env": ("1=2",)}, "--env"),
        ("framework.version", {"framework": "x:1"}, "--framework"),
        ("model_definition.framework.name", {"framework": "x"}, "--framework"),
        ("data_stores[0].training_data.container", {"data": ("..",)}, "--data"),
        ("--data[1]", {"data": ("a", "..")}, "--data"),
        ("runyard.max_runtime", {"max_runtime": "never"}, "--max-runtime"),
        ("memory", {"override": ("gpus=1", "memory=lots")}, "--override memory"),
        ("runyard.after[0]", {"override": ("runyard.after=[1]",)}, "--override runyard.after"),
    ],
)
def test_each_key_has_its_option(path: str, options: dict[str, object], flag: str) -> None:
    assert told(Problem("Not so.", 0, path), options) == f"{flag}: Not so."


def test_what_nobody_asked_for_keeps_its_path() -> None:
    assert told(Problem("Not so.", 0, "memory")) == "memory: Not so."
    assert told(Problem("Not so.", 0, "memory_of"), {"override": ("memory=1",)}) == "memory_of: Not so."


def test_a_line_of_the_callers_own_manifest_is_told() -> None:
    assert told(Problem("Not so.", 5, "gpus"), {"gpus": 3}) == "line 5, gpus: Not so."
    assert told(Problem("Not so.", 5, "gpus"), {"gpus": 3}, written=True) == "--gpus: Not so."
    assert told(Problem("Not so.", 5, "cpus"), written=True) == "cpus: Not so.", "nobody has seen that manifest"


def test_what_the_whole_is_called() -> None:
    options = {**NONE, "memory": "lots"}
    both = refused(Problem("Not so.", 5, "memory"), Problem("Nor this.", 6, "command"))
    assert type(of_options(both, options, written=True)) is ManifestRefused
    one = of_options(refused(Problem("Not so.", 5, "memory")), options, written=True)
    assert type(one) is OptionsRefused
    assert str(one) == "What was asked for cannot be accepted:\n  --memory: Not so."


@pytest.mark.parametrize("extra", [[], ["--dry-run"]])
def test_run_names_the_flag(server: ApiServer, cli: Cli, extra: list[str]) -> None:
    problems = [{"message": "This is no size.", "line": 5, "path": "memory"}]
    server.refusal = (422, {"code": "invalid_manifest", "detail": "", "problems": problems})
    done = cli("run", "--memory", "lots", "--json", "--force", *extra, "--", "true")
    assert done.returncode == 4
    assert done.stderr.endswith("error: What was asked for cannot be accepted:\n  --memory: This is no size.\n")
    document = json.loads(done.stdout)["error"]
    assert document["problems"] == [{"message": "This is no size.", "line": 0, "path": "--memory"}]
