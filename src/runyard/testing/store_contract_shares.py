"""The store's contract: priorities, start windows, shares, budgets, machines that are drained."""

from __future__ import annotations

import pytest

from runyard.core import lifecycle
from runyard.core.budget import MS_PER_DAY, Budget, Period, Spent
from runyard.core.events import EventKind
from runyard.core.metering import LedgerEntry
from runyard.core.run import StateName, StopCause, Waiting
from runyard.core.spec import Options
from runyard.core.use import Held, Use, amount, decayed
from runyard.ports.shares import AccountShare
from runyard.ports.store import Store
from runyard.testing.builders import NOW, a_node, a_run_id, a_spec
from runyard.testing.lives import accept, finish, known, start, step

ALL = 1000
WEEK_MS = 7 * MS_PER_DAY


def settle(store: Store, number: int, *, gpu_ms: int = 10, cost: int = 3, at: int = NOW, waste: bool = False) -> None:
    """Let an attempt that held a GPU for ``gpu_ms`` until ``at`` be billed."""
    run = start(store, accept(store, first=number)[0], now=NOW)
    move = lifecycle.stop(run, StopCause.cancel, NOW)
    assert move is not None
    from_ms = at - gpu_ms
    entry = LedgerEntry(run.id, 1, "acme", "mia", from_ms, at, gpu_ms, 0, 0, cost, waste)
    held = Held(run.id, 1, "acme", 1.0, from_ms, at)
    assert store.apply([move], [entry], held=() if waste else (held,)) == (True,)


