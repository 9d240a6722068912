"""Amounts, the named sizes, and how a request is made to fit a machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.resources import DEFAULT_CONFIGURATIONS, Resources, fit

R = Resources
GB = 1_024
LAPTOP = R(2, 4_000, 8 * GB)
"""Two slots that are only logical, four cores, 8 GB."""
SERVER = R(4, 32_000, 128 * GB)


@pytest.mark.parametrize(
    ("request_", "machine", "logical", "fitted", "scaled"),
    [
        pytest.param(R(1, 4_000, 24 * GB), SERVER, False, R(1, 4_000, 24 * GB), "", id="it fits"),
        pytest.param(SERVER, SERVER, False, SERVER, "", id="it fits exactly"),
        pytest.param(R(1, 52_000, 48 * GB), SERVER, False, R(1, 32_000, 48 * GB), "CPUs", id="too many CPUs"),
        pytest.param(R(1, 1_000, 200 * GB), SERVER, False, R(1, 1_000, 128 * GB), "Memory", id="too much memory"),
        pytest.param(R(2, 52_000, 200 * GB), SERVER, False, R(2, 32_000, 128 * GB), "CPUs Memory", id="both"),
        pytest.param(R(1, 4_000, 24 * GB), LAPTOP, True, R(1, 2_000, 4 * GB), "CPUs Memory", id="half of a laptop"),
        pytest.param(R(2, 8_000, 48 * GB), LAPTOP, True, R(2, 4_000, 8 * GB), "CPUs Memory", id="all of a laptop"),
        pytest.param(R(1, 1_000, 2 * GB), LAPTOP, True, R(1, 1_000, 2 * GB), "", id="less than its share"),
        pytest.param(R(0, 3_000, 6 * GB), LAPTOP, True, R(0, 3_000, 6 * GB), "", id="no slot, no share"),
        pytest.param(R(0, 6_000, 9 * GB), LAPTOP, True, R(0, 4_000, 8 * GB), "CPUs Memory", id="no slot, the whole"),
        pytest.param(R(1, 9_000, 1), R(3, 8_000, GB), True, R(1, 2_666, 1), "CPUs", id="a third, rounded down"),
    ],
)
def test_a_request_is_scaled_to_the_machine(
    request_: Resources, machine: Resources, logical: bool, fitted: Resources, scaled: str
) -> None:
    answer = fit(request_, machine, logical_gpus=logical)
    assert answer.refusal is None
    assert answer.resources == fitted
    assert " ".join(note.split()[0] for note in answer.notes) == scaled


@pytest.mark.parametrize("logical", [True, False])
@pytest.mark.parametrize(
    ("asked", "there", "sentence"),
    [
        (3, 2, "The run asks for 3 GPUs and the largest machine has 2: ask for 2 or fewer, or add a machine."),
        (2, 1, "The run asks for 2 GPUs and the largest machine has 1: ask for 1 or fewer, or add a machine."),
        (1, 0, "The run asks for 1 GPU and no machine has any: ask for none, or add a machine."),
    ],
)
def test_too_many_gpus_are_refused(asked: int, there: int, sentence: str, logical: bool) -> None:
    assert fit(R(asked, 1, 1), R(there, 8_000, 8 * GB), logical_gpus=logical).refusal == sentence


@pytest.mark.parametrize(
    ("each", "learners", "machine", "logical", "expected"),
    [
        (R(2, 4_000, 8 * GB), 2, R(4, 16_000, 64 * GB), False, R(4, 8_000, 16 * GB)),
        (R(0, 4_000, 8 * GB), 3, R(0, 8_000, 8 * GB), False, R(0, 3 * 2_666, 3 * 2_730)),
        (R(1, 6_000, 12 * GB), 2, R(4, 4_000, 8 * GB), True, R(2, 2_000, 4 * GB)),
        (R(0, 0, 0), 5, R(0, 8_000, 8 * GB), False, R(0, 0, 0)),
    ],
)
def test_all_learners_together_fit_one_machine(each: R, learners: int, machine: R, logical: bool, expected: R) -> None:
    answer = fit(each, machine, logical_gpus=logical, learners=learners)
    assert answer.refusal is None
    assert answer.resources == expected
    for amount in (expected.gpus, expected.cpu_millis, expected.memory_mib):
        assert amount % learners == 0
    scaled = expected != R(each.gpus * learners, each.cpu_millis * learners, each.memory_mib * learners)
    assert bool(answer.notes) is scaled
    assert all(f"each of its {learners} learners" in note for note in answer.notes)


def test_learners_that_can_never_fit_are_refused() -> None:
    assert fit(R(2, 1, 1), R(3, 8_000, GB), logical_gpus=False, learners=2).refusal == (
        "The run asks for 4 GPUs (2 learners with 2 each) and the largest machine has 3: "
        "ask for 3 or fewer, or add a machine."
    )
    refusal = fit(R(0, 1_000, 1), R(0, 8_000, GB), logical_gpus=False, learners=1_000).refusal
    assert refusal == "No machine is large enough for 1000 learners: ask for fewer."


def test_the_notes_say_what_was_scaled() -> None:
    assert fit(R(1, 6_000, 12 * GB), LAPTOP, logical_gpus=True).notes == (
        "CPUs scaled from 6 to 2, what this machine can give.",
        "Memory scaled from 12288 to 4096 MiB, what this machine can give.",
    )


amounts = st.builds(R, st.integers(0, 8), st.integers(0, 64_000), st.integers(0, 256 * GB))


@given(amounts, amounts, st.booleans())
def test_what_is_fitted_fits_and_is_never_more(request_: Resources, machine: Resources, logical: bool) -> None:
    answer = fit(request_, machine, logical_gpus=logical)
    assert (answer.refusal is not None) == (request_.gpus > machine.gpus)
    if answer.refusal is None:
        assert answer.resources.fits_in(machine)
        assert answer.resources.fits_in(request_)
        assert answer.resources.gpus == request_.gpus
        assert bool(answer.notes) == (answer.resources != request_)


@given(amounts, st.integers(1, 8))
def test_as_many_as_there_are_logical_slots_run_at_once(request_: Resources, slots: int) -> None:
    machine = R(slots, 4_000, 8 * GB)
    one = fit(R(1, request_.cpu_millis, request_.memory_mib), machine, logical_gpus=True).resources
    assert sum((one for _ in range(slots)), R()).fits_in(machine)


@given(amounts, amounts)
def test_amounts_add_up(one: Resources, two: Resources) -> None:
    assert one + two - two == one
    assert one.fits_in(one + two)
    assert (one - two).floored().fits_in(one)
    assert one.fits_in(two) == ((one - two).floored() == R())


def test_the_named_sizes() -> None:
    """GPUs, CPUs and GB of each, as the older service offered them."""
    table = {
        "small": (1, 6, 12),
        "medium": (2, 12, 24),
        "large": (4, 24, 48),
        "k80": (1, 4, 24),
        "k80x2": (2, 8, 48),
        "k80x4": (4, 16, 96),
        "p100": (1, 8, 24),
        "p100x2": (2, 16, 48),
        "v100": (1, 26, 24),
        "v100x2": (2, 52, 48),
        "cpu": (0, 1, 2),
    }
    expected = {name: R(gpus, cpus * 1_000, gb * GB) for name, (gpus, cpus, gb) in table.items()}
    assert {name: size.resources for name, size in DEFAULT_CONFIGURATIONS.items()} == expected
    assert all(size.name == name for name, size in DEFAULT_CONFIGURATIONS.items())
