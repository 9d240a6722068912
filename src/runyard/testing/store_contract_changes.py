"""The store's contract: guarded changes, deletion, and what many threads do at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

from runyard.core import lifecycle
from runyard.core.events import Event, EventKind
from runyard.core.lifecycle import Exit, RetryPolicy, Transition
from runyard.core.metering import settle
from runyard.core.reasons import Reason
from runyard.core.run import Run, Starting, StateName, StopCause, Storing, Waiting
from runyard.ports.store import RunQuery, Store
from runyard.testing.builders import NOW, a_run, a_run_id, a_spec
from runyard.testing.lives import PRICE, accept, end, finish, known, start, step

Decide = Callable[[Run], Transition | None]

ALL = 1000
CRASHED = Exit(NOW + 9, None, 9, oom_kills=1, log_bytes=7, tamper_proof=False, peak_memory_mib=None)


def must(transition: Transition | None) -> Transition:
    """A transition that is possible."""
    assert transition is not None
    return transition


def assign(run: Run, now: int = NOW) -> Transition:
    """Give the run slot 0 of node n1."""
    return must(lifecycle.assign(run, "n1", (0,), now))


class ChangeContract:
    """What happens to runs."""

    def test_a_run_is_read_back_as_it_became(self, store: Store) -> None:
        policy = RetryPolicy(platform_attempts=1)
        run = accept(store, spec=a_spec(max_retries=1))[0]
        steps: list[Decide] = [
            lambda run: lifecycle.staged(run, "n1", NOW + 1),
            lambda run: lifecycle.assign(run, "n1", (2, 0), NOW + 2),
            lambda run: lifecycle.lost(run, 1, Reason.shim_lost, "gone", policy, NOW + 3),
            lambda run: lifecycle.assign(run, "n1", (), NOW + 4),
            lambda run: lifecycle.begun(run, 2, NOW + 5, NOW + 6),
            lambda run: lifecycle.stop(run, StopCause.time_limit, NOW + 7),
            lambda run: lifecycle.ended(run, 2, replace(CRASHED, cause=StopCause.time_limit), policy, NOW + 9),
            lambda run: lifecycle.assign(run, "n1", (1,), NOW + 10),
            lambda run: lifecycle.begun(run, 3, NOW + 10, NOW + 10),
            lambda run: lifecycle.ended(run, 3, replace(CRASHED, at_ms=NOW + 11), policy, NOW + 12),
            lambda run: lifecycle.store_failed(run, "bucket is away \u2014 é", NOW + 13, denied=False),
            lambda run: lifecycle.stored(run, NOW + 14, 3, 10**12),
        ]
        seen: list[StateName] = []
        for decide in steps:
            move = must(decide(run))
            run = step(store, move)
            assert run == move.after
            assert known(store, run.id) == move.after
            seen.append(run.state_name)
        assert set(seen) == set(StateName) - {StateName.completed, StateName.canceled}
        assert len(run.attempts) == 3

    def test_every_event_is_recorded_in_order(self, store: Store) -> None:
        run = accept(store)[0]
        expected = [recorded.event for recorded in store.events(0, ALL)]
        steps: list[Decide] = [
            lambda run: assign(run, NOW + 1),
            lambda run: lifecycle.begun(run, 1, NOW + 2, NOW + 3),
            lambda run: lifecycle.ended(run, 1, replace(CRASHED, oom_kills=0), RetryPolicy(), NOW + 9),
            lambda run: lifecycle.stored(run, NOW + 10, 1, 2),
        ]
        for decide in steps:
            move = must(decide(run))
            expected += move.events
            run = step(store, move)
        told = store.events(0, ALL)
        assert [recorded.seq for recorded in told] == list(range(1, len(expected) + 1))
        assert [recorded.event for recorded in told] == expected

    def test_a_stale_change_is_refused_and_the_others_apply(self, store: Store) -> None:
        first, stale, last = accept(store, 3)
        step(store, lifecycle.staged(stale, "n1", NOW))
        before = store.last_seq()
        assert store.apply([assign(first), assign(stale), assign(last)]) == (True, False, True)
        told = [recorded.event.run_id for recorded in store.events(before, ALL)]
        assert told == [first.id, last.id]
        assert (known(store, stale.id).state, known(store, stale.id).version) == (Waiting(), 2)
        assert store.counts("acme") == {StateName.waiting: 1, StateName.starting: 2}

    def test_a_change_from_the_future_is_refused(self, store: Store) -> None:
        run = accept(store)[0]
        assert store.apply([assign(replace(run, version=2))]) == (False,)
        assert known(store, run.id) == run

    def test_a_run_that_is_not_there_cannot_change(self, store: Store) -> None:
        accept(store)
        assert store.apply([assign(a_run(99))]) == (False,)
        assert (store.run(a_run_id(99)), store.last_seq()) == (None, 1)

    def test_nothing_to_apply(self, store: Store) -> None:
        assert store.apply([]) == ()

    def test_changes_of_one_run_follow_each_other_in_a_call(self, store: Store) -> None:
        run = accept(store)[0]
        staged = must(lifecycle.staged(run, "n1", NOW))
        assigned = assign(staged.after)
        assert store.apply([staged, staged, assigned, assigned]) == (True, False, True, False)
        assert known(store, run.id) == assigned.after
        kinds = [recorded.event.kind for recorded in store.events(0, ALL)]
        assert kinds == [EventKind.accepted, EventKind.staged, EventKind.assigned]

    def test_rank_and_tags_are_not_a_transitions_to_change(self, store: Store) -> None:
        run = accept(store, spec=a_spec(tags=("x",)))[0]
        move = assign(run)
        step(store, replace(move, after=replace(move.after, rank=7, tags=())))
        assert (known(store, run.id).rank, known(store, run.id).tags) == (run.rank, ("x",))

    def test_notes_are(self, store: Store) -> None:
        run = accept(store)[0]
        move = assign(run)
        assert step(store, replace(move, after=replace(move.after, notes=("warm start",)))).notes == ("warm start",)

    def test_the_ledger_takes_entries_of_applied_changes_only(self, store: Store) -> None:
        running = [start(store, run) for run in accept(store, 3)]
        ends = [must(lifecycle.ended(run, 1, CRASHED, RetryPolicy(), NOW + 9)) for run in running]
        stale = running[1]
        step(store, lifecycle.stop(stale, StopCause.cancel, NOW + 1))
        entries = [settle(move.after, move.after.attempts[-1], PRICE) for move in ends]
        unknown = replace(entries[0], run_id=a_run_id(77))
        other_attempt = replace(entries[2], attempt=5)
        assert store.apply(ends, [*entries, unknown, other_attempt]) == (True, False, True)
        kept = [list(store.ledger(run_id)) for run_id in (running[0].id, stale.id, running[2].id, a_run_id(77))]
        assert kept == [[entries[0]], [], [entries[2]], []]

    def test_an_attempt_is_billed_once(self, store: Store) -> None:
        storing = end(store, start(store, accept(store)[0]))
        entry = store.ledger(storing.id)[0]
        again = must(lifecycle.store_failed(storing, "no", NOW + 9, denied=False))
        assert store.apply([again], [replace(entry, cost=entry.cost + 1)]) == (True,)
        assert list(store.ledger(storing.id)) == [entry]

    def test_half_characters_in_evidence_do_no_harm(self, store: Store) -> None:
        run = accept(store)[0]
        failed = step(store, lifecycle.staging_failed(run, Reason.code_invalid, "bad name \udc80.py", NOW))
        assert isinstance(failed.state, Storing)
        assert failed.state.ending.detail.startswith("bad name ")
        assert store.events(0, ALL)[1].event.kind is EventKind.staging_problem

    def test_of_appliers_at_once_one_wins_each_run(self, store: Store) -> None:
        runs = accept(store, 12)
        barrier = threading.Barrier(6)

        def race(worker: int) -> list[bool]:
            barrier.wait(30)
            return [store.apply([must(lifecycle.assign(run, f"n{worker}", (worker,), NOW))])[0] for run in runs]

        with ThreadPoolExecutor(6) as pool:
            wins = list(pool.map(race, range(6)))
        assert [sum(column) for column in zip(*wins, strict=True)] == [1] * 12
        for run, column in zip(runs, zip(*wins, strict=True), strict=True):
            (attempt,) = known(store, run.id).attempts
            assert attempt.node_id == f"n{column.index(True)}"
        assert [recorded.seq for recorded in store.events(0, ALL)] == list(range(1, 25))
        assert store.counts("acme") == {StateName.starting: 12}

    def test_a_reader_sees_every_event_once_and_in_order(self, store: Store) -> None:
        accept(store)
        done = threading.Event()
        seen: list[int] = []

        def follow() -> None:
            cursor = 0
            while True:
                last = done.is_set()
                for recorded in store.events(cursor, 7):
                    seen.append(recorded.seq)
                    cursor = recorded.seq
                if last and cursor == store.last_seq():
                    return

        def write(worker: int) -> None:
            for i in range(6):
                runs = accept(store, 3, first=1000 * (worker + 1) + 3 * i)
                store.apply([assign(run) for run in runs])

        reader = threading.Thread(target=follow)
        reader.start()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        done.set()
        reader.join(30)
        assert not reader.is_alive()
        assert seen == list(range(1, 1 + 1 + 4 * 6 * 6))

    def test_a_reader_sees_whole_runs(self, store: Store) -> None:
        run = accept(store)[0]
        done = threading.Event()
        torn: list[Run] = []

        def look() -> None:
            while not done.is_set():
                seen = known(store, run.id)
                holds = bool(seen.attempts) and seen.attempts[-1].released_ms is None
                if holds != isinstance(seen.state, Starting) or seen.version != 1 + 2 * len(seen.attempts) - holds:
                    torn.append(seen)

        reader = threading.Thread(target=look)
        reader.start()
        now = run
        for number in range(1, 21):
            now = step(store, assign(now))
            now = step(store, lifecycle.lost(now, number, Reason.node_lost, "", RetryPolicy(10**6), NOW))
        done.set()
        reader.join(30)
        assert not reader.is_alive()
        assert torn == []

    def test_a_final_run_is_deleted(self, store: Store) -> None:
        run = finish(store, accept(store, spec=a_spec(tags=("x",)))[0])
        entries, told = list(store.ledger(run.id)), list(store.events(0, ALL))
        assert store.delete_run(run.id, NOW + 77)
        assert store.run(run.id) is None
        assert list(store.runs(RunQuery("acme"))) == []
        assert list(store.runs(RunQuery("acme", tag="x"))) == []
        assert list(store.run_ids(None, "", 9)) == []
        assert not any(store.counts("acme").values())
        assert list(store.ledger(run.id)) == entries
        assert store.typical_duration_ms(run.spec_id, "acme") is None
        *before, deleted = store.events(0, ALL)
        assert before == told
        assert deleted.event == Event(EventKind.deleted, run.id, "acme", NOW + 77)
        assert [row.group for row in store.usage("acme", "tag", None, None)] == ["x"]
        assert not store.delete_run(run.id)

    def test_the_sequence_goes_on_after_a_deletion(self, store: Store) -> None:
        finish(store, accept(store)[0], duration_ms=5)
        assert store.delete_run(a_run_id(1))
        assert store.events(0, ALL)[-1].event.at_ms == NOW + 5
        assert accept(store, first=2)[0].seq == 2

    def test_only_final_runs_can_be_deleted(self, store: Store) -> None:
        waiting, running, stopping, storing = accept(store, 4)
        start(store, running)
        step(store, lifecycle.stop(start(store, stopping), StopCause.cancel, NOW))
        end(store, start(store, storing))
        for run in (waiting, running, stopping, storing):
            assert not store.delete_run(run.id)
        assert not store.delete_run("training-none")
        assert len(store.runs(RunQuery("acme"))) == 4
        assert all(a.seq < b.seq for a, b in pairwise(store.events(0, ALL)))
