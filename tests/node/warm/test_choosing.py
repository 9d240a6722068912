"""Which way a program is started, and that a forked one's environment is that which bash leaves."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from runyard.node.environments.interpreter import Interpreter
from runyard.node.home import AttemptFolder
from runyard.node.prepare import Prepared
from runyard.node.warm.choosing import Fork, as_bash_leaves_it, choose, found_in
from runyard.wire.orders import Launch, Place, Stage, Warm

RUN = "training-abcdefghi"
FOLDER = os.path.dirname(sys.executable)


def an_order(command: str, env: Mapping[str, str] | None = None, *, warm: bool = True, learners: int = 1) -> Launch:
    parent = Warm("default", 1) if warm else None
    place = Place("local", "results")
    return Launch(RUN, 1, "name", command, Stage(1, warm=parent), place, env=dict(env or {}), learners=learners)


def prepared(tmp_path: Path, path: str = f"{FOLDER}:/usr/bin", python: str = "3.11.7", processes: int = 1) -> Prepared:
    (tmp_path / "train.py").touch()
    env = {"PATH": path, "LANG": "C.UTF-8"}
    return Prepared(
        AttemptFolder(RUN, 1, str(tmp_path)),
        {"env": env, "cwd": str(tmp_path)},
        Interpreter(FOLDER, (), python=python),
        processes,
    )


def test_one_script_is_forked(tmp_path: Path) -> None:
    chosen = choose(an_order("python3 train.py --lr 0.1 'a b'"), prepared(tmp_path))
    assert isinstance(chosen, Fork)
    assert chosen.executable == f"{FOLDER}/python3"
    assert chosen.program == {
        "script": "train.py", "module": None, "args": ["--lr", "0.1", "a b"], "argv0": "train.py"
    }  # fmt: skip
    module = choose(an_order("python3 -m pkg.train x"), prepared(tmp_path))
    assert isinstance(module, Fork)
    assert module.program == {"script": None, "module": "pkg.train", "args": ["x"], "argv0": "-m"}


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (an_order("python3 train.py", warm=False), "the manifest says `warm: off`"),
        (an_order("python3 train.py | tee log"), "the command has a pipe"),
        (an_order("python3 train.py", learners=2), "the run has several processes"),
        (an_order("python3 absent.py"), "there is no file absent.py"),
        (an_order("python3 train.py", {"PYTHONHASHSEED": "0"}), "PYTHONHASHSEED is read when"),
        (an_order("python3 train.py", {"OMP_PROC_BIND": "true"}), "OMP_PROC_BIND is read when"),
        (an_order("python3 train.py", {"BASH_ENV": "/etc/x"}), "BASH_ENV is read when"),
        (an_order("python3 train.py", {"BASH_FUNC_python3%%": "() { echo; }"}), "BASH_FUNC_python3%% is read when"),
    ],
)
def test_what_goes_to_bash_says_why(order: Launch, why: str, tmp_path: Path) -> None:
    chosen = choose(order, prepared(tmp_path))
    assert isinstance(chosen, str)
    assert chosen.startswith(f"Started by bash: {why}")


def test_an_old_interpreter_several_processes_or_none_go_to_bash(tmp_path: Path) -> None:
    order = an_order("python3 train.py", {"OMP_NUM_THREADS": "1", "MY_OWN": "x"})
    assert isinstance(choose(order, prepared(tmp_path)), Fork)
    assert choose(order, prepared(tmp_path, python="3.7.9")) == "Started by bash: its interpreter is Python 3.7.9."
    assert choose(order, prepared(tmp_path, processes=2)) == "Started by bash: the run has several processes."
    assert choose(order, prepared(tmp_path, path="/nowhere")) == "Started by bash: there is no `python3` in its PATH."


def test_the_interpreter_is_the_one_that_bash_finds(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "python3").write_text("not to be executed")
    (second / "python3").write_text("#!/bin/sh\necho second\n")
    (second / "python3").chmod(0o755)
    path = f"{first}:{second}:/usr/bin"
    said = subprocess.run(["/bin/bash", "-c", "python3"], env={"PATH": path}, capture_output=True, check=True)
    assert said.stdout == b"second\n"
    assert found_in(path, "python3") == f"{second}/python3"
    assert found_in(f"relative:{path}", "python3") is None


@pytest.mark.parametrize("own", [{}, {"SHLVL": "4", "OLDPWD": "/usr"}, {"PWD": "/somewhere/else", "_": "x"}])
def test_the_environment_is_that_of_a_program_under_bash(own: Mapping[str, str], tmp_path: Path) -> None:
    env = {"PATH": f"{FOLDER}:/usr/bin:/bin", "LANG": "C.UTF-8", **own}
    command = "python3 -I -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-e", "-c", command],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == as_bash_leaves_it(env, str(tmp_path), f"{FOLDER}/python3")
