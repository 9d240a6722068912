"""Durations and sizes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.errors import ManifestError
from runyard.manifest import parse_duration
from runyard.manifest.durations import parse_size


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2h", 7_200_000),
        ("30s", 30_000),
        ("1h30m", 5_400_000),
        ("500ms", 500),
        ("1d", 86_400_000),
        ("1.5h", 5_400_000),
        ("0.0005s", 1),
        ("90", 90_000),
        (" 90 ", 90_000),
        (90, 90_000),
        (0.25, 250),
        (0.1 + 0.2, 300),
        (138912505.6102022, 138_912_505_611),
        ("0", 0),
        ("3650d", 315_360_000_000),
    ],
)
def test_durations(text: str | float, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "h", "2H", "2 h", "-1", "1:30", "1h-2m", "nan", "1e5", "two", "3651d", "٣s", -1])
def test_no_durations(text: str | float) -> None:
    with pytest.raises(ManifestError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("1Gb", 954),
        ("1GB", 954),
        ("1G", 954),
        ("1GiB", 1024),
        ("1Gi", 1024),
        ("300MiB", 300),
        ("512MB", 489),
        ("16Gb", 15_259),
        ("1kb", 1),
        ("1KiB", 1),
        ("1025KiB", 2),
        ("1Tb", 953_675),
        ("1tib", 1_048_576),
        ("0.5 GiB", 512),
        ("1.5Gb", 1431),
        ("0Mb", 0),
    ],
)
def test_sizes(text: str, mib: int) -> None:
    assert parse_size(text) == mib


@pytest.mark.parametrize("text", ["", "1", "Gb", "1.Gb", "-1Gb", "1PB", "1Gbit", "1 G B", "1024TiBx", "1025TiB", "1bb"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ManifestError, match="size"):
        parse_size(text)


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h"]), st.integers(0, 999), st.sampled_from(["ms", "s"]))
def test_parts_of_a_duration_add_up(one: int, unit: str, other: int, small: str) -> None:
    size = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
    total = one * size[unit] + other * size[small]
    if total <= 3650 * 86_400_000:
        assert parse_duration(f"{one}{unit}{other}{small}") == total


@given(st.integers(1, 10**9), st.integers(0, 5))
def test_a_size_is_rounded_up(number: int, digits: int) -> None:
    text = f"{number // 10**digits}.{number % 10**digits:0{digits}d}" if digits else str(number)
    assert parse_size(text + "MB") == math.ceil(number * 10**6 / 10**digits / 2**20 - 1e-9)
