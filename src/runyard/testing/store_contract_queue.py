"""The store's contract: the order of the queue, staging, and what holds room."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runyard.core import lifecycle
from runyard.core.events import EventKind
from runyard.core.lifecycle import RetryPolicy
from runyard.core.reasons import Reason
from runyard.core.resources import Resources
from runyard.core.run import Run, StateName, StopCause
from runyard.core.scheduling.snapshot import QueueClass
from runyard.core.spec import RunSpec
from runyard.ports.store import Holding, Store
from runyard.testing.builders import NOW, ONE_GPU, a_run_id, a_spec
from runyard.testing.lives import accept, end, finish, known, start, step

ALL = 1000


def staged(
    store: Store, count: int, *, first: int = 1, spec: RunSpec | None = None, account_id: str = "acme"
) -> list[Run]:
    """Runs that are ready on node n1."""
    runs = accept(store, count, first=first, spec=spec, account_id=account_id)
    assert store.mark_staged(runs[0].spec_id, "n1", NOW) == count
    return [known(store, run.id) for run in runs]


def order(store: Store, account_id: str | None = None) -> list[str]:
    """The ids of the waiting runs in the order of the queue."""
    return [run.id for run in store.waiting_page(account_id, ALL)]


def heads(queue_class: QueueClass) -> list[str]:
    """The ids of a class's heads."""
    return [head.run_id for head in queue_class.heads]


def ids(*numbers: int) -> list[str]:
    """The ids of runs made by number."""
    return [a_run_id(number) for number in numbers]


def lose(store: Store, run: Run, now: int = NOW) -> Run:
    """Start a run and lose its machine: it waits again, with a back-off of a second."""
    return step(
        store,
        lifecycle.lost(start(store, run, now=now), len(run.attempts) + 1, Reason.node_lost, "", RetryPolicy(), now),
    )


