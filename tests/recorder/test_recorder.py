"""The recorder: in processes of its own, since it remembers its file."""

import ast
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import runyard.recorder

FOLDER = Path(runyard.recorder.__file__).parent / "path"
OLDEST = next((found for minor in range(8, 11) if (found := shutil.which(f"python3.{minor}"))), None)


def run(code: str, folder: Path, *, python: str = sys.executable, **env: str) -> tuple[list[dict[str, object]], str]:
    """What a program records, and what it says on stderr; the recorder stands alone, as in a foreign environment."""
    target = folder / "metrics.jsonl"
    done = subprocess.run(
        [python, "-S", "-c", "import runyard\n" + code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(FOLDER), "RUNYARD_METRICS": str(target)} | env,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = target.read_text().splitlines() if target.exists() else []
    return [json.loads(line) for line in lines], done.stderr


def test_values_by_name_or_in_a_mapping(tmp_path: Path) -> None:
    found, said = run(
        "runyard.log(step=1, loss=0.5, accuracy=1)\nrunyard.log({'loss': 2}, 3, group='a\"é')\n"
        "runyard.log({'a b/c': 1, 'step': 2, 'values': 4}, step=None, values=5)\nrunyard.log()\nrunyard.log({})\n",
        tmp_path,
    )
    assert [{key: value for key, value in line.items() if key != "t"} for line in found] == [
        {"s": 1, "v": {"loss": 0.5, "accuracy": 1.0}},
        {"s": 3, "g": 'a"é', "v": {"loss": 2.0}},
        {"v": {"a b/c": 1.0, "step": 2.0, "values": 5.0}},
    ]
    assert said == ""


def test_whatever_float_takes_is_a_value_and_what_it_does_not_is_said_once(tmp_path: Path) -> None:
    found, said = run(
        "class Scalar:\n    def __float__(self): return 0.25\n    def __int__(self): return 7\n"
        "    def __eq__(self, other): return other == 7\n"
        "class Vector:\n    def __float__(self): raise ValueError('several')\n"
        "for n in range(3): runyard.log(step=Scalar(), a=Scalar(), b=True, c='0.5', d='word', e=Vector(), f=None)\n"
        "runyard.log(step='x', a=1)\nrunyard.log(step=1.5, a=1)\nrunyard.log(step=2.0, a=1)\nrunyard.log(5)\n"
        "runyard.log(step=2**70, a=1)\nrunyard.log({1: 2})\n",
        tmp_path,
    )
    assert [line["v"] for line in found[:3]] == [{"a": 0.25, "b": 1.0, "c": 0.5}] * 3
    assert [line.get("s") for line in found] == [7, 7, 7, None, None, 2, None, None]
    assert found[-1]["v"] == {"1": 2.0}
    assert len(said.splitlines()) == 7
    assert "'d' is no number but str" in said


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    found, _ = run("runyard.log(a=float('nan'), b=float('inf'), c=-1e999)\n", tmp_path)
    values = found[0]["v"]
    assert isinstance(values, dict)
    assert math.isnan(values["a"])
    assert (values["b"], values["c"]) == (math.inf, -math.inf)


@pytest.mark.parametrize("target", ["", "/proc/none/metrics.jsonl", "/dev/full"])
def test_nothing_is_raised_where_there_is_no_place_for_it(tmp_path: Path, target: str) -> None:
    _, said = run("for n in range(5): runyard.log(step=n, loss=1)\nprint('on')\n", tmp_path, RUNYARD_METRICS=target)
    assert len(said.splitlines()) == (1 if target else 0)


def test_no_standard_error_and_no_working_float_harm_nobody(tmp_path: Path) -> None:
    found, _ = run("import sys\nsys.stderr = None\nrunyard.log(a='x')\nrunyard.log(a=1)\n", tmp_path)
    assert len(found) == 1


def test_a_program_that_closes_all_descriptors_writes_on_and_into_no_other_file(tmp_path: Path) -> None:
    found, _ = run(
        "import os\nrunyard.log(a=1)\nos.closerange(3, 64)\nother = open('other', 'w')\nrunyard.log(a=2)\n"
        "os.fork() or os._exit(runyard.log(a=3) or 0)\nos.wait()\nrunyard.log(a=4)\n".replace(
            "'other'", repr(str(tmp_path / "other"))
        ),
        tmp_path,
    )
    assert [line["v"] for line in found] == [{"a": float(n)} for n in (1, 2, 3, 4)]
    assert (tmp_path / "other").read_text() == ""


def test_it_says_what_else_there_is_not(tmp_path: Path) -> None:
    _, said = run(
        "try: runyard.Client\nexcept AttributeError as error: print(error, file=__import__('sys').stderr)\n", tmp_path
    )
    assert "pip install runyard" in said


def test_its_syntax_is_that_of_python_3_8() -> None:
    ast.parse((FOLDER / "runyard.py").read_text(), feature_version=(3, 8))


@pytest.mark.skipif(OLDEST is None, reason="there is no Python older than 3.11 here")
def test_an_old_python_takes_it(tmp_path: Path) -> None:
    assert OLDEST is not None
    if subprocess.run([OLDEST, "-c", ""], capture_output=True, check=False).returncode != 0:
        pytest.skip("the older Python here does not run")
    found, said = run("runyard.log({'b': 2}, step=1, a=float('nan'))\n", tmp_path, python=OLDEST)
    assert (found[0]["s"], said) == (1, "")


def test_the_package_has_it_too_without_the_client() -> None:
    code = "import sys, runyard; runyard.log(a=1); print([m for m in sys.modules if m.startswith('runyard')])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"[\w.]+", told)) == {
        "runyard", "runyard.recorder", "runyard.recorder.path", "runyard.recorder.path.runyard",
    }  # fmt: skip
