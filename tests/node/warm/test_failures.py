"""A kind of warm parent that came to nothing is tried again soon, and less and less often."""

from runyard.node.warm.parents import ENDED_FOR_S, FAILED_FOR_S, Failures, Kind

ONE, OTHER = (Kind("default", None, f"/env{number}", (), (), ()) for number in range(2))


def rest(failures: Failures, now: float, most_s: float = FAILED_FOR_S) -> float:
    """For how long a failure at this time lets a kind rest, to a tenth of a second."""
    failures.note(ONE, now, most_s)
    tenths = 0
    while failures.rests(ONE, now + tenths / 10):
        tenths += 1
    return tenths / 10


def test_one_that_was_killed_is_tried_again_at_once_and_one_that_never_works_seldom() -> None:
    failures = Failures()
    assert not failures.rests(ONE, 0.0)
    assert [rest(failures, 1000.0 * number) for number in range(7)] == [1.0, 4.0, 16.0, 64.0, 256.0, 300.0, 300.0]
    assert FAILED_FOR_S == 300.0
    assert not failures.rests(OTHER, 6000.0)
    assert [rest(failures, 8000.0 + 1000 * most, ENDED_FOR_S[most]) for most in (False, True)] == [1.0, 4.0]
    assert [rest(failures, 20_000.0 + number, ENDED_FOR_S[False]) for number in (0, 100, 200)] == [1.0] * 3
    failures.forget(ONE)
    assert rest(failures, 9000.0) == 1.0
