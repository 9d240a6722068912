"""Versions as people write them, and as indexes list them."""

import pytest

from runyard.core.versions import newest_match, short, sorted_versions, understood

THERE = ["2.22.0rc0", "2.21.0", "2.15.0.post1", "2.15.0", "2.9.1", "1.10"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1.5.0-py3", "1.5.0"), ("1.5-gpu-py3", "1.5"), ("v2.1", "2.1"), ("2.x", "2"), ("2.13.*", "2.13"),
        ("2.13.0+cpu", "2.13.0+cpu"), ("3.0.0rc1", "3.0.0rc1"), ("2.15.0.post1", "2.15.0.post1"),
        ("1.5.0_py3", "1.5.0"),
        ("", ""), ("latest", ""), ("latest-gpu-py3", ""), ("py3", ""), (">=2", None), ("two", None), ("2.1 beta", None),
    ],
)  # fmt: skip
def test_what_is_meant(written: str, meant: str | None) -> None:
    assert understood(written) == meant


def test_they_are_ordered_by_their_numbers_and_pre_releases_come_before() -> None:
    assert sorted_versions(reversed(THERE)) == THERE
    assert sorted_versions(["1.0", "1.0.dev3", "1.0a2", "1.0rc1", "1.0.1", "1.0b10", "1.0b9"]) == [
        "1.0.1", "1.0", "1.0rc1", "1.0b10", "1.0b9", "1.0a2", "1.0.dev3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("2", "2.21.0"), ("2.15", "2.15.0.post1"), ("2.15.0", "2.15.0"), ("2.22", None), ("2.22.0rc0", "2.22.0rc0"),
        ("2.1", None), ("1.10.0", "1.10"), ("1.1", None), ("3", None), ("2.9.1+cpu", "2.9.1"),
    ],
)  # fmt: skip
def test_the_newest_that_begins_so(wanted: str, found: str | None) -> None:
    assert newest_match(wanted, THERE) == found


def test_as_short_as_it_can_be_written() -> None:
    assert short("2.21.0", THERE) == "2.21"
    assert short("2.15.0", THERE) == "2.15.0"
