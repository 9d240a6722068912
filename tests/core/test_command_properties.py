"""Commands, placeholders, `--args` and `--set` against a real bash and a real argparse, thousands of cases each.

RUNYARD_CASES=200000 runs so many in place of the usual number; a failure tells its seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runyard.client.commands import Command
from runyard.core.command import fill, scalar_text
from runyard.core.spec import Scalar
from runyard.core.sweep import Axis, expand, parse_set
from tests.core.bash_cases import NAMES, random_case, random_document, random_text, random_value, run_all
from tests.core.test_command import appended

CASES = int(os.environ.get("RUNYARD_CASES", "2000"))
BATCH = 1000


@pytest.mark.parametrize("batch", range(max(1, CASES // BATCH)))
def test_the_program_gets_exactly_these_arguments(batch: int, tmp_path: Path) -> None:
    commands: list[str] = []
    wanted: list[tuple[int, list[str]]] = []
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        case = random_case(Random(seed))
        commands.append(fill(case.command, case.parameters, append_args=False))
        wanted.append((seed, case.arguments))
        if case.open_ended:
            commands.append(fill(case.command, case.parameters, append_args=True))
            wanted.append((seed, [*case.arguments, *appended(case.parameters)]))
    for (seed, arguments), command, got in zip(wanted, commands, run_all(commands, tmp_path), strict=True):
        assert got == (arguments or [""]), (seed, command)


def test_here_documents_hold_each_value_as_it_is(tmp_path: Path) -> None:
    cases = [random_document(Random(seed)) for seed in range(CASES // 4)]
    commands = [fill(case.command, case.parameters, append_args=True) for case in cases]
    for seed, (case, got) in enumerate(zip(cases, run_all(commands, tmp_path), strict=True)):
        assert got == [*case.arguments, *appended(case.parameters)], (seed, case.command)


def test_the_driver_reads_as_the_real_thing_does(tmp_path: Path) -> None:
    """A few of the same cases, each by a bash of its own that is called as runs call it."""
    program = tmp_path / "show"
    program.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "X": "xx", "lr": "of-bash"}
    cases = [random_case(Random(seed)) for seed in range(400)]
    for seed, case in enumerate([each for each in cases if "pass" not in each.command][:40]):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-e", "-c", fill(case.command, case.parameters, append_args=False)],
            capture_output=True,
            env=environment,
            cwd=tmp_path,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stdout.decode().split("\0")[:-1]) == (0, case.arguments or [""]), (seed, case)


def test_words_of_run_reach_the_program_exactly(tmp_path: Path) -> None:
    given = [["show", *(random_text(Random(seed * 31 + i)) for i in range(1 + seed % 4))] for seed in range(CASES)]
    commands = [Command.of(words).bash for words in given]
    assert run_all(commands, tmp_path) == [words[1:] for words in given]
    assert [fill(each, {}, append_args=False) for each in commands] == commands


def test_a_placeholder_in_the_words_of_run_is_filled(tmp_path: Path) -> None:
    given: list[tuple[list[str], Scalar]] = []
    for seed in range(CASES // 4):
        random = Random(seed)
        text = random_text(random).replace("{", "").replace("$", "").replace("\\", "")
        given.append((["show", "--lr={lr}", f"{text}{{lr}}{text}", "{lr}"], random_value(random)))
    commands = [fill(Command.of(words).bash, {"lr": value}, append_args=False) for words, value in given]
    for (words, value), got in zip(given, run_all(commands, tmp_path), strict=True):
        assert got == [each.replace("{lr}", scalar_text(value)) for each in words[1:]]


KINDS: dict[type, Any] = {bool: {"true": True, "false": False}.__getitem__, int: int, float: float, str: str}


def parser_for(parameters: dict[str, Scalar]) -> argparse.ArgumentParser:
    """What a training script would have for these parameters."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    for name, value in parameters.items():
        parser.add_argument(f"--{name}", dest=name, type=KINDS[type(value)])
    return parser


def random_parameters(random: Random) -> dict[str, Scalar]:
    """Parameters; `--` is none to argparse before Python 3.13, which takes it out of the arguments in any form."""
    found = {name: random_value(random) for name in random.sample(NAMES, random.randint(1, len(NAMES)))}
    return {name: "-" if value == "--" else value for name, value in found.items()}


