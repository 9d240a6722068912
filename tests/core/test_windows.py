"""Start windows of a day."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.windows import opens_ms, parse

DAY = 86_400_000
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("text", "hour", "opens_in_hours"),
    [
        ("22:00-06:00", 21.5, 0.5),
        ("22:00-06:00", 22, 0),
        ("22:00-06:00", 5.999, 0),
        ("22:00-06:00", 6, 16),
        ("09:30-17:00", 9, 0.5),
        ("09:30-17:00", 17, 16.5),
        ("22:00-06:00+01:00", 21, 0),
        ("22:00-06:00 +01:00", 5, 16),
        ("00:30-08:00+02:00", 22, 0.5),
        ("20:00-23:00-05:00", 0, 1),
    ],
)
def test_when_it_opens(text: str, hour: float, opens_in_hours: float) -> None:
    now = 20_000 * DAY + round(hour * HOUR)
    opens = opens_ms(parse(text), now)
    assert opens == (now + round(opens_in_hours * HOUR) if opens_in_hours else 0)


@pytest.mark.parametrize(
    "text", ["", "22-06", "24:00-06:00", "22:60-06:00", "06:00-06:00", "22:00-06:00+15:00", "22:00"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="window"):
        parse(text)


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 10 * DAY))
def test_it_is_open_when_it_opens_and_closed_before(begin: int, end: int, now: int) -> None:
    if begin == end:
        return
    window = parse(f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}")
    opens = opens_ms(window, now)
    if opens:
        assert now < opens <= now + DAY
        assert opens_ms(window, opens) == 0
        assert opens_ms(window, opens - 1) == opens
