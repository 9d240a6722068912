"""The environment beside the project is used again only while it holds what is wanted."""

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tools.environment import ROOT, Stamp, clean_environment, read_stamp, summary, wanted_stamp

STAMP = Stamp("abc", "/somewhere", frozenset({"server", "samples"}))


def test_a_stamp_comes_back_as_it_was_written(tmp_path: Path) -> None:
    STAMP.write(tmp_path / "stamp.json")
    assert read_stamp(tmp_path / "stamp.json") == STAMP


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"pyproject": "abc"}', '{"pyproject": 1, "root": 2, "extras": 3}']
)
def test_a_stamp_that_cannot_be_read_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "stamp.json").write_text(content)
    assert read_stamp(tmp_path / "stamp.json") is None
    assert read_stamp(tmp_path / "missing.json") is None


@pytest.mark.parametrize(
    ("wanted", "covered"),
    [
        (STAMP, True),
        (replace(STAMP, extras=frozenset({"server"})), True),
        (replace(STAMP, extras=frozenset({"server", "dev"})), False),
        (replace(STAMP, pyproject="def"), False),
        (replace(STAMP, root="/elsewhere"), False),
    ],
)
def test_what_a_stamp_covers(wanted: Stamp, covered: bool) -> None:
    assert STAMP.covers(wanted) is covered


def test_the_wanted_stamp_is_of_this_project() -> None:
    stamp = wanted_stamp(["dev"])
    assert (stamp.root, stamp.extras, len(stamp.pyproject)) == (str(ROOT), {"dev"}, 64)


def test_programs_of_ours_never_see_a_persons_own_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNYARD_TOKEN", "RUNYARD_HOME", "ML_PASSWORD", "PYTHONPATH"):
        monkeypatch.setenv(name, "a person's own")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    found = clean_environment()
    assert "a person's own" not in found.values()
    assert found["HTTPS_PROXY"] == "kept"
    assert found["PATH"].split(os.pathsep)[0] == str(ROOT / ".venv" / "bin")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Collecting torch==2.13.0 (from runyard==0.1.0)\n", "Collecting torch==2.13.0"),
        (
            "  Downloading numpy-2.4.6-cp311-cp311-manylinux.whl (16 MB)\n",
            "Downloading numpy-2.4.6-cp311-cp311-manylinux.whl",
        ),
        ("Installing collected packages: mpmath, click\n", "Installing collected packages:"),
        ("WARNING: Location 'x' is ignored: it is neither a file nor a directory.\n", ""),
        ("Requirement already satisfied: click\n", ""),
        ("\n", ""),
    ],
)
def test_what_is_shown_of_pips_lines(line: str, shown: str) -> None:
    assert summary(line) == shown


@pytest.mark.parametrize("name", ["quickstart.py", "check.py"])
def test_the_two_commands_get_as_far_as_their_sentence_on_an_old_python(name: str) -> None:
    """Old grammar must parse them, and the look at the version comes before any import of ours."""
    tree = ast.parse((ROOT / name).read_text(), feature_version=(3, 4))
    kinds = [type(node).__name__ for node in tree.body]
    assert kinds[:4] == ["Expr", "Import", "If", "ImportFrom"]
    assert ast.unparse(tree.body[2]).startswith("if sys.version_info < (3, 11):")


@pytest.mark.parametrize("name", ["quickstart.py", "check.py"])
def test_the_two_commands_need_the_standard_library_alone(name: str) -> None:
    code = f"import runpy; runpy.run_path({str(ROOT / name)!r}, run_name='probe')"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"], check=False
    )
    assert done.returncode == 0
