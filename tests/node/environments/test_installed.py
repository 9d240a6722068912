"""What is installed is read from records, and compared with what is asked for."""

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from runyard.node.environments.installed import installed, missing, versions
from runyard.node.environments.interpreter import own_sites


def record(site: Path, name: str, *requires: str) -> None:
    folder = site / name
    folder.mkdir(parents=True)
    lines = "".join(f"Requires-Dist: {each}\n" for each in requires)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: x\nVersion: 0\n{lines}")


@pytest.fixture
def sites(tmp_path: Path) -> list[str]:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    record(upper, "numpy-2.4.6.dist-info")
    record(lower, "numpy-1.26.0.dist-info")
    record(lower, "torch-2.13.0+cpu.dist-info", "numpy", "opt_einsum>=3.3; extra == 'opt'", "not a requirement !!")
    record(lower, "Typing_Extensions-4.16.0.dist-info")
    record(lower, "PyYAML-5.3.1-py3.11.egg-info")
    (lower / "numpy").mkdir()
    (lower / "half-info").mkdir()
    return [str(upper), str(lower), str(tmp_path / "nowhere")]


def test_of_two_records_the_first_counts(sites: list[str]) -> None:
    assert versions(installed(sites)) == {
        "numpy": "2.4.6",
        "pyyaml": "5.3.1",
        "torch": "2.13.0+cpu",
        "typing-extensions": "4.16.0",
    }


@pytest.mark.parametrize(
    ("wanted", "lacking"),
    [
        ("numpy", False), ("numpy==2.4.6", False), ("numpy<2", True), ("torch==2.13.0", False),
        ("torch==2.13.*", False), ("torch==2.13.1", True), ("typing.extensions>=4", False),
        ("pyyaml>=6", True), ("absent", True),
        ("absent; sys_platform == 'win32'", False), ("torch[opt]", True), ("torch[unknown]", False),
        ("torch @ https://h/torch.whl", True),
    ],
)  # fmt: skip
def test_what_is_missing(sites: list[str], wanted: str, lacking: bool) -> None:
    assert bool(missing([Requirement(wanted)], installed(sites))) is lacking


def test_an_extra_is_there_once_what_it_needs_is(sites: list[str], tmp_path: Path) -> None:
    record(tmp_path / "more", "opt_einsum-3.4.dist-info", "torch[opt]")
    assert missing([Requirement("torch[opt]")], installed([*sites, str(tmp_path / "more")])) == []


def test_this_very_interpreter_has_what_these_tests_run_with() -> None:
    found = versions(installed(own_sites()))
    assert found["pytest"] == pytest.__version__
    assert "runyard" in found
    assert sys.prefix in own_sites()[0]
