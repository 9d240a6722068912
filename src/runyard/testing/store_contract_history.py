"""The store's contract: events, the ledger and its sums."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runyard.core import lifecycle
from runyard.core.events import EventKind
from runyard.core.lifecycle import RetryPolicy
from runyard.core.metering import settle
from runyard.core.reasons import Reason
from runyard.core.run import StateName, StopCause
from runyard.ports.store import Store, UsageRow
from runyard.testing.builders import NOW, a_run_id, a_spec
from runyard.testing.lives import PRICE, accept, finish, known, start, step

ALL = 1000
DAY = 86_400_000
MIDNIGHT = NOW // DAY * DAY


def seqs(store: Store, after: int = 0, limit: int = ALL, **filters: object) -> list[int]:
    """Sequence numbers of the events that pass."""
    return [recorded.seq for recorded in store.events(after, limit, **filters)]  # pyright: ignore[reportArgumentType]  # each caller names real filters


def usage_line(row: UsageRow) -> tuple[str, int, int, int, int, int]:
    """The parts of a row that these tests look at."""
    return row.group, row.runs, row.attempts, row.gpu_ms, row.cost, row.waste_gpu_ms


class HistoryContract:
    """What happened, and what it held."""

    def test_an_empty_history(self, store: Store) -> None:
        assert (store.last_seq(), store.latest_event_ms()) == (0, 0)
        assert list(store.events(0, ALL)) == []
        assert list(store.ledger("training-none")) == []
        assert list(store.usage(None, "account", None, None)) == []
        assert not any(store.counts(None).values())

    def test_events_are_read_from_a_cursor(self, store: Store) -> None:
        accept(store, 5)
        assert seqs(store) == [1, 2, 3, 4, 5]
        assert seqs(store, 2) == [3, 4, 5]
        assert seqs(store, 2, 2) == [3, 4]
        assert seqs(store, 5) == []
        assert seqs(store, 500) == []
        assert store.last_seq() == 5

    def test_events_are_filtered(self, store: Store) -> None:
        first, second = accept(store, 2)
        accept(store, 1, first=9, account_id="beta", member_id="ben")
        step(store, lifecycle.staged(second, "n1", NOW + 1))
        start(store, first, now=NOW + 2)
        assert seqs(store, account_id="beta") == [3]
        assert seqs(store, account_id="acme") == [1, 2, 4, 5, 6]
        assert seqs(store, 1, 2, account_id="acme") == [2, 4]
        assert seqs(store, run_id=first.id) == [1, 5, 6]
        assert seqs(store, run_id=first.id, account_id="beta") == []
        assert seqs(store, kinds=frozenset({EventKind.staged, EventKind.running})) == [4, 6]
        assert seqs(store, run_id=first.id, kinds=frozenset({EventKind.accepted, EventKind.staged})) == [1]

    def test_the_latest_time(self, store: Store) -> None:
        run = accept(store, now_ms=NOW + 50)[0]
        assert store.latest_event_ms() == NOW + 50
        step(store, lifecycle.staged(run, "n1", NOW + 20))
        assert store.latest_event_ms() == NOW + 50
        accept(store, first=2, now_ms=NOW + 60)
        assert store.latest_event_ms() == NOW + 60

    def test_a_ledger_has_an_entry_for_each_attempt(self, store: Store) -> None:
        run = start(store, accept(store)[0])
        run = step(store, lifecycle.lost(run, 1, Reason.node_lost, "", RetryPolicy(), NOW + 500))
        run = finish(store, run, now=NOW + 2000, duration_ms=1500)
        assert list(store.ledger(run.id)) == [settle(run, attempt, PRICE) for attempt in run.attempts]
        assert [(entry.gpu_ms, entry.cost, entry.waste) for entry in store.ledger(run.id)] == [
            (500, 0, True),
            (1500, 1500, False),
        ]

    def test_usage_is_summed_by_account_and_user(self, store: Store) -> None:
        self._history(store)
        by_account = [usage_line(row) for row in store.usage(None, "account", None, None)]
        assert by_account == [("acme", 3, 4, 6000, 6000, 500), ("beta", 1, 1, 8000, 8000, 0)]
        by_user = [usage_line(row) for row in store.usage("acme", "user", None, None)]
        assert by_user == [("Mia", 2, 3, 3000, 3000, 500), ("Zoe", 1, 1, 3000, 3000, 0)]
        whole = store.usage("acme", "account", None, None)[0]
        assert (whole.cpu_ms, whole.gb_ms) == (6000, 6000)

    def test_usage_is_summed_by_day(self, store: Store) -> None:
        self._history(store)
        rows = [usage_line(row) for row in store.usage(None, "day", None, None)]
        assert rows == [("2023-11-14", 2, 3, 3000, 3000, 500), ("2023-11-15", 2, 2, 11000, 11000, 0)]

    def test_usage_is_summed_by_tag(self, store: Store) -> None:
        self._history(store)
        rows = [usage_line(row) for row in store.usage("acme", "tag", None, None)]
        assert rows == [("x", 3, 4, 6000, 6000, 500), ("y", 1, 1, 3000, 3000, 0)]

    def test_usage_of_a_window(self, store: Store) -> None:
        self._history(store)
        windows = {
            (MIDNIGHT + DAY, None): 11000,
            (MIDNIGHT + DAY + 1, None): 8000,
            (None, MIDNIGHT + DAY): 3000,
            (None, MIDNIGHT + DAY + 1): 6000,
            (MIDNIGHT, MIDNIGHT): 0,
        }
        for (since, until), expected in windows.items():
            assert sum(row.gpu_ms for row in store.usage(None, "account", since, until)) == expected

    def test_usage_has_four_ways_to_group(self, store: Store) -> None:
        with pytest.raises(ValueError, match="account, user, day, tag"):
            store.usage(None, "month", None, None)

    def test_usage_of_a_member_that_is_not_known(self, store: Store) -> None:
        finish(store, accept(store)[0])
        run = start(store, accept(store, first=2)[0])
        move = lifecycle.lost(run, 1, Reason.node_lost, "", RetryPolicy(0), NOW + 1)
        assert move is not None
        entry = settle(move.after, move.after.attempts[-1], PRICE)
        assert store.apply([move], [replace(entry, member_id="ghost")]) == (True,)
        assert [row.group for row in store.usage(None, "user", None, None)] == ["Mia", "ghost"]

    def test_a_whole_life_adds_up(self, store: Store) -> None:
        runs = accept(store, 4)
        finish(store, runs[0], exit_code=3)
        finish(store, runs[1])
        step(store, lifecycle.stop(runs[2], StopCause.cancel, NOW))
        counts = {state: count for state, count in store.counts(None).items() if count}
        assert counts == {
            StateName.failed: 1,
            StateName.completed: 1,
            StateName.canceled: 1,
            StateName.waiting: 1,
        }
        kinds = [recorded.event.kind.value for recorded in store.events(0, ALL, run_id=runs[0].id)]
        assert kinds == ["accepted", "assigned", "running", "attempt_ended", "storing", "finished"]
        assert known(store, a_run_id(4)) == runs[3]

    def _history(self, store: Store) -> None:
        """Before midnight mia ran 1 s, then 2 s (across it) after losing 0.5 s; from midnight zoe 3 s, ben 8 s."""
        mias = accept(store, 2, spec=a_spec(tags=("x",)))
        zoes = accept(store, 1, first=5, spec=a_spec(tags=("x", "y")), member_id="zoe")
        bens = accept(store, 1, first=7, account_id="beta", member_id="ben")
        evening = MIDNIGHT + DAY - 6000
        finish(store, mias[0], now=evening, duration_ms=1000)
        lost = start(store, mias[1], now=evening)
        again = step(store, lifecycle.lost(lost, 1, Reason.node_lost, "", RetryPolicy(), evening + 500))
        finish(store, again, now=evening + 5000, duration_ms=2000)
        finish(store, zoes[0], now=MIDNIGHT + DAY, duration_ms=3000)
        finish(store, bens[0], now=MIDNIGHT + DAY + 1, duration_ms=8000)
