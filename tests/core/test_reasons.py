"""The vocabulary of ends: total, consistent, and readable."""

from __future__ import annotations

import re
from signal import Signals

import pytest

from runyard.core.reasons import RULES, SIGNAL_NAMES, Fault, Reason, sentence, signal_name


def test_every_reason_has_its_rule() -> None:
    assert set(RULES) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_a_sentence_with_everything_filled_in(reason: Reason) -> None:
    for exit_code, signal in [(3, None), (None, 9), (137, 9), (None, None)]:
        text = sentence(reason, exit_code=exit_code, signal=signal)
        assert re.fullmatch(r"[A-Z].+[a-z0-9)]\.", text), text
        assert not re.search(r"[{}?]|None|  ", text), text
        assert 3 <= len(text.split()) <= 40


@pytest.mark.parametrize("reason", Reason)
def test_only_exit_code_and_signal_are_to_be_filled(reason: Reason) -> None:
    assert set(re.findall(r"\{(.*?)\}", RULES[reason].sentence)) <= {"exit_code", "signal"}


@pytest.mark.parametrize("reason", [r for r in Reason if RULES[r].fault is Fault.user and r is not Reason.code_invalid])
def test_the_users_own_faults_say_where_to_look_or_what_to_do(reason: Reason) -> None:
    assert re.search(r": (see|check|ask|raise)", RULES[reason].sentence)


@pytest.mark.parametrize("reason", Reason)
def test_fault_retry_and_bill_agree(reason: Reason) -> None:
    rule = RULES[reason]
    if reason is Reason.results_lost:  # no attempt's end: its program had its slots, and is not begun again
        assert (rule.retry, rule.billed) == (False, True)
    elif rule.fault is Fault.platform:
        assert rule.retry
        assert not rule.billed
    if not rule.billed and rule.fault is Fault.user:
        assert not rule.retry  # it never came to hold a slot: trying again meets the same data


@pytest.mark.parametrize(
    ("reason", "values", "expected"),
    [
        (Reason.nonzero_exit, {"exit_code": 3}, "The program ended with exit code 3: see the end of its log."),
        (Reason.nonzero_exit, {}, "The program ended with exit code unknown: see the end of its log."),
        (
            Reason.killed_by_signal,
            {"signal": 11},
            "The program was ended by signal 11 (SIGSEGV): see the end of its log.",
        ),
        (Reason.killed_by_signal, {"signal": 40}, "The program was ended by signal 40: see the end of its log."),
        (Reason.launch_failed, {"detail": "No bash."}, "The machine could not start the program. No bash."),
        (
            Reason.launch_failed,
            {"detail": "{exit_code} {x}"},
            "The machine could not start the program. {exit_code} {x}",
        ),
    ],
)
def test_sentences(reason: Reason, values: dict[str, object], expected: str) -> None:
    assert sentence(reason, **values) == expected  # type: ignore[arg-type]  # keyword arguments are not checked


def test_signal_names_are_those_of_this_system() -> None:
    for number, name in SIGNAL_NAMES.items():
        assert Signals(number).name == name
        assert signal_name(number) == f"{number} ({name})"