def test_argparse_reads_the_same_values_back(tmp_path: Path) -> None:
    cases = [random_parameters(Random(seed)) for seed in range(CASES)]
    commands = [fill("show", parameters, append_args=True) for parameters in cases]
    for seed, (parameters, got) in enumerate(zip(cases, run_all(commands, tmp_path), strict=True)):
        read = vars(parser_for(parameters).parse_args(got))
        assert {name: repr(value) for name, value in read.items()} == {
            name: repr(value) for name, value in parameters.items()
        }, seed


SCRIPT = """
import argparse, json
parser = argparse.ArgumentParser()
for name, kind in (("lr", float), ("width", int), ("opt.name", str), ("a-b", str)):
    parser.add_argument("--" + name, type=kind, dest=name)
print(json.dumps(vars(parser.parse_args())))
"""


def test_a_real_script_reads_them(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    for seed in range(5):
        random = Random(seed)
        parameters: dict[str, Scalar] = {
            "lr": -random.random() * 10.0 ** -(seed * 3), "width": -random.randint(1, 99),
            "opt.name": "-" + random_text(random), "a-b": random_text(random) + "\n'\"",
        }  # fmt: skip
        command = fill(Command.of([sys.executable, "train.py"]).bash, parameters, append_args=True)
        done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == parameters


def spelled(random: Random, value: Scalar) -> str:
    """A value as it may be written after `name=`: text that could be read as anything else between quotes."""
    if not isinstance(value, str):
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    if value.isidentifier() and value.isascii() and value.lower() not in ("true", "false") and random.random() < 0.5:
        return value
    if "'" not in value and random.random() < 0.5:
        return f"'{value}'"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def random_axis(random: Random, name: str) -> tuple[str, Axis]:
    """An axis and a text of `--set` that means it: values of all kinds, and ranges between them."""
    texts: list[str] = []
    values: list[Scalar] = []
    for _ in range(random.randint(1, 4)):
        if random.random() < 0.3:
            low, step, points = random.randint(-50, 50), random.choice((-7, -1, 1, 5)), random.randint(2, 6)
            texts.append(f"{low}..{low + step * (points - 1)}:{points}")
            values += [low + step * each for each in range(points)]
        elif random.random() < 0.2:
            low, points = 10 ** random.randint(-6, 2), random.randint(2, 5)
            texts.append(f"{float(low)!r}..{float(low * 10 ** (points - 1))!r}:{points}:log")
            values += [float(f"{low * 10.0**each:.12g}") for each in range(points)]
        else:
            value = random_value(random)
            texts.append(random.choice(("", " ")) + spelled(random, value) + random.choice(("", " ")))
            values.append(value)
    return f"{name}={','.join(texts)}", Axis(name, tuple(values))


def equal(got: Scalar, wanted: Scalar) -> bool:
    """The same kind and value; the points of a range to twelve digits."""
    if isinstance(got, float) and isinstance(wanted, float):
        return got == wanted or abs(got - wanted) <= 1e-11 * abs(wanted)
    return type(got) is type(wanted) and got == wanted


def test_sets_mean_what_they_say() -> None:
    for seed in range(CASES):
        random = Random(seed)
        made = [random_axis(random, name) for name in random.sample(NAMES, random.randint(1, 3))]
        read = [parse_set(text) for text, _ in made]
        for axis, (text, wanted) in zip(read, made, strict=True):
            assert axis.name == wanted.name
            assert len(axis.values) == len(wanted.values), (seed, text)
            assert all(map(equal, axis.values, wanted.values)), (seed, text, axis)
        product = [
            dict(zip((a.name for a in read), each, strict=True))
            for each in itertools.product(*(a.values for a in read))
        ]
        assert list(map(repr, expand(read, zipped=False))) == list(map(repr, product)), seed


def test_sets_pass_through_a_shell(tmp_path: Path) -> None:
    """What a person quotes for the shell is what `--set` reads."""
    made = [random_axis(Random(seed), "lr") for seed in range(CASES // 4)]
    commands = [f"show --set {shlex.quote(text)}" for text, _ in made]
    assert run_all(commands, tmp_path) == [["--set", text] for text, _ in made]
