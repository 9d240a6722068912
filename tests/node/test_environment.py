"""What a program sees, by a program that says so."""

import json
import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard.node.environment import PASSED_ON, merged_config
from runyard.node.environments.interpreter import find_interpreter
from runyard.wire import facts
from tests.node.nodes import RUN, NodeProcess, launch_of, run_to_end, running_node, stage_of

SECRET = "s3cr3t-Zq8vT1"
LEAKED = "l3aked-Xw2"
TELL = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    own = {"AWS_SECRET_ACCESS_KEY": LEAKED, "RUNYARD_TOKEN": LEAKED, "MY_PASSWORD": LEAKED, "TZ": "Europe/Berlin"}
    with running_node(tmp_path, env=own) as running:
        yield running


def seen_by(node: NodeProcess, **order: Any) -> dict[str, str]:
    exited = run_to_end(node, "python3 tell.py", {"tell.py": TELL}, **order)
    assert exited.exit_code == 0, node.server.log(RUN)
    return json.loads(node.server.log(RUN).splitlines()[0])


def test_the_table_of_variables(node: NodeProcess) -> None:
    seen = seen_by(node, slots=(1,), cpu_millis=2500)
    own = node.attempt() / "own"
    who = "user-50001" if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    expected = {
        "DATA_DIR": str(node.home / "no-data"),
        "RESULT_DIR": str(own / "result"),
        "CHECKPOINT_DIR": str(node.home / "runs" / RUN / "checkpoints"),
        "MODEL_DIR": str(own / "work"),
        "LOG_DIR": str(own / "logs"),
        "JOB_STATE_DIR": str(own / "state"),
        "TRAINING_ID": RUN,
        "TRAINING_JOB": "demo",
        "TRAINING_COMMAND": "python3 tell.py",
        "LEARNER_ID": "1",
        "NUM_LEARNERS": "1",
        "LEARNER_NAME_PREFIX": "learner",
        "MASTER_ADDR": "127.0.0.1",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "GPU_COUNT": "1",
        "CUDA_VISIBLE_DEVICES": "1",
        "PYTHONPATH": str(own / "work"),
        "RUNYARD_METRICS": str(own / "state" / "metrics.jsonl"),
        "PYTHONUNBUFFERED": "1",
        "HOME": str(own / "home"),
        "TMPDIR": str(own / "tmp"),
        "USER": who,
        "LOGNAME": who,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "2",
        "TZ": "Europe/Berlin",
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert 1024 <= int(seen["MASTER_PORT"]) < 65536
    of_bash = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert set(seen) - set(expected) <= {"MASTER_PORT", "PATH", "CUDA_DEVICE_ORDER", *PASSED_ON, *of_bash}


def test_nothing_of_the_nodes_own_environment_leaks(node: NodeProcess) -> None:
    assert LEAKED not in json.dumps(seen_by(node))


def test_what_the_manifest_sets_reaches_the_program_but_does_not_misplace_it(node: NodeProcess) -> None:
    env = {"K": "V", "OMP_NUM_THREADS": "7", "PYTHONPATH": "/opt/lib", "RESULT_DIR": "/etc"}
    seen = seen_by(node, env=env)
    assert (seen["K"], seen["OMP_NUM_THREADS"]) == ("V", "7")
    own = node.attempt() / "own"
    assert seen["PYTHONPATH"] == f"{own}/work:/opt/lib"
    assert seen["RESULT_DIR"] == str(own / "result")


def test_a_secret_reaches_the_program_alone(node: NodeProcess) -> None:
    assert seen_by(node, secret_env={"API_KEY": SECRET}, env={"SHOWN": "yes"})["API_KEY"] == SECRET
    found = files_with(node.home, SECRET)
    # the program itself printed it; nothing else may have it
    assert found == [node.attempt() / "training-log.txt"]
    assert "API_KEY" in (node.attempt() / "order.json").read_text()
    assert SECRET not in node.said()


def files_with(folder: Path, text: str) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes())


@pytest.mark.skipif(os.geteuid() != 0, reason="user ids are given out by root alone")
def test_the_program_has_a_user_of_its_own_and_owns_its_folders_alone(node: NodeProcess) -> None:
    look = 'id -u; stat -c %u . "$RESULT_DIR" "$CHECKPOINT_DIR"; cat ../../order.json ../../../../../node.lock || true'
    exited = run_to_end(node, look, {"a.py": "1"}, member=3)
    lines = node.server.log(RUN).decode().splitlines()
    assert lines[:4] == ["50003"] * 4
    # closed, or (where a parent of the node's folder is closed to its user) not even there
    assert all("Permission denied" in line or "No such file" in line for line in lines[4:6]), lines
    assert len(lines) == 6
    assert exited.tamper_proof
    own = node.attempt() / "own"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert own.stat().st_uid == 50003
    assert node.attempt().stat().st_uid == 0


def test_python_is_the_nodes_own_and_finds_its_packages_and_the_code(node: NodeProcess) -> None:
    files = {"train.py": "import helper, msgspec, sys; print(sys.version_info[:2], helper.X)", "helper.py": "X = 5"}
    assert run_to_end(node, "cd / && python $MODEL_DIR/train.py", files).exit_code == 0
    assert b" 5\n" in node.server.log(RUN)


def test_an_interpreter_without_the_short_name_gets_a_folder_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "bin with blank").mkdir()
    executable = tmp_path / "bin with blank" / "python3.11"
    executable.write_text('#!/bin/sh\necho "called $@"\n')
    executable.chmod(0o755)
    found = find_interpreter(str(tmp_path), str(executable))
    for name in ("python", "python3"):
        said = subprocess.run([f"{found.folder}/{name}", "-c", "x y"], capture_output=True, text=True, check=True)
        assert said.stdout == "called -c x y\n"
    assert found.folder in found.visible
    assert str(tmp_path / "bin with blank") in found.visible


def test_an_order_that_makes_no_sense_ends_as_a_launch_that_failed(tmp_path: Path) -> None:
    with running_node(tmp_path, flawless=False) as node:
        node.server.give(launch_of(stage_of(node.server, {}), "true", parameters="[1"))
        assert "mistake in the node" in (node.server.wait_for(facts.Exited).launch_error or "")


def test_a_failing_part_of_a_pipe_fails_the_run(node: NodeProcess) -> None:
    assert run_to_end(node, "false | cat; echo not reached").exit_code == 1
    assert b"not reached" not in node.server.log(RUN)


@pytest.mark.parametrize(
    ("parameters", "existing", "expected"),
    [
        ("{}", None, None),
        ("{}", b'{"a": 1}', None),
        ('{"a": 2}', None, {"a": 2}),
        ('{"a": 2}', b'{"a": 1, "b": [1]}', {"a": 2, "b": [1]}),
        ('{"a": 2}', b"[1, 2]", {"a": 2}),
        ('{"a": "\xe4"}', b"not json \xff", {"a": "\xe4"}),
    ],
)
def test_config_json(parameters: str, existing: bytes | None, expected: object) -> None:
    text = merged_config(parameters, existing)
    assert (None if text is None else json.loads(text)) == expected