class QueueContract:
    """What waits, in which order, and what runs."""

    def test_what_is_known_to_be_ready_is_accepted_so(self, store: Store) -> None:
        runs = accept(store, 3, ready_on="n1")
        (asked,) = accept(store, first=10)
        assert [(run.ready_on, run.staged_ms, run.version) for run in runs] == [("n1", NOW, 2)] * 3
        assert list(store.specs_to_stage(ALL)) == [asked.spec_id]
        told = [(each.event.run_id, each.event.kind.value) for each in store.events(0, ALL)][:6]
        assert told == [(run.id, kind) for kind in ("accepted", "staged") for run in runs]
        (queue_class,) = store.classes(NOW, ALL)
        assert heads(queue_class) == [run.id for run in runs]
        again = accept(store, 3, ready_on="n1", key="k", first=20)
        assert [run.version for run in accept(store, 3, ready_on="n1", key="k", first=20)] == [2] * 3
        assert len(store.classes(NOW, ALL)[0].heads) == 3 + len(again)

    def test_specs_are_staged_in_the_order_of_the_queue(self, store: Store) -> None:
        low = accept(store, 2, spec=a_spec(priority=10))[0]
        first = accept(store, 2, first=10)[0]
        second = accept(store, first=20)[0]
        high = accept(store, first=30, spec=a_spec(priority=90))[0]
        expected = [high.spec_id, first.spec_id, second.spec_id, low.spec_id]
        assert list(store.specs_to_stage(ALL)) == expected
        assert list(store.specs_to_stage(2)) == expected[:2]
        assert store.set_rank(second.id, 1, NOW)
        assert list(store.specs_to_stage(ALL)) == [high.spec_id, second.spec_id, first.spec_id, low.spec_id]
        assert store.mark_staged(high.spec_id, "n1", NOW) == 1
        assert list(store.specs_to_stage(1)) == [second.spec_id]

    def test_a_spec_is_staged_as_long_as_a_run_of_it_needs_it(self, store: Store) -> None:
        first, second = accept(store, 2)
        step(store, lifecycle.stop(first, StopCause.cancel, NOW))
        assert list(store.specs_to_stage(ALL)) == [second.spec_id]
        step(store, lifecycle.staging_failed(second, Reason.data_not_found, "", NOW))
        assert list(store.specs_to_stage(ALL)) == []

    def test_marking_staged_is_the_transition_of_every_unready_run(self, store: Store) -> None:
        canceled, one, two, other = *accept(store, 3), *accept(store, first=9)
        step(store, lifecycle.stop(canceled, StopCause.cancel, NOW))
        before = store.last_seq()
        assert store.mark_staged(one.spec_id, "n1", NOW + 5) == 2
        moves = [lifecycle.staged(run, "n1", NOW + 5) for run in (one, two)]
        assert [known(store, run.id) for run in (one, two)] == [move.after for move in moves if move]
        told = store.events(before, ALL)
        assert [recorded.event for recorded in told] == [event for move in moves if move for event in move.events]
        assert [recorded.seq for recorded in told] == [before + 1, before + 2]
        assert known(store, canceled.id).ready_on is None
        assert known(store, other.id) == other
        assert store.mark_staged(one.spec_id, "n2", NOW + 6) == 0
        assert store.mark_staged(99, "n1", NOW + 6) == 0
        assert store.last_seq() == before + 2

    def test_a_node_that_lost_its_cache_unstages(self, store: Store) -> None:
        running, waiting = staged(store, 2)
        elsewhere = accept(store, first=9)[0]
        store.mark_staged(elsewhere.spec_id, "n2", NOW)
        running = start(store, running)
        before = store.last_seq()
        assert store.unstage("n1") == 1
        again = known(store, waiting.id)
        assert (again.ready_on, again.staged_ms, again.version) == (None, None, waiting.version + 1)
        assert known(store, running.id) == running
        assert known(store, elsewhere.id).ready_on == "n2"
        assert list(store.specs_to_stage(ALL)) == [waiting.spec_id]
        assert [heads(c) for c in store.classes(NOW, 9)] == [[elsewhere.id]]
        assert (store.unstage("n1"), store.last_seq()) == (0, before)
        assert store.mark_staged(waiting.spec_id, "n3", NOW + 1) == 1
        assert [heads(c) for c in store.classes(NOW, 9)] == [[waiting.id, elsewhere.id]]

    def test_waiting_runs_of_a_spec(self, store: Store) -> None:
        runs = staged(store, 4)
        accept(store, first=9)
        start(store, runs[0])
        store.set_rank(runs[3].id, 1, NOW)
        spec_id = runs[0].spec_id
        assert [run.id for run in store.waiting_of_spec(spec_id, ALL)] == ids(4, 2, 3)
        assert [run.id for run in store.waiting_of_spec(spec_id, 2)] == ids(4, 2)
        assert list(store.waiting_of_spec(99, ALL)) == []

    def test_classes_show_their_first_ready_runs(self, store: Store) -> None:
        accept(store, 2, first=100)
        assert list(store.classes(NOW, 5)) == []
        mine = staged(store, 3)
        big = staged(store, 1, first=10, spec=a_spec(resources=Resources(2, 1, 1), priority=60))
        theirs = staged(store, 2, first=20, account_id="beta")
        found = store.classes(NOW, 2)
        assert [(c.id, c.account_id, c.priority, c.shape) for c in found] == [
            (mine[0].class_id, "acme", 50, ONE_GPU),
            (big[0].class_id, "acme", 60, Resources(2, 1, 1)),
            (theirs[0].class_id, "beta", 50, ONE_GPU),
        ]
        assert [heads(c) for c in found] == [ids(1, 2), ids(10), ids(20, 21)]
        assert [(head.rank, head.node_id, head.not_before_ms) for head in found[0].heads] == [
            (run.rank, "n1", 0) for run in mine[:2]
        ]

    def test_a_run_that_no_longer_waits_leaves_its_class(self, store: Store) -> None:
        first, second, third = staged(store, 3)
        start(store, first)
        assert [heads(c) for c in store.classes(NOW, 9)] == [ids(2, 3)]
        step(store, lifecycle.stop(second, StopCause.cancel, NOW))
        finish(store, third)
        assert list(store.classes(NOW, 9)) == []

    def test_a_move_changes_the_heads(self, store: Store) -> None:
        staged(store, 4)
        store.set_rank(a_run_id(4), 2, NOW)
        assert [heads(c) for c in store.classes(NOW, 3)] == [ids(1, 4, 2)]

    def test_a_requeued_run_has_its_old_place(self, store: Store) -> None:
        runs = staged(store, 3)
        lost = lose(store, runs[1])
        (found,) = store.classes(NOW + 1000, 9)
        assert heads(found) == ids(1, 2, 3)
        assert found.heads[1].not_before_ms == NOW + 1000
        assert known(store, lost.id).rank == runs[1].rank

    def test_runs_in_back_off_do_not_crowd_out_the_others(self, store: Store) -> None:
        runs = staged(store, 6)
        for index, run in enumerate(runs[:3]):
            lose(store, run, NOW - 10 * index)
        assert [heads(c) for c in store.classes(NOW, 2)] == [ids(4, 5)]
        assert [heads(c) for c in store.classes(NOW, 4)] == [ids(3, 4, 5, 6)]
        assert [heads(c) for c in store.classes(NOW, 9)] == [ids(1, 2, 3, 4, 5, 6)]
        assert [heads(c) for c in store.classes(NOW + 990, 2)] == [ids(2, 3)]

    @pytest.mark.parametrize("moved", range(1, 6))
    @pytest.mark.parametrize("position", [-3, 0, 1, 2, 3, 4, 5, 6, 99])
    def test_a_move_puts_a_run_where_it_was_asked(self, store: Store, moved: int, position: int) -> None:
        accept(store, 5)
        before = known(store, a_run_id(moved))
        expected = [number for number in range(1, 6) if number != moved]
        place = min(max(position, 1), 5)
        expected.insert(place - 1, moved)
        assert store.set_rank(a_run_id(moved), position, NOW + 3)
        assert order(store) == ids(*expected)
        assert known(store, before.id).version == before.version + 1
        told = store.events(5, ALL)
        assert [(recorded.event.kind, recorded.event.run_id) for recorded in told] == [(EventKind.moved, before.id)]
        assert (told[0].event.at_ms, dict(told[0].event.body)) == (NOW + 3, {"position": place})

    def test_any_number_of_moves_to_one_place(self, store: Store) -> None:
        accept(store, 6)
        expected = list(range(1, 7))
        for turn in range(80):
            moved = expected[-1 - turn % 2]
            expected.remove(moved)
            expected.insert(2, moved)
            assert store.set_rank(a_run_id(moved), 3, NOW)
            assert order(store) == ids(*expected)
        assert len({run.rank for run in store.waiting_page(None, ALL)}) == 6

    def test_a_move_stays_within_the_priority(self, store: Store) -> None:
        accept(store, 2, spec=a_spec(priority=90))
        accept(store, 2, first=3, account_id="beta")
        accept(store, 2, first=5)
        assert store.set_rank(a_run_id(6), 1, NOW)
        assert order(store) == ids(1, 2, 6, 3, 4, 5)
        assert store.set_rank(a_run_id(1), 9, NOW)
        assert order(store) == ids(2, 1, 6, 3, 4, 5)

    def test_who_comes_later_stands_behind_the_last(self, store: Store) -> None:
        accept(store, 3)
        for number in (1, 2, 1):
            store.set_rank(a_run_id(number), 99, NOW)
        accept(store, 2, first=10)
        assert order(store) == ids(3, 2, 1, 10, 11)

    def test_a_run_that_comes_back_keeps_its_place_among_the_moved(self, store: Store) -> None:
        runs = accept(store, 6)
        running = start(store, runs[1])
        for number in (6, 5):  # directly before the one that stands there, behind the one that runs
            store.set_rank(a_run_id(number), 2, NOW)
        step(store, lifecycle.lost(running, 1, Reason.node_lost, "", RetryPolicy(), NOW))
        assert order(store) == ids(1, 2, 5, 6, 3, 4)

    def test_only_waiting_runs_move(self, store: Store) -> None:
        running, done = accept(store, 2)
        start(store, running)
        finish(store, done)
        before = store.last_seq()
        for run_id in (running.id, done.id, "training-none"):
            assert not store.set_rank(run_id, 1, NOW)
        assert store.last_seq() == before

    def test_a_move_outdates_a_decision_made_before(self, store: Store) -> None:
        run = accept(store, 2)[1]
        store.set_rank(run.id, 1, NOW)
        move = lifecycle.assign(run, "n1", (), NOW)
        assert move is not None
        assert store.apply([move]) == (False,)

    def test_how_many_stand_ahead(self, store: Store) -> None:
        accept(store, 2, spec=a_spec(priority=10))
        accept(store, 2, first=3, account_id="beta")
        accept(store, 3, first=5)
        accept(store, 1, first=8, spec=a_spec(priority=60, resources=Resources()))
        start(store, known(store, a_run_id(3)))
        queue = ids(8, 4, 5, 6, 7, 1, 2)
        assert order(store) == queue
        assert [store.ahead_of(known(store, run_id)) for run_id in queue] == list(range(7))

    def test_the_queue_is_shown_by_account(self, store: Store) -> None:
        accept(store, 2, spec=a_spec(priority=10))
        accept(store, 2, first=3, account_id="beta")
        accept(store, 2, first=5)
        assert order(store, "acme") == ids(5, 6, 1, 2)
        assert [run.id for run in store.waiting_page("acme", 3)] == ids(5, 6, 1)
        assert [run.id for run in store.waiting_page(None, 3)] == ids(3, 4, 5)
        assert order(store, "nobody") == []

    def test_what_holds_room(self, store: Store) -> None:
        runs = staged(store, 6)
        step(store, lifecycle.assign(runs[4], "n1", (3,), NOW))
        running = start(store, runs[1], node_id="n2", slots=(0, 2))
        stopping = step(store, lifecycle.stop(start(store, runs[0], slots=()), StopCause.cancel, NOW))
        end(store, start(store, runs[2]))
        lose(store, runs[3])
        assert list(store.holdings()) == [
            Holding(stopping.id, 1, "acme", "n1", (), ONE_GPU, stopping.class_id, 50, NOW, None, True),
            Holding(running.id, 1, "acme", "n2", (0, 2), ONE_GPU, running.class_id, 50, NOW),
            Holding(runs[4].id, 1, "acme", "n1", (3,), ONE_GPU, runs[4].class_id, 50, NOW),
        ]
        again = start(store, known(store, runs[3].id), node_id="n3", slots=(1,))
        assert [(h.run_id, h.attempt, h.node_id) for h in store.holdings()][2] == (again.id, 2, "n3")

    def test_what_is_active_on_a_node(self, store: Store) -> None:
        runs = staged(store, 6)
        unstaged = accept(store, first=20)[0]
        start(store, runs[0])
        end(store, start(store, runs[1]))
        finish(store, runs[2])
        step(store, lifecycle.staging_failed(runs[3], Reason.data_not_found, "", NOW))
        start(store, runs[4], node_id="n2")
        step(store, lifecycle.staging_failed(unstaged, Reason.data_not_found, "", NOW))
        assert _ids_of(store.active_runs("n1")) == ids(1, 2, 4, 5)
        assert _ids_of(store.active_runs("n2")) == ids(5)
        assert _ids_of(store.active_runs("n3")) == []

    def test_who_waits_again_after_a_node(self, store: Store) -> None:
        runs = staged(store, 4)
        lose(store, runs[2])
        lose(store, runs[0])
        start(store, runs[1])
        assert _ids_of(store.requeued_runs("n1")) == ids(1, 3)
        start(store, known(store, a_run_id(1)), node_id="n2", now=NOW + 5000)
        assert _ids_of(store.requeued_runs("n1")) == ids(3)
        assert _ids_of(store.requeued_runs("n2")) == []

    def test_a_typical_duration_is_the_median_of_the_latest(self, store: Store) -> None:
        assert store.typical_duration_ms(1, "acme") is None
        runs = accept(store, 23)
        for index, run in enumerate(runs):
            finish(store, run, now=NOW + 10_000 * index, duration_ms=9_999 if index < 3 else 100 * (index - 2))
        assert store.typical_duration_ms(runs[0].spec_id, "acme") == 1050  # of 100, 200, ... 2000
        other = accept(store, first=90)[0]
        assert store.typical_duration_ms(other.spec_id, "acme") == 1050
        assert store.typical_duration_ms(other.spec_id, "beta") is None
        finish(store, other, now=NOW + 10**6, duration_ms=7)
        assert store.typical_duration_ms(other.spec_id, "acme") == 7
        assert store.counts("acme") == {StateName.completed: 24}


def _ids_of(runs: Sequence[Run]) -> list[str]:
    return [run.id for run in runs]
