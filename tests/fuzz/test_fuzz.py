"""What the fuzzer begins with and what it has found once, fed again; and the fuzzer itself, for a moment."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from bench.fuzz import TARGETS as NAMES
from bench.fuzz import fuzz
from bench.fuzzing.targets import TARGETS

HERE = Path(__file__).parent
FILES = sorted(path for folder in ("corpus", "found") for path in (HERE / folder).glob("*/*"))
SECONDS = 8


def test_every_target_has_seeds() -> None:
    assert set(NAMES) == set(TARGETS) == {path.parent.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_an_input_has_no_effect_that_none_may_have(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this Python")
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_the_fuzzer_finds_nothing_within_seconds(target: str, tmp_path: Path) -> None:
    found = fuzz(target, SECONDS, tmp_path)
    assert not found.crash, f"{found.crash}\n{found.told}"
    assert found.inputs > 50
    assert found.covered > 50
