"""Identifiers: shape, order, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.ids import ALPHABET, attempt_key, encode, is_run_id, run_id, split_attempt_key


@pytest.mark.parametrize(
    ("number", "length", "text"),
    [(0, 3, "000"), (61, 1, "z"), (62, 2, "10"), (62**3 - 1, 3, "zzz"), (62**3, 3, "000")],
)
def test_base_62(number: int, length: int, text: str) -> None:
    assert encode(number, length) == text


@given(st.integers(0, 2**80))
def test_a_run_id_is_one(entropy: int) -> None:
    assert is_run_id(run_id(entropy))
    assert run_id(entropy) == run_id(entropy % 62**9)


@given(st.integers(0, 62**9 - 1), st.integers(0, 62**9 - 1))
def test_different_numbers_give_different_ids_in_the_same_order(one: int, two: int) -> None:
    assert (run_id(one) < run_id(two)) == (one < two)


def test_the_alphabet_is_in_order_and_all_of_it_is_used() -> None:
    assert "".join(sorted(ALPHABET)) == ALPHABET
    assert len(set(ALPHABET)) == 62
    assert {encode(number, 1) for number in range(62)} == set(ALPHABET)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "training-",
        "training-a1b2",
        "training-a1B2c3D4e5",
        "training-a1B2c3D4_",
        "Training-a1B2c3D4e",
        "a1B2c3D4e",
        "training-a1B2c3D4e\n",
        "training-a1B2c3D4\u00e9",
    ],
)
def test_what_is_no_run_id(text: str) -> None:
    assert not is_run_id(text)


@given(st.integers(0, 2**60), st.integers(1, 10_000))
def test_an_attempt_key_and_back(entropy: int, attempt: int) -> None:
    assert split_attempt_key(attempt_key(run_id(entropy), attempt)) == (run_id(entropy), attempt)


@pytest.mark.parametrize(
    "key",
    [
        "training-a1B2c3D4e",
        "training-a1B2c3D4e/",
        "training-a1B2c3D4e/x",
        "training-a1B2c3D4e/-1",
        "training-short/1",
        "/1",
        "training-a1B2c3D4e/1/2",
        "training-a1B2c3D4e/\u00b2",
        "training-a1B2c3D4e/\u0661",
    ],
)
def test_what_is_no_attempt_key(key: str) -> None:
    with pytest.raises(ValueError, match="is not an attempt key such as training-"):
        split_attempt_key(key)
