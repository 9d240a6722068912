"""What a caller gives as a command, and the interpreter that it would find."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runyard.client.commands import Command
from runyard.client.errors import Misuse
from runyard.client.interpreters import find_interpreter, missing


@pytest.mark.parametrize(
    ("given", "bash"),
    [
        (["python", "train.py", "--lr", "0.1"], "python train.py --lr 0.1"),
        (["echo", "it's", "$HOME", ""], "echo 'it'\"'\"'s' '$HOME' ''"),
        (["python a.py && python b.py"], "python a.py && python b.py"),
        (["make"], "make"),
        (["a$b"], "'a$b'"),
        ("a$b", "a$b"),
        ("python a.py\n", "python a.py"),
    ],
)
def test_what_bash_is_given(given: str | list[str], bash: str) -> None:
    assert Command.of(given).bash == bash


@pytest.mark.parametrize("given", ["", "  \n", [], [""], ["", "x"]])
def test_nothing_to_run(given: str | list[str]) -> None:
    with pytest.raises(Misuse, match="For example: runyard run"):
        Command.of(given)


@pytest.mark.parametrize(
    ("given", "python", "portable"),
    [
        (["python3", "a.py"], "python3", "python3 a.py"),
        (["/x y/bin/python3.12", "a b"], "/x y/bin/python3.12", "python 'a b'"),
        ([".venv/bin/python -m a && b"], ".venv/bin/python", "python -m a && b"),
        (["cd x && python a.py"], "python", "cd x && python a.py"),
        (["torchrun", "a.py"], None, "torchrun a.py"),
        (["pythonic a", "b"], None, "'pythonic a' b"),
        (["env", "A=1", "python3.11", "a.py"], "python3.11", "env A=1 python3.11 a.py"),
    ],
)
def test_the_word_that_calls_python(given: list[str], python: str | None, portable: str) -> None:
    command = Command.of(given)
    assert (command.python, command.portable.bash) == (python, portable)


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment."""
    folder = tmp_path_factory.mktemp("venvs") / "with space"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    return folder


def test_the_interpreter_is_the_callers(venv: Path, tmp_path: Path) -> None:
    system = {"PATH": "/usr/bin:/bin"}
    path = {"PATH": f"{venv}/bin:/usr/bin:/bin"}
    for words, environment, why in [
        (["python3", "a.py"], path, "the first `python3` of PATH"),
        ([f"{venv}/bin/python", "a.py"], system, "the command names it"),
        (["torchrun", "a.py"], system | {"VIRTUAL_ENV": str(venv)}, "VIRTUAL_ENV names it"),
        (["python a.py | tee x"], {"PATH": f"{venv}/bin"}, "the first `python` of PATH"),
        (["torchrun", "a.py"], {"PATH": "/nowhere", "CONDA_PREFIX": str(venv)}, "CONDA_PREFIX names it"),
    ]:
        found = find_interpreter(Command.of(words), environment, tmp_path)
        assert found is not None
        assert (found.prefix, found.why) == (str(venv), why)
        assert found.version == sys.version.split()[0]
        assert found.executable.startswith(f"{venv}/bin/python")


def test_wrappers_are_seen_through_and_what_is_none_is_passed_over(venv: Path, tmp_path: Path) -> None:
    for name, text in (("python", f'#!/bin/sh\nexec "{venv}/bin/python" "$@"\n'), ("python3", "#!/bin/sh\nexit 3\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/bin"}
    found = find_interpreter(Command.of(["python", "a.py"]), environment, tmp_path)
    assert found is not None
    assert found.executable == f"{venv}/bin/python"
    other = find_interpreter(Command.of(["python3", "a.py"]), {"PATH": str(tmp_path)}, tmp_path)
    assert other is not None
    assert other.why == "the first `python` of PATH"
    assert find_interpreter(Command.of(["true"]), {"PATH": "/nowhere"}, tmp_path) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["no-such-program", "x"], "`no-such-program` is not found here"),
        (["./train.sh"], "`./train.sh` is there and cannot be executed (chmod +x)"),
        (["python3", "absent.py"], "There is no file absent.py in this folder."),
        (["A=1 no-such-program x"], "`no-such-program` is not found here"),
        (["python3", "there.py"], None),
        (["cd x && no-such-program"], None),
        (["for i in 1 2; do echo; done"], None),
        (["'unclosed quote"], None),
        (["$PROGRAM x"], None),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, given: list[str], said: str | None) -> None:
    (tmp_path / "train.sh").write_text("#!/bin/sh\n")
    (tmp_path / "there.py").write_text("")
    found = missing(Command.of(given), {"PATH": os.environ["PATH"]}, tmp_path)
    assert found is None if said is None else (found is not None and said in found)
