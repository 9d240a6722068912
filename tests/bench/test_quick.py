"""The short form of the bench: a ratio that has become twice as bad is a regression."""

import subprocess
import sys

import pytest

from bench.quick import FLOORS, RATIOS, Limit, limits
from tools.environment import ROOT


def test_every_ratio_has_a_limit_that_lies_beyond_what_was_measured() -> None:
    known = limits(FLOORS)
    assert set(known) == set(RATIOS)
    for limit in known.values():
        assert limit.holds(limit.measured)
        worse = limit.measured * 3 if limit.most is not None else limit.measured / 3
        assert not limit.holds(worse)


def test_a_limit_tells_what_is_allowed() -> None:
    assert str(Limit(1.5, most=3.0)) == "<= 3"
    assert str(Limit(0.2, least=0.1)) == ">= 0.1"


@pytest.mark.slow
@pytest.mark.timeout(360)
def test_no_ratio_has_become_worse_beyond_noise() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.quick"], cwd=ROOT, capture_output=True, text=True, timeout=330, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
