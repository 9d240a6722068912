"""Random lives of runs, led at once in the SQL store and in the store in memory: nobody can tell them apart."""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from runyard.adapters.sql import SqlStore, open_store
from runyard.core import lifecycle
from runyard.core.account import Account
from runyard.core.budget import Budget, Period
from runyard.core.errors import Conflict
from runyard.core.events import EventKind
from runyard.core.lifecycle import Exit, RetryPolicy, Transition
from runyard.core.metering import LedgerEntry, settle
from runyard.core.reasons import Reason
from runyard.core.resources import Resources
from runyard.core.run import Run, StateName, StopCause
from runyard.core.use import Held
from runyard.ports.shares import AccountShare
from runyard.ports.store import RunQuery, Store
from runyard.testing.builders import NOW, a_node, a_run_id, a_spec, a_submission
from runyard.testing.lives import PRICE
from runyard.testing.memory_store import MemoryStore

ALL = 10_000
POLICY = RetryPolicy(platform_attempts=2, first_backoff_ms=50)
NODES = st.sampled_from(["n1", "n2"])
ANY = st.integers(0, 10**6)
"""Picks one of the runs that are there."""


def plain(run: Run) -> Run:
    """Ranks are each store's own; their order is not."""
    return replace(run, rank=0)


def held_of(transitions: list[Transition]) -> list[Held]:
    """What the attempts that were released held: a GPU each, and half of one without any."""
    return [
        Held(t.after.id, t.settled.number, t.after.account_id, t.after.resources.gpus or 0.5, t.settled.assigned_ms,
             t.settled.released_ms or 0)
        for t in transitions
        if t.settled is not None
    ]  # fmt: skip


def ledger_of(transitions: list[Transition]) -> list[LedgerEntry]:
    return [settle(t.after, t.settled, PRICE) for t in transitions if t.settled is not None]


