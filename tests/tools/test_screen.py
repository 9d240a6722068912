"""What the two commands show: progress and tables."""

import pytest

from tools.checks import Check, Outcome, beside, checks, report
from tools.screen import Step, say, table


def test_a_table_sets_numbers_to_the_right() -> None:
    assert table(["run", "accuracy"], [["a", "0.97"], ["longer", "failed"]]).splitlines() == [
        "run     accuracy",
        "------  --------",
        "a           0.97",
        "longer  failed",
    ]


def test_a_step_says_its_end_and_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    with Step("does it") as step:
        step.show("halfway")
    assert capsys.readouterr().out == f"does it  done, {step.seconds:.1f} s\n"


def test_a_failed_step_says_so_and_lets_the_error_through(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no"), Step("does it"):
        raise ValueError("no")
    assert capsys.readouterr().out.startswith("does it  failed")


def test_the_first_failure_decides_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([Outcome("a", 0, 1.0), Outcome("b", 3, 2.0), Outcome("c", 1, 3.0)]) == 3
    assert "b: failed with exit code 3, 2.0 s; c: failed" in capsys.readouterr().out


def test_nothing_is_said_after_pytest_when_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([Outcome("a", 0, 1.0)]) == 0
    assert capsys.readouterr().out == ""
    assert checks([])[-1].name == "pytest"


@pytest.mark.parametrize(("code", "shown"), [(0, ""), (3, "\n=== other: python -c ")])
def test_what_runs_beside_another_check_is_shown_after_it_where_it_failed(
    code: int, shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    outcomes: list[Outcome] = []
    words = f"import sys; print('a problem', flush=True); sys.exit({code})"
    with beside(Check("other", ("python", "-c", words)), outcomes):
        say("the screen's own")
    assert [(each.name, each.code) for each in outcomes] == [("other", code)]
    mine, _, its = capfd.readouterr().out.partition("the screen's own\n")
    assert mine == ""
    assert its.startswith(shown)
    assert its.endswith("a problem\n\n" if code else "")
    assert bool(its) is bool(code)
