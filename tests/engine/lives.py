"""Accounts, machines and a server, and what they do by themselves: the ground of ``tests.engine.test_accounts_lives``.

``tests.engine.books`` keeps what must hold after each step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runyard.core import windows
from runyard.core.budget import Budget
from runyard.core.idle import IdleRule, Quiet, Then
from runyard.core.lifecycle import Exit, is_granted
from runyard.core.reasons import Reason
from runyard.core.resources import ComputeConfiguration, Price, Resources
from runyard.core.run import GRANT, Run, Starting, StopCause, Stopping, Waiting
from runyard.core.scheduling.ahead import HOLD_MS
from runyard.core.scheduling.snapshot import Policy
from runyard.engine import dispatch, nodes, shares, stage, supervise
from runyard.engine.told import WentQuiet
from runyard.engine.world import Rules
from runyard.ports.store import RunQuery
from runyard.testing.fakes import Crashed
from tests.engine.books import Books
from tests.engine.fleet import Key, Machine
from tests.engine.yard import ACME, OTHER, Yard, manifest

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
PRICE = Price(gpu_hour=2_000_000, cpu_hour=100_000, gb_hour=10_000)
SIZES = {"gpu": (1, 2000, 4096), "pair": (2, 2000, 4096), "wide": (0, 3000, 8192), "tiny": (0, 500, 512)}
MACHINES = {"n1": (2, 8000, 32768), "n2": (1, 4000, 16384), "n3": (3, 8000, 16384)}
RULES = Rules(
    price=PRICE,
    configurations={name: ComputeConfiguration(name, Resources(*size)) for name, size in SIZES.items()},
    idle=IdleRule(MINUTE, Then.requeue, 2),
)
PEOPLE = {"acme": ACME, "other": OTHER}
KINDS = ("gpus", "cpu_millis", "memory_mib")

accounts = st.sampled_from(sorted(PEOPLE))
machine_ids = st.sampled_from(sorted(MACHINES))
some = st.integers(0, 9)
wishes = st.lists(st.tuples(accounts, st.sampled_from(sorted(SIZES)), st.integers(1, 5)), min_size=1, max_size=3)
endings = st.sampled_from([0, 0, 1, 137, Reason.launch_failed, Reason.gpu_taken, Reason.shim_lost])


class Lives(RuleBasedStateMachine):
    """``since_ms``: since when this server listens. ``settled_ms``: since when no budget or window of each account has
    changed."""

    @initialize(by_priority=st.booleans(), fair=st.booleans(), there=st.sets(machine_ids), wanted=wishes)
    def begin(self, by_priority: bool, fair: bool, there: set[str], wanted: list[tuple[str, str, int]]) -> None:
        policy = Policy(by_priority=by_priority, fair_share=fair)
        self.yard = Yard(rules=replace(RULES, policy=policy))
        self.machines = {
            node_id: Machine(node_id, Resources(*size), self.begins_by_itself) for node_id, size in MACHINES.items()
        }
        self.since_ms = self.yard.now
        self.settled_ms = dict.fromkeys(PEOPLE, self.yard.now)
        self.books = Books(self.yard.fakes.store, PRICE, self.yard.now)
        self.quotas: dict[str, dict[str, int]] = {account: {} for account in PEOPLE}
        self.budgets: dict[str, Budget | None] = dict.fromkeys(PEOPLE)
        self.windows: dict[str, str | None] = dict.fromkeys(PEOPLE)
        self.paused: set[str | None] = set()
        self.drained: set[str] = set()
        self.started: set[Key] = set()
        for node_id in sorted({"n1"} | there):
            self.connects(node_id)
        for account, size, count in wanted:
            self.submits(account, size, 50, count, 1)

    # ------------------------------------------------------------ the server's work

    def posts(self) -> None:
        """What was ordered is on its way to those who listen."""
        for order in self.yard.fakes.executor.take():
            machine = self.machines[order.node_id]
            if machine.connected:
                machine.inbox.append((self.yard.now, order))

    @rule()
    def stages(self) -> None:
        world = self.yard.world
        for spec_id in world.store.specs_to_stage(world.rules.stage_window):
            if world.ready.due_ms(spec_id) <= self.yard.now and not world.ready.asked(spec_id):
                stage.stage(world, spec_id)
        self.posts()

    @rule()
    def dispatches(self) -> None:
        self.the_books_are_right()
        before = {run.id: run for run in self.all_runs()}
        dispatch.dispatch(self.yard.world)
        after = {run.id: run for run in self.all_runs()}
        for machine in self.machines.values():
            machine.planned = machine.connected
        self.posts()
        begun = [run for run in after.values() if len(run.attempts) > len(before[run.id].attempts)]
        for run in begun:
            self.started.add((run.id, len(run.attempts)))
            self.might_start(before[run.id], run)
            self.nobody_was_overtaken(run, before.values(), after)
        for run in after.values():
            self.was_stopped_late_enough(before[run.id], run)

    def might_start(self, before: Run, run: Run) -> None:
        now, account = self.yard.now, run.account_id
        (attempt,) = run.attempts[len(before.attempts) :]
        assert isinstance(before.state, Waiting)
        assert isinstance(run.state, Starting)
        assert attempt.assigned_ms == now
        assert not self.paused & {None, account}, "started while the queue is paused"
        assert is_granted(before) or before.state.not_before_ms <= now, "started too early"
        assert self.machines[attempt.node_id].connected
        assert attempt.node_id not in self.drained
        there = [
            each for each in self.machines[attempt.node_id].running.values() if set(each.slots) & set(attempt.slots)
        ]
        assert not there, "given a slot in which a program still is"
        window = self.windows[account]
        assert window is None or not windows.opens_ms(windows.parse(window), now), "started outside of the window"
        budget = self.budgets[account]
        assert budget is None or not self.books.is_used_up(account, budget, now, self.machines.values()), (
            "started when the budget was used up"
        )

    def nobody_was_overtaken(self, run: Run, before: Iterable[Run], after: dict[str, Run]) -> None:
        """Of two runs alike in all but their place in the queue, the first one starts first."""
        node_id = run.attempts[-1].node_id
        for other in before:
            alike = (other.account_id, other.resources, other.ready_on) == (run.account_id, run.resources, node_id)
            first = (-other.priority, other.rank) < (-run.priority, run.rank)
            waits = isinstance(other.state, Waiting) and other.state.not_before_ms <= self.yard.now
            if alike and first and waits and self.yard.world.ready.has(node_id, other.spec_id):
                state = after[other.id].state
                granted = isinstance(state, Waiting) and state.granted_to
                assert granted or not isinstance(state, Waiting), f"{run.id} has overtaken {other.id}"

    def was_stopped_late_enough(self, before: Run, run: Run) -> None:
        is_new = isinstance(run.state, Stopping) and not isinstance(before.state, Stopping)
        if is_new and isinstance(run.state, Stopping) and run.state.cause is StopCause.preempt:
            assert run.attempts[-1].assigned_ms + self.yard.rules.policy.settle_ms <= self.yard.now

    @rule()
    def the_pace_is_known(self) -> None:
        """Attempts were short of late: the next ones are granted ahead."""
        for run in self.all_runs():
            self.yard.world.pace.note(run.class_id, 50)

    @rule()
    def machines_that_are_away_too_long_are_fenced(self) -> None:
        late, _ = nodes.overdue(self.yard.world, self.yard.now, self.since_ms)
        for node in late:
            nodes.fence(self.yard.world, node.id, self.since_ms)
        self.posts()

    @rule(dies=st.booleans())
    def the_server_begins_anew(self, dies: bool) -> None:
        """``dies``: between a commit and its orders."""
        if dies:
            self.yard.fakes.executor.dies = True
            with contextlib.suppress(Crashed):
                self.dispatches()
            self.yard.fakes.executor.dies = False
            self.started |= {(run.id, len(run.attempts)) for run in self.all_runs() if run.attempts}
        for machine in self.machines.values():
            machine.cut_off()
        self.yard.fakes.executor.take()
        self.yard.restart()
        self.since_ms = self.yard.now

    # ------------------------------------------------------------ what machines do

    def begins_by_itself(self, machine: Machine, key: Key, granted_ms: int) -> None:
        """A machine takes what it was granted. It asks nobody; its account might start it even so, by all that was
        known when it was granted, or that it has heard since."""
        self.started.add(key)
        self.the_books_are_right()
        account, now = self.books.runs[key[0]].account_id, self.yard.now
        assert now <= granted_ms + HOLD_MS, "a grant began that had run out"
        if machine.connected and machine.planned and not machine.inbox:
            assert not self.paused & {None, account}, "a grant began while the queue was paused"
            assert machine.id not in self.drained, "a grant began on a machine that is drained"
        if granted_ms < self.settled_ms[account]:
            return
        budget, window = self.budgets[account], self.windows[account]
        assert window is None or not windows.opens_ms(windows.parse(window), now), "a grant began outside of the window"
        assert budget is None or not self.books.is_used_up(account, budget, now, self.machines.values()), (
            "a grant began when the budget was used up"
        )

    def all_is_new(self, *accounts: str) -> None:
        """What accounts may do has changed, or what machines may: grants that are out may be of before."""
        self.settled_ms |= dict.fromkeys(accounts, self.yard.now + 1)
        for machine in self.machines.values():
            machine.planned = False

    @rule(node_id=machine_ids)
    def connects(self, node_id: str) -> None:
        machine = self.machines[node_id]
        machine.cut_off()
        self.yard.fakes.executor.take()
        machine.run_out(self.yard.now)
        self.yard.join(node_id, gpus=machine.total.gpus, total=machine.total, held=machine.held(),
                       begun=machine.slots(), living=tuple(machine.running),
                       staged=tuple(machine.ready), logical=False)  # fmt: skip
        machine.connected = True
        self.posts()

    @rule(node_id=machine_ids, dies=st.booleans())
    def leaves(self, node_id: str, dies: bool) -> None:
        """The stream breaks; a machine that dies comes back as if it were new."""
        machine = self.machines[node_id]
        if machine.connected:
            machine.cut_off()
            nodes.disconnected(self.yard.world, node_id, lambda: False)
        if dies:
            machine.wipe()

    @rule(node_id=machine_ids, ms=st.sampled_from([0, 500, 11 * MINUTE]), dispatched=st.booleans())
    def is_given_up_and_comes_back(self, node_id: str, ms: int, dispatched: bool) -> None:
        """It is away for too long while its programs go on; what is then ordered may not reach it at once."""
        self.leaves(node_id, dies=False)
        self.time_passes(11 * MINUTE)
        self.machines_that_are_away_too_long_are_fenced()
        self.connects(node_id)
        if dispatched:
            self.dispatches()
        if ms:
            self.time_passes(ms)
            self.connects(node_id)

    @rule(node_id=machine_ids, count=st.integers(1, 20))
    def hears(self, node_id: str, count: int) -> None:
        machine = self.machines[node_id]
        for _ in range(count):
            if not machine.inbox:
                break
            machine.hear(self.yard.now, lambda spec_id: self.has_staged(node_id, spec_id))
        self.posts()

    def has_staged(self, node_id: str, spec_id: int) -> None:
        stage.staged(self.yard.world, node_id, spec_id)

    @rule(node_id=machine_ids)
    def killed_programs_die(self, node_id: str) -> None:
        self.machines[node_id].killed_die(self.yard.now)

    @rule(node_id=machine_ids, count=st.integers(1, 20), answered=st.booleans())
    def tells(self, node_id: str, count: int, answered: bool) -> None:
        """Facts go out; an answer that is lost makes them come again."""
        machine = self.machines[node_id]
        if machine.connected:
            supervise.take(self.yard.world, node_id, machine.told[:count])
            self.posts()
            if answered:
                del machine.told[:count]

    @rule(which=some, how=endings)
    def a_program_ends(self, which: int, how: int | Reason) -> None:
        running = [(machine, key) for machine in self.machines.values() for key in machine.running]
        if running:
            machine, key = running[which % len(running)]
            machine.end(key, self.record_of(how), self.yard.now)

    def record_of(self, how: int | Reason) -> Exit | Reason:
        if isinstance(how, int) or how is Reason.shim_lost:
            return Exit(self.yard.now, how, None) if isinstance(how, int) else how
        return Exit(self.yard.now, None, None, launch_error="It could not.", launch_reason=how)

    @rule(node_id=machine_ids, which=some, kind=st.sampled_from([*Quiet, None]))
    def a_program_does_nothing(self, node_id: str, which: int, kind: Quiet | None) -> None:
        machine = self.machines[node_id]
        for key in list(machine.running)[which : which + 1]:
            machine.told.append(WentQuiet(*key, kind, self.yard.now - MINUTE))

    @rule(ms=st.sampled_from([1, 20, 500, 3_100, MINUTE + 1, 11 * MINUTE, HOUR, 7 * HOUR, DAY, 8 * DAY]))
    def time_passes(self, ms: int) -> None:
        self.yard.fakes.clock.pass_by(ms)
        for machine in self.machines.values():
            machine.run_out(self.yard.now)

    @rule(
        account=accounts,
        size=st.sampled_from(sorted(SIZES)),
        priority=st.sampled_from([10, 50, 50, 90]),
        count=st.integers(1, 3),
        retries=st.sampled_from([0, 0, 2]),
    )
    def submits(self, account: str, size: str, priority: int, count: int, retries: int) -> None:
        extra = f"runyard: {{priority: {priority}, max_retries: {retries}}}\n"
        text = manifest(size=size, extra=extra)
        for run_id in self.yard.submit(text, parameters=({},) * count, who=PEOPLE[account]):
            self.books.runs[run_id] = self.yard.run(run_id)
        self.posts()

    def one(self, which: int) -> Run | None:
        """One of the runs that are there."""
        there = sorted(run_id for run_id in self.books.runs if run_id not in self.books.deleted)
        return self.yard.run(there[which % len(there)]) if there else None

    def all_runs(self) -> list[Run]:
        return [run for account in PEOPLE for run in self.yard.fakes.store.runs(RunQuery(account, limit=10_000))]

    def is_known(self, node_id: str) -> bool:
        return any(node.id == node_id for node in self.yard.fakes.store.nodes())

    # ------------------------------------------------------------ what must hold

    def sizes(self) -> dict[str, Resources]:
        return {machine.id: machine.total for machine in self.machines.values()}

    @invariant()
    def the_books_are_right(self) -> None:
        self.books.look(self.quotas, self.sizes())

    @invariant()
    def one_program_of_a_run_at_a_time(self) -> None:
        where = [key for machine in self.machines.values() for key in machine.running]
        assert len(where) == len(set(where)), "an attempt runs twice"
        for machine in self.machines.values():
            slots = [slot for each in machine.running.values() for slot in each.slots]
            assert len(slots) == len(set(slots)), "two programs in one slot"
            runs = [run_id for run_id, _ in machine.running]
            assert len(runs) == len(set(runs)), "two programs of one run on a machine"
            heard = machine.connected and not (machine.inbox or machine.told)
            for key in machine.running if heard else ():
                assert key in machine.dying or self.holds(key), f"{key} goes on though it was given up"

    def holds(self, key: Key) -> bool:
        """Whether an attempt holds room, by the server's record."""
        attempts = self.books.runs[key[0]].attempts
        return len(attempts) == key[1] and attempts[-1].released_ms is None

    @invariant()
    def nothing_starts_but_by_plan_or_grant(self) -> None:
        for run in self.books.runs.values():
            for attempt in run.attempts:
                burned = not attempt.slots and attempt.released_ms == attempt.assigned_ms
                assert attempt.way == GRANT or burned or (run.id, attempt.number) in self.started

    @invariant()
    def what_was_spent_is_what_was_billed(self) -> None:
        parts = self.yard.fakes.store.shares(self.yard.now)
        for account, budget in self.budgets.items():
            if budget is None:
                continue
            holdings = [each for each in self.yard.fakes.store.holdings() if each.account_id == account]
            told = shares.spent_now(self.yard.world, self.yard.now, budget, parts[account].spent, holdings)
            real = self.books.spent(account, budget, self.yard.now)
            assert told.gpu_ms == real.gpu_ms
            assert abs(told.cost - real.cost) <= 2 + 3 * sum(len(run.attempts) for run in self.books.runs.values())