class TwoStores(RuleBasedStateMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name, "runyard.db")
        shutil.copy(self.template, path)
        self.sql: SqlStore = open_store(f"sqlite:///{path}")
        self.looker = sqlite3.connect(path)
        self.memory = MemoryStore()
        self.now = NOW
        self.made = 0
        self.moved = False
        self.stale: list[tuple[Transition, Transition]] = []
        for store in (self.sql, self.memory):
            for account in ("acme", "beta"):
                store.ensure_account(Account(account, account))
                store.ensure_member(f"of-{account}", account, account.title())
            store.put_node(a_node("n1"))

    def teardown(self) -> None:
        self.looker.close()
        self.sql.close()
        self.folder.cleanup()

    def same(self, ask: Callable[[Store], object]) -> object:
        """Ask both stores; they must agree."""
        ours, theirs = ask(self.sql), ask(self.memory)
        assert ours == theirs
        return ours

    def runs(self, *states: StateName) -> list[Run]:
        """Runs in these states, of the store in memory."""
        return list(self.memory.runs(RunQuery(None, frozenset(states), limit=ALL)))

    def decide(self, number: int, decision: Callable[[Run], Transition | None], *states: StateName) -> None:
        """Decide in each store by what it has itself, about the same run; apply, and keep the outdated decision."""
        runs = self.runs(*states)
        if not runs:
            return
        chosen = runs[number % len(runs)].id
        moves: list[Transition] = []
        for store in (self.sql, self.memory):
            run = store.run(chosen)
            assert run is not None
            move = decision(run)
            if move is not None:
                assert store.apply([move], ledger_of([move]), held=held_of([move])) == (True,)
                moves.append(move)
        if moves:
            ours, theirs = moves
            self.stale.append((ours, theirs))

    @rule(
        count=st.integers(1, 4),
        account=st.sampled_from(["acme", "beta"]),
        priority=st.sampled_from([10, 50]),
        gpus=st.integers(0, 1),
        tags=st.sampled_from([(), ("x",), ("y", "x")]),
        retries=st.integers(0, 1),
        key=st.sampled_from([None, "a", "b"]),
    )
    def submit(
        self, count: int, account: str, priority: int, gpus: int, tags: tuple[str, ...], retries: int, key: str | None
    ) -> None:
        spec = a_spec(priority=priority, tags=tags, max_retries=retries, resources=Resources(gpus, 1000, 1024))
        submission = a_submission(
            count, first=self.made, spec=spec, account_id=account, member_id=f"of-{account}", now_ms=self.now, key=key,
            digest=str(count), resources=spec.request.resources,
        )  # fmt: skip
        self.made += count

        def ask(store: Store) -> object:
            try:
                return store.submit(submission)
            except Conflict as conflict:
                return str(conflict)

        self.same(ask)

    @rule(passed=st.integers(0, 200))
    def time_passes(self, passed: int) -> None:
        self.now += passed

    @rule(number=ANY, node=NODES)
    def stage(self, number: int, node: str) -> None:
        specs = self.memory.specs_to_stage(ALL)
        if specs:
            self.same(lambda store: store.mark_staged(specs[number % len(specs)], node, self.now))

    @rule(number=ANY, node=NODES)
    def stage_one(self, number: int, node: str) -> None:
        self.decide(number, lambda run: lifecycle.staged(run, node, self.now), StateName.waiting)

    @rule(node=NODES)
    def unstage(self, node: str) -> None:
        self.same(lambda store: store.unstage(node))

    @rule(number=ANY, node=NODES, slots=st.sampled_from([(), (0,), (1, 3)]))
    def assign(self, number: int, node: str, slots: tuple[int, ...]) -> None:
        self.decide(number, lambda run: lifecycle.assign(run, node, slots, self.now), StateName.waiting)

    @rule(number=ANY)
    def begin(self, number: int) -> None:
        self.decide(number, lambda run: lifecycle.begun(run, len(run.attempts), self.now, self.now), StateName.starting)

    @rule(number=ANY, cause=st.sampled_from(StopCause))
    def stop(self, number: int, cause: StopCause) -> None:
        self.decide(number, lambda run: lifecycle.stop(run, cause, self.now))

    @rule(
        number=ANY,
        code=st.sampled_from([0, 1, 127, None]),
        cause=st.sampled_from([None, StopCause.cancel, StopCause.preempt]),
        refused=st.sampled_from([None, "no such file"]),
    )
    def end(self, number: int, code: int | None, cause: StopCause | None, refused: str | None) -> None:
        record = Exit(self.now, code, None if code is not None else 9, cause=cause, launch_error=refused, log_bytes=3)
        states = (StateName.starting, StateName.running, StateName.stopping)
        self.decide(number, lambda run: lifecycle.ended(run, len(run.attempts), record, POLICY, self.now), *states)

    @rule(number=ANY, reason=st.sampled_from([Reason.node_lost, Reason.shim_lost]))
    def lose(self, number: int, reason: Reason) -> None:
        states = (StateName.starting, StateName.running, StateName.stopping)
        self.decide(number, lambda run: lifecycle.lost(run, len(run.attempts), reason, "", POLICY, self.now), *states)

    @rule(number=ANY)
    def staging_fails(self, number: int) -> None:
        reason = Reason.data_not_found
        self.decide(number, lambda run: lifecycle.staging_failed(run, reason, "", self.now), StateName.waiting)

    @rule(number=ANY, denied=st.booleans())
    def storing_fails(self, number: int, denied: bool) -> None:
        self.decide(number, lambda run: lifecycle.store_failed(run, "no", self.now, denied=denied), StateName.storing)

    @rule(number=ANY)
    def store_results(self, number: int) -> None:
        self.decide(number, lambda run: lifecycle.stored(run, self.now, 1, 2), StateName.storing)

    @rule(number=ANY, position=st.integers(0, 6))
    def move(self, number: int, position: int) -> None:
        runs = self.runs()
        self.moved = True
        if runs:
            self.same(lambda store: store.set_rank(runs[number % len(runs)].id, position, self.now))

    @rule(number=ANY, priority=st.sampled_from([0, 10, 50, 100]))
    def change_priority(self, number: int, priority: int) -> None:
        runs = self.runs()
        if runs and not self.moved:  # what each store has put between two ranks is its own
            self.same(lambda store: store.set_priority(runs[number % len(runs)].id, priority, self.now))

    @rule(
        account=st.sampled_from(["acme", "beta", "nobody"]),
        weight=st.sampled_from([None, 0.5, 3.0]),
        budget=st.sampled_from([None, Budget(Period.week, 10, None), Budget(Period.month, None, 5, 50)]),
        node=NODES,
        draining=st.booleans(),
    )
    def share_out(self, account: str, weight: float | None, budget: Budget | None, node: str, draining: bool) -> None:
        self.same(lambda store: store.set_weight(account, weight))
        self.same(lambda store: store.set_budget(account, budget))
        self.same(lambda store: store.set_window(account, None if draining else "22:00-06:00"))
        self.same(lambda store: store.set_draining(node, self.now if draining else None))

    @rule(number=ANY)
    def delete(self, number: int) -> None:
        runs = self.runs()
        if runs:
            self.same(lambda store: store.delete_run(runs[number % len(runs)].id, self.now))

    @rule(number=ANY, fresh=st.booleans())
    def say_it_late(self, number: int, fresh: bool) -> None:
        """An outdated decision, perhaps beside one that is not."""
        if not self.stale:
            return
        ours, theirs = self.stale[number % len(self.stale)]
        applied: list[tuple[bool, ...]] = []
        for store, late in ((self.sql, ours), (self.memory, theirs)):
            moves = [late]
            waiting = store.waiting_page(None, ALL)
            if fresh and waiting:
                moves += filter(None, [lifecycle.assign(waiting[-1], "n1", (), self.now)])
            applied.append(store.apply(moves, ledger_of(moves), held=held_of(moves)))
        assert applied[0] == applied[1]
        assert applied[0][0] is False

    @rule(account=st.sampled_from(["acme", "beta", None]), paused=st.booleans(), quota=st.sampled_from([None, 0, 5]))
    def administer(self, account: str | None, paused: bool, quota: int | None) -> None:
        self.same(lambda store: store.set_paused(account, paused))
        self.same(lambda store: store.set_own_quota(account or "nobody", {"gpus": quota}))

    @invariant()
    def runs_are_the_same(self) -> None:
        for query in (
            RunQuery(None, limit=ALL),
            RunQuery("acme", frozenset({StateName.waiting, StateName.failed}), limit=3),
            RunQuery(None, frozenset({StateName.running, StateName.storing}), tag="x", limit=ALL),
        ):
            self.same(lambda store, query=query: [plain(run) for run in store.runs(query)])
        for account in ("acme", None):
            self.same(lambda store, account=account: {s: n for s, n in store.counts(account).items() if n})
        self.same(lambda store: list(store.run_ids(None, a_run_id(0)[:-1], 5)))

    @invariant()
    def the_queue_is_the_same(self) -> None:
        for account in ("beta", None):
            self.same(lambda store, account=account: [run.id for run in store.waiting_page(account, ALL)])
        self.same(lambda store: [store.ahead_of(run) for run in store.waiting_page(None, ALL)])
        self.same(lambda store: list(store.specs_to_stage(ALL)))
        for heads in (2, 50):
            self.same(
                lambda store, heads=heads: [
                    (c.id, c.account_id, c.priority, c.shape, [replace(h, rank=0) for h in c.heads])
                    for c in store.classes(self.now, heads)
                ]
            )
        self.same(lambda store: [run.id for run in store.waiting_of_spec(1, 2)])
        self.same(lambda store: [(account, store.queue_paused()) for account in store.accounts()])

    @invariant()
    def what_runs_is_the_same(self) -> None:
        self.same(lambda store: list(store.holdings()))
        for node in ("n1", "n2"):
            self.same(lambda store, node=node: [run.id for run in store.active_runs(node)])
            self.same(lambda store, node=node: [run.id for run in store.requeued_runs(node)])
        for spec_id in (1, 2):
            self.same(lambda store, spec_id=spec_id: store.typical_duration_ms(spec_id, "acme"))

    @invariant()
    def what_the_sql_store_counts_is_there(self) -> None:
        assert self.sql_says("SELECT account_id, state, runs FROM state_counts WHERE runs <> 0") == self.sql_says(
            "SELECT account_id, state, count(*) FROM runs GROUP BY account_id, state"
        )
        assert self.sql_says("SELECT id, waiting, ready FROM queue_classes WHERE waiting <> 0") == self.sql_says(
            "SELECT class_id, count(*), count(ready_on) FROM runs WHERE state = 'waiting' GROUP BY class_id"
        )
        assert self.sql_says("SELECT id, stage_rank FROM specs WHERE stage_rank IS NOT NULL") == self.sql_says(
            "SELECT spec_id, min(rank) FROM runs WHERE state = 'waiting' AND ready_on IS NULL GROUP BY spec_id"
        )

    def sql_says(self, query: str) -> list[tuple[object, ...]]:
        return sorted(self.looker.execute(query).fetchall())

    @invariant()
    def shares_are_the_same_and_the_days_are_the_ledgers(self) -> None:
        self.same(lambda store: {a: p for a, p in store.shares(self.now).items() if p != AccountShare()})
        self.same(lambda store: [node.draining_ms for node in store.nodes()])
        assert self.sql_says(
            "SELECT account_id, sum(gpu_ms), sum(cost) FROM daily_use GROUP BY account_id"
        ) == self.sql_says("SELECT account_id, sum(gpu_ms), sum(cost) FROM ledger WHERE NOT waste GROUP BY account_id")
        for column, value in (("priority", "r.priority"), ("account_id", "r.account_id")):
            of_class = f"SELECT r.id FROM runs r JOIN queue_classes c ON c.id = r.class_id WHERE c.{column} <> {value}"
            assert self.sql_says(of_class) == []

    @invariant()
    def history_is_the_same(self) -> None:
        told = self.same(lambda store: list(store.events(0, ALL)))
        assert isinstance(told, list)
        assert [recorded.seq for recorded in told] == list(range(1, len(told) + 1))
        self.same(lambda store: list(store.events(2, 3, account_id="acme", kinds=frozenset({EventKind.accepted}))))
        self.same(lambda store: (store.last_seq(), store.latest_event_ms()))
        for by in ("account", "user", "day", "tag"):
            self.same(lambda store, by=by: list(store.usage(None, by, None, None)))


@pytest.mark.slow
def test_the_two_stores_cannot_be_told_apart(sqlite_template: Path) -> None:
    TwoStores.template = sqlite_template
    calm = settings(
        max_examples=30,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        derandomize=True,
    )
    run_state_machine_as_test(TwoStores, settings=calm)