class ShareContract:
    """What accounts are due, and what is changed while runs wait."""

    def test_a_run_of_another_priority_stands_elsewhere_and_keeps_its_rank(self, store: Store) -> None:
        runs = accept(store, 3)
        low = accept(store, 2, first=10, spec=a_spec(priority=10))
        store.mark_staged(runs[0].spec_id, "n1", NOW)
        store.mark_staged(low[0].spec_id, "n1", NOW)
        assert store.set_priority(runs[1].id, 10, NOW + 5)
        order = [run.id for run in store.waiting_page(None, ALL)]
        assert order == [runs[0].id, runs[2].id, runs[1].id, *(run.id for run in low)]
        assert [store.ahead_of(known(store, run_id)) for run_id in order] == [0, 1, 2, 3, 4]
        changed = known(store, runs[1].id)
        assert (changed.priority, changed.rank, changed.class_id) == (10, runs[1].rank, low[0].class_id)
        found = {c.priority: [head.run_id for head in c.heads] for c in store.classes(NOW, ALL)}
        assert found == {50: [runs[0].id, runs[2].id], 10: [runs[1].id, low[0].id, low[1].id]}
        (told,) = store.events(0, ALL, kinds=frozenset({EventKind.priority}))
        assert (told.event.run_id, told.event.at_ms, dict(told.event.body)) == (
            runs[1].id,
            NOW + 5,
            {"priority": 10, "before": 50},
        )

    def test_a_priority_that_nobody_has_makes_a_class(self, store: Store) -> None:
        run = accept(store, 2)[0]
        store.mark_staged(run.spec_id, "n1", NOW)
        assert store.set_priority(run.id, 99, NOW)
        assert [c.priority for c in store.classes(NOW, ALL)] == [50, 99]
        again = known(store, run.id)
        assert again.version == run.version + 2
        stale = lifecycle.assign(known(store, a_run_id(1)), "n1", (), NOW)
        assert stale is not None
        store.set_priority(run.id, 98, NOW)
        assert store.apply([stale]) == (False,)

    def test_only_waiting_runs_change_their_priority(self, store: Store) -> None:
        running, done, granted = accept(store, 3)
        store.mark_staged(running.spec_id, "n1", NOW)
        start(store, known(store, running.id))
        finish(store, known(store, done.id))
        step(store, lifecycle.granted(known(store, granted.id), "n1", NOW))
        before = store.last_seq()
        for run_id in (running.id, done.id, "training-none"):
            assert not store.set_priority(run_id, 7, NOW)
        assert store.last_seq() == before
        assert store.set_priority(granted.id, 7, NOW)
        assert lifecycle.is_granted(known(store, granted.id))
        (found,) = store.classes(NOW, ALL)
        assert [(found.priority, head.run_id, head.granted) for head in found.heads] == [(7, granted.id, True)]

    def test_the_same_priority_changes_nothing(self, store: Store) -> None:
        run = accept(store)[0]
        assert store.set_priority(run.id, run.priority, NOW)
        assert known(store, run.id) == run

    def test_a_run_may_start_no_earlier_than_it_says(self, store: Store) -> None:
        late = accept(store, spec=a_spec(options=Options(start_after_ms=NOW + 500, max_runtime_ms=70)))[0]
        past = accept(store, first=5, spec=a_spec(options=Options(start_after_ms=NOW - 500)))[0]
        assert (late.state, past.state) == (Waiting(NOW + 500), Waiting(0))
        for run in (late, past):
            store.mark_staged(run.spec_id, "n1", NOW)
        (found,) = store.classes(NOW, ALL)
        assert [(h.run_id, h.not_before_ms, h.opens_ms, h.limit_ms) for h in found.heads] == [
            (late.id, 0, NOW + 500, 70),
            (past.id, 0, 0, None),
        ]
        (found,) = store.classes(NOW + 500, 1, expected={late.class_id: 33})
        assert [(head.run_id, head.expected_ms) for head in found.heads] == [(late.id, 33)]

    def test_a_run_after_others_is_told_when_it_may_start_later(self, store: Store) -> None:
        first = accept(store)[0]
        spec = a_spec(options=Options(start_after_ms=NOW + 500, after=(first.id,)))
        run = accept(store, first=7, spec=spec, after=(first.id,))[0]
        assert lifecycle.is_blocked(run)
        freed = step(store, lifecycle.unblocked(run, NOW + 9, NOW + 500))
        assert freed.state == Waiting(NOW + 500)

    def test_the_window_of_an_account_is_that_of_its_heads(self, store: Store) -> None:
        for first, account in ((1, "acme"), (5, "beta")):
            run, granted = accept(store, 2, first=first, account_id=account)
            store.mark_staged(run.spec_id, "n1", NOW)
            step(store, lifecycle.granted(known(store, granted.id), "n1", NOW))
        found = store.classes(NOW, ALL, opens={"beta": NOW + 9})
        opens = {c.account_id: [(head.granted, head.opens_ms) for head in c.heads] for c in found}
        assert opens == {"acme": [(False, 0), (True, 0)], "beta": [(False, NOW + 9), (True, NOW + 9)]}

    def test_limits_are_told_of_what_holds_room(self, store: Store) -> None:
        start(store, accept(store, spec=a_spec(options=Options(max_runtime_ms=7000, priority=60)))[0], now=NOW + 4)
        (found,) = store.holdings()
        assert (found.limit_ms, found.priority, found.since_ms, found.stopping) == (7000, 60, NOW + 4, False)

    def test_weights_and_windows(self, store: Store) -> None:
        accept(store)
        assert store.shares(NOW) == {}
        assert store.set_weight("acme", 2.5)
        assert store.set_window("acme", "22:00-06:00")
        assert store.shares(NOW) == {"acme": AccountShare(2.5, "22:00-06:00")}
        assert store.set_weight("acme", None)
        assert store.set_window("acme", None)
        assert store.shares(NOW).get("acme", AccountShare()) == AccountShare()
        assert not store.set_weight("nobody", 1.0)
        assert not store.set_window("nobody", None)
        assert not store.set_budget("nobody", Budget(Period.week, 1))

    def test_what_was_used_decays(self, store: Store) -> None:
        settle(store, 1, gpu_ms=1000, at=NOW)
        first = amount(1.0, NOW - 1000, NOW, WEEK_MS)
        use = store.shares(NOW)["acme"].use
        assert (use.value, use.at_ms) == (pytest.approx(first), NOW)
        settle(store, 2, gpu_ms=500, at=NOW + WEEK_MS)
        use = store.shares(NOW)["acme"].use
        assert (use.value, use.at_ms) == (
            pytest.approx(first / 2 + amount(1.0, 0, 500, WEEK_MS)),
            NOW + WEEK_MS,
        )
        settle(store, 3, gpu_ms=500, at=NOW)  # told late
        assert decayed(store.shares(NOW)["acme"].use, NOW + WEEK_MS, WEEK_MS) == pytest.approx(
            first / 2 + 1.5 * amount(1.0, 0, 500, WEEK_MS)
        )
        assert store.set_weight("acme", 3.0)
        assert store.shares(NOW)["acme"].use.at_ms == NOW + WEEK_MS

    def test_waste_is_neither_used_nor_spent(self, store: Store) -> None:
        settle(store, 1, waste=True)
        store.set_budget("acme", Budget(Period.month, 100))
        found = store.shares(NOW)["acme"]
        assert (found.use, found.spent) == (Use(), Spent())

    def test_an_attempt_is_spent_and_used_once(self, store: Store) -> None:
        settle(store, 1)
        run = known(store, a_run_id(1))
        store.set_budget("acme", Budget(Period.week, 100, 50, 60))
        before = store.shares(NOW)["acme"]
        assert before.spent == Spent(10, 3)
        assert before.budget == Budget(Period.week, 100, 50, 60)
        (entry,) = store.ledger(run.id)
        again = lifecycle.ended(run, 1, lifecycle.Exit(NOW, 0, None), lifecycle.RetryPolicy(), NOW)
        assert again is not None
        assert store.apply([again], [entry], held=(Held(run.id, 1, "acme", 1.0, NOW - 10, NOW),)) == (True,)
        assert known(store, run.id).state_name is StateName.storing
        assert store.shares(NOW)["acme"] == before

    def test_a_budget_counts_what_its_period_has_seen(self, store: Store) -> None:
        monday = (NOW // MS_PER_DAY - (NOW // MS_PER_DAY + 3) % 7) * MS_PER_DAY
        settle(store, 1, gpu_ms=1000, cost=1001, at=monday + 400)  # 600 ms of it were last week's
        store.set_budget("acme", Budget(Period.week, 5000))
        assert store.shares(monday + 500)["acme"].spent == Spent(400, 401)
        assert store.shares(monday - 1)["acme"].spent == Spent(1000, 1001)
        assert store.shares(monday + WEEK_MS)["acme"].spent == Spent()
        assert store.set_budget("acme", None)
        assert store.shares(monday)["acme"].budget is None

    def test_a_machine_is_drained_whatever_it_says(self, store: Store) -> None:
        assert not store.set_draining("n1", NOW)
        store.put_node(a_node("n1"))
        store.put_node(a_node("n2"))
        assert store.set_draining("n1", NOW)
        assert store.set_draining("n1", NOW + 7)
        store.put_node(a_node("n1", version="2"))
        assert [(node.version, node.draining_ms) for node in store.nodes()] == [("2", NOW), ("0", None)]
        assert store.set_draining("n1", None)
        assert store.set_draining("n2", None)
        assert [node.draining_ms for node in store.nodes()] == [None, None]
