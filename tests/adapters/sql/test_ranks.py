"""Places between neighbours."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runyard.adapters.sql.ranks import RANK_STEP, between, spread

RANKS = st.integers(-(2**60), 2**60)


@given(RANKS, RANKS)
def test_between_is_strictly_between_or_nothing(a: int, b: int) -> None:
    lower, upper = min(a, b), max(a, b)
    place = between(lower, upper)
    assert (place is None) == (upper - lower < 2)
    assert place is None or lower < place < upper


@given(RANKS)
def test_there_is_always_room_in_front(upper: int) -> None:
    assert between(None, upper) == upper - RANK_STEP


def test_twenty_moves_fit_between_neighbours() -> None:
    lower, upper = RANK_STEP, 2 * RANK_STEP
    for _ in range(20):
        place = between(lower, upper)
        assert place is not None
        upper = place
    assert between(lower, upper) is None


@given(st.none() | RANKS, RANKS, st.integers(1, 200))
def test_spread_ranks_ascend_with_room_between(floor: int | None, ceiling: int, count: int) -> None:
    ranks = spread(floor, ceiling, count)
    if ranks is None:
        assert floor is not None
        assert (ceiling - floor) // (count + 1) < 2**10
        return
    marks = [*([] if floor is None else [floor]), *ranks, ceiling]
    assert len(ranks) == count
    assert all(later - earlier >= 2**10 for earlier, later in pairwise(marks))
