"""What of an ended run may go, and when the next part is due."""

import pytest

from runyard.core.retention import FOR_EVER, Ended, Fate, Part, fate, is_short, policy, swept_sentence

DAY = 86_400_000
RUN = Ended(1, "training-a", "acme", 1, ended_ms=100 * DAY)
WEEK = {Part.results: 7 * DAY, Part.logs: 2 * DAY, Part.metrics: FOR_EVER, Part.records: FOR_EVER}


@pytest.mark.parametrize(
    ("now", "more", "goes", "due"),
    [
        (101 * DAY, {}, set(), 102 * DAY),
        (102 * DAY - 1, {}, set(), 102 * DAY),
        (102 * DAY, {}, {Part.logs}, 107 * DAY),
        (107 * DAY, {}, {Part.logs, Part.results}, None),
        (107 * DAY, {"results_here": False}, {Part.logs}, None),
        (107 * DAY, {"needed": True}, set(), 107 * DAY),
        (101 * DAY, {"needed": True}, set(), 102 * DAY),
    ],
)
def test_parts_go_by_their_ages(now: int, more: dict[str, bool], goes: set[Part], due: int | None) -> None:
    flags = {"results_here": True, "needed": False} | more
    assert fate(RUN, WEEK, now, **flags) == Fate(frozenset(goes), due)


def test_a_pinned_run_keeps_all_and_is_never_due() -> None:
    pinned = Ended(1, "training-a", "acme", 1, 0, pinned=True)
    assert fate(pinned, WEEK, 1000 * DAY, results_here=True, needed=False) == Fate()


def test_what_went_before_does_not_go_again() -> None:
    run = Ended(1, "training-a", "acme", 1, 0, gone=frozenset({Part.logs}))
    assert fate(run, WEEK, 3 * DAY, results_here=True, needed=False) == Fate(frozenset(), 7 * DAY)


def test_with_the_record_go_the_logs_and_metrics_that_nobody_could_find_any_more() -> None:
    kept = {Part.results: FOR_EVER, Part.logs: 90 * DAY, Part.metrics: FOR_EVER, Part.records: 10 * DAY}
    found = fate(RUN, kept, 110 * DAY, results_here=True, needed=False)
    assert found == Fate(frozenset({Part.records, Part.logs, Part.metrics}))


def test_an_accounts_own_words_count_before_the_installations() -> None:
    found = policy({Part.logs: 5, Part.records: 9}, {Part.logs: FOR_EVER, Part.results: 3})
    assert found == {Part.results: 3, Part.logs: FOR_EVER, Part.metrics: FOR_EVER, Part.records: 9}


def test_the_sentence_names_the_parts_that_a_policy_let_go() -> None:
    sentence = swept_sentence(frozenset({Part.logs, Part.metrics}), WEEK)
    assert sentence == "By the account's retention these went: logs (kept for 2 days). The bill and the events stay."


@pytest.mark.parametrize(
    ("free", "total", "short"), [(99, 10_000, True), (100, 10_000, False), (6, 120, False), (5, 120, True)]
)
def test_a_disk_is_short_below_the_reserve_or_a_twentieth_of_a_small_one(free: int, total: int, short: bool) -> None:
    assert is_short(free, total, 100) is short
