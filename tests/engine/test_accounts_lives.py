"""Accounts, machines and a server through anything that may happen: no quota, budget, window, slot or bill is wrong,
and no run is lost.

The rules are what people, machines and the world do; ``tests.engine.books`` keeps what must hold after each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from runyard.core.budget import Budget, Period
from runyard.core.lifecycle import Exit
from runyard.core.reasons import Reason
from runyard.core.run import FINAL, Run, StateName
from runyard.engine import control, draining, shares
from tests.engine.lives import DAY, HOUR, KINDS, MINUTE, PEOPLE, Lives, accounts, endings, machine_ids, some

quotas = st.fixed_dictionaries(
    {},
    optional={
        "gpus": st.sampled_from([None, 0, 1, 2, 3]),
        "cpu_millis": st.sampled_from([None, 0, 2000, 5000]),
        "memory_mib": st.sampled_from([None, 0, 4096, 9000]),
    },
)
limits = st.sampled_from(
    [(0, None), (2_500, None), (5 * MINUTE, 3_000), (None, 70_000), (2 * HOUR, None), (None, 5_000_000)]
)
budgets = st.builds(lambda period, most: Budget(period, *most), st.sampled_from(Period), limits)


class Accounts(Lives):
    """What people do there."""

    @rule(which=some, whole=st.booleans())
    def somebody_cancels(self, which: int, whole: bool) -> None:
        run = self.one(which)
        if run is not None and whole:
            control.cancel_many(self.yard.world, run.account_id, [run.id])
        elif run is not None:
            control.cancel(self.yard.world, run.account_id, run.id)
        self.posts()

    @rule(which=some)
    def somebody_deletes(self, which: int) -> None:
        run = self.one(which)
        if run is not None and run.state_name in FINAL:
            self.books.look(self.quotas, self.sizes())
            entries = tuple(self.yard.fakes.store.ledger(run.id))
            control.delete(self.yard.world, run.account_id, run.id, with_results=False)
            self.books.runs[run.id] = run
            self.books.deleted[run.id] = entries

    @rule(which=some, place=st.integers(1, 5))
    def somebody_moves(self, which: int, place: int) -> None:
        run = self.one(which)
        if run is not None and run.state_name is StateName.waiting:
            self.only_reorders(lambda: control.move(self.yard.world, run.account_id, run.id, place))

    @rule(which=some, priority=st.sampled_from([0, 10, 50, 90, 100]))
    def somebody_gives_a_priority(self, which: int, priority: int) -> None:
        run = self.one(which)
        if run is not None and run.state_name is StateName.waiting:
            self.only_reorders(lambda: control.set_priority(self.yard.world, run.account_id, run.id, priority))
            assert self.yard.run(run.id).priority == priority

    def only_reorders(self, act: Callable[[], object]) -> None:
        """Doing this changes nothing but the places in the queue."""

        def rest() -> list[Run]:
            return [replace(run, priority=0, rank=0, class_id=0, version=0) for run in self.all_runs()]

        before = rest()
        act()
        assert rest() == before
        assert self.yard.fakes.executor.take() == []

    @rule(account=accounts, quota=quotas)
    def an_account_gets_a_quota(self, account: str, quota: dict[str, int | None]) -> None:
        control.change_quota(self.yard.world, account, quota, [kind for kind in KINDS if kind not in quota])
        self.quotas[account] = {kind: limit for kind, limit in quota.items() if limit is not None}

    @rule(account=accounts, budget=st.none() | budgets)
    def an_account_gets_a_budget(self, account: str, budget: Budget | None) -> None:
        shares.set_budget(self.yard.world, account, budget)
        self.budgets[account] = budget
        self.all_is_new(account)

    @rule(
        account=accounts,
        weight=st.sampled_from([None, 0.1, 1.0, 10.0]),
        window=st.sampled_from([None, None, "22:00-06:00", "00:00-12:00", "08:00-08:01"]),
    )
    def an_account_gets_a_part(self, account: str, weight: float | None, window: str | None) -> None:
        shares.set_weight(self.yard.world, account, weight)
        shares.set_window(self.yard.world, account, window)
        self.windows[account] = window
        self.all_is_new(account)

    @rule(account=st.none() | accounts, paused=st.booleans())
    def a_queue_is_paused(self, account: str | None, paused: bool) -> None:
        control.pause(self.yard.world, account, paused)
        (self.paused.add if paused else self.paused.discard)(account)
        self.all_is_new()

    @rule(node_id=machine_ids, preempt=st.booleans())
    def a_machine_is_drained(self, node_id: str, preempt: bool) -> None:
        if self.is_known(node_id):
            draining.drain(self.yard.world, node_id, preempt=preempt)
            self.drained.add(node_id)
            self.all_is_new()
            self.posts()

    @rule(node_id=machine_ids)
    def a_machine_is_resumed(self, node_id: str) -> None:
        if self.is_known(node_id):
            draining.resume(self.yard.world, node_id)
            self.drained.discard(node_id)
            self.posts()

    # ------------------------------------------------------------ many at once

    @rule(rounds=st.integers(2, 6))
    def short_runs_follow_each_other(self, rounds: int) -> None:
        self.the_pace_is_known()
        self.all_works_for_a_while(rounds, 300, [0, 0, 0])

    @rule(account=accounts, gpu_ms=st.sampled_from([1, 200, 700, 2_500, 9_000, 40_000]), rounds=st.integers(1, 6))
    def a_budget_comes_to_its_end(self, account: str, gpu_ms: int, rounds: int) -> None:
        """It has a little left, and short runs go on."""
        self.the_books_are_right()
        spent = self.books.spent(account, Budget(Period.month, 0), self.yard.now)
        self.an_account_gets_a_budget(account, Budget(Period.month, spent.gpu_ms + gpu_ms))
        self.submits(account, "gpu", 50, 3, 0)
        self.short_runs_follow_each_other(rounds)

    @rule(account=accounts, ends=st.booleans())
    def an_account_has_borrowed(self, account: str, ends: bool) -> None:
        """One has all there is, then another one wants some of it, and time passes."""
        self.all_works_for_a_while(1, MINUTE, [0] if ends else [])
        self.submits(account, "gpu", 50, 2, 0)
        self.all_works_for_a_while(3, MINUTE, [])

    @rule(rounds=st.integers(1, 5), ms=st.sampled_from([1, 300, 2_000, MINUTE]), ends=st.lists(endings, max_size=3))
    def all_works_for_a_while(self, rounds: int, ms: int, ends: list[int | Reason]) -> None:
        """Everybody does what is to be done: without it most lives would be over before much has begun."""
        for _ in range(rounds):
            for how in ends:
                self.a_program_ends(0, how)
            self.stages()
            self.everybody_talks()
            self.dispatches()
            self.everybody_talks()
            self.time_passes(ms)
            self.books.look(self.quotas, self.sizes())

    def everybody_talks(self) -> None:
        for node_id in self.machines:
            self.hears(node_id, 1_000)
            self.killed_programs_die(node_id)
            self.tells(node_id, 1_000, True)

    def teardown(self) -> None:
        """With all that holds them back gone, with machines and time, all runs come to their ends."""
        if not hasattr(self, "yard"):
            return
        for account in PEOPLE:
            self.an_account_gets_a_quota(account, {})
            self.an_account_gets_a_budget(account, None)
            self.an_account_gets_a_part(account, None, None)
            self.a_queue_is_paused(account, False)
        self.a_queue_is_paused(None, False)
        for _ in range(80):
            self.one_round_of_good_will()
            if all(run.state_name in FINAL for run in self.all_runs()):
                self.the_books_are_right()
                return
        left = {run.id: run.state for run in self.all_runs() if run.state_name not in FINAL}
        raise AssertionError(f"lost: {left}")

    def one_round_of_good_will(self) -> None:
        for node_id, machine in self.machines.items():
            if not machine.connected:
                self.connects(node_id)
            self.a_machine_is_resumed(node_id)
        self.time_passes(400_000)
        self.all_works_for_a_while(1, 1, [])
        for machine in self.machines.values():
            for key in list(machine.running):
                machine.end(key, Exit(self.yard.now, 0, None), self.yard.now)
            machine.run_out(self.yard.now + DAY)
        self.everybody_talks()


Accounts.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAccounts = Accounts.TestCase
