"""From a folder to runs: uploaded once, swept, and told as values; usable from a notebook."""

import os
import subprocess
from pathlib import Path

import pytest

import runyard
from runyard.client import Client, Misuse, Overrides
from runyard.client.training import Order, check, parameters_of, submit, train
from tests.client.api_server import TOKEN, ApiServer


def test_a_folder_becomes_runs(server: ApiServer, client: Client, model: Path) -> None:
    runs = train(
        model,
        model.parent / "manifest.yml",
        sets={"lr": [0.1, 0.01], "opt": ["sgd"], "width": 16},
        overrides=Overrides(name="sweep", tags=("a",)),
        client=client,
    )
    assert [run.hyper_parameters for run in runs] == [
        {"lr": 0.1, "opt": "sgd", "width": 16},
        {"lr": 0.01, "opt": "sgd", "width": 16},
    ]
    assert {run.name for run in runs} == {"sweep"}
    assert list(server.state.mentions.values()) == ["true"]
    assert server.state.submissions[0]["manifest"] == "model_definition:\n  name: demo\n"
    assert str(server.state.submissions[0]["provenance"]["client"]).startswith("runyard 0.")


def test_the_same_code_is_uploaded_once(server: ApiServer, client: Client, model: Path) -> None:
    for _ in range(3):
        train(model, "model_definition:\n  name: text\n", client=client)
    assert len(server.asked("PUT", ".*/definitions/.*")) == 1
    assert len(server.asked("HEAD", ".*/definitions/.*")) == 3


def test_from_a_notebook(server: ApiServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_URL", server.url)
    monkeypatch.setenv("RUNYARD_TOKEN", TOKEN)
    server.on_submit = server.live
    runs = runyard.train(str(model), str(model.parent / "manifest.yml"), sets=["lr=0.1,0.01"])
    assert [run.state for run in runyard.wait(runs, timeout=30)] == ["completed", "completed"]


def test_strings_stay_strings(server: ApiServer, client: Client, model: Path) -> None:
    runs = train(model, "a:\n b\n", sets={"name": ['a,b "c"\\', "1"], "flag": [True]}, client=client)
    assert [run.hyper_parameters for run in runs] == [
        {"name": 'a,b "c"\\', "flag": True},
        {"name": "1", "flag": True},
    ]


def test_pairs_instead_of_combinations() -> None:
    assert parameters_of(["a=1,2", "b=3,4"], zipped=True) == ({"a": 1, "b": 3}, {"a": 2, "b": 4})
    assert parameters_of([], zipped=False) == ()
    with pytest.raises(Misuse, match="sets nothing"):
        parameters_of(["lr"], zipped=False)


def test_a_dry_run_makes_nothing(server: ApiServer, client: Client, model: Path) -> None:
    checked = check(client, Order(model, "m", sets=("lr=1..3:3",)))
    assert checked.runs == 3
    assert server.state.runs == {}


def test_without_code(server: ApiServer, client: Client) -> None:
    submitted = None
    server.refusal = (409, {"code": "refused", "detail": "no"})
    with pytest.raises(runyard.RunyardError, match="no"):
        submitted = submit(client, Order(None, "m"))
    assert submitted is None
    assert server.asked("PUT", ".*") == []


def test_manifests_that_cannot_be_read(client: Client, model: Path, tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="cannot be read"):
        train(model, tmp_path / "missing.yml", client=client)
    (tmp_path / "latin.yml").write_bytes(b"name: \xe4\n")
    with pytest.raises(Misuse, match="UTF-8"):
        train(model, tmp_path / "latin.yml", client=client)


def git(folder: Path, *words: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    done = subprocess.run(
        ["git", *identity, "-C", str(folder), *words], env=environment, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def test_commit_and_changes_are_told_of_what_is_sent_alone(server: ApiServer, client: Client, model: Path) -> None:
    (model / "private.txt").write_text("one\n")
    git(model.parent, "init", "-q", "-b", "main")
    git(model.parent, "add", ".")
    git(model.parent, "commit", "-q", "-m", "first")
    train(model, "a:\n b\n", client=client)
    (model / "train.py").write_text("print('changed')\n")
    (model / "private.txt").write_text("secret\n")
    (model / ".runyardignore").write_text("private.txt\n")
    train(model, "a:\n b\n", client=client)
    clean, dirty = (each["provenance"] for each in server.state.submissions)
    commit = git(model.parent, "rev-parse", "HEAD")
    assert (clean["git_commit"], clean["git_branch"], clean["git_dirty"]) == (commit, "main", False)
    assert dirty["git_dirty"] is True
    assert "+print('changed')" in dirty["git_diff"]
    assert "secret" not in dirty["git_diff"]
