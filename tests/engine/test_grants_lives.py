"""A server and a machine with grants, whatever comes in between: nothing is lost, begun twice, or oversubscribed.

The machine is a model of a node: it hears orders in their order, may lose its stream, die and come back, and tells its
facts late, several times, and in batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runyard.core.lifecycle import Exit
from runyard.core.run import FINAL, HOLDS_SLOT, StateName, StopCause
from runyard.engine import control, dispatch, nodes, stage, supervise
from runyard.engine.told import Began, Declined, Exited, Stored, Then, Told
from runyard.ports.executor import LaunchRequest, StoreRequest
from runyard.testing.builders import a_node
from runyard.testing.fakes import Release, Stop, Synced, Withdraw
from tests.engine.yard import Yard

SLOTS = 2
Key = tuple[str, int]


@dataclass
class Machine:
    """What a node knows: programs by attempt with their slots, grants, what has ended, facts that were not answered."""

    running: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    grants: dict[Key, int] = field(default_factory=dict)
    ended: set[Key] = field(default_factory=set)
    told: list[Told] = field(default_factory=list)
    begun: list[Key] = field(default_factory=list)

    def held(self) -> tuple[Key, ...]:
        return (*self.running, *self.grants, *self.ended)


class Lives(RuleBasedStateMachine):
    @initialize(count=st.integers(3, 14), quota=st.sampled_from([None, 2, 1]))
    def begin(self, count: int, quota: int | None) -> None:
        self.yard = Yard()
        self.yard.join()
        self.machine = Machine()
        self.connected = True
        control.set_quota(self.yard.world, "acme", quota)
        self.runs = self.yard.submit(parameters=({},) * count)
        self.yard.staged(self.runs[0])
        self.spec = self.yard.run(self.runs[0]).spec_id
        self.klass = self.yard.run(self.runs[0]).class_id
        self.yard.fakes.executor.take()
        self._know_the_pace()
        self.since = self.yard.now
        for _ in range(2):
            dispatch.dispatch(self.yard.world)
            self.hears(100)

    def _know_the_pace(self) -> None:
        self.yard.world.pace.note(self.klass, 50)

    @rule()
    def dispatches(self) -> None:
        dispatch.dispatch(self.yard.world)

    @rule(count=st.integers(1, 30))
    def hears(self, count: int) -> None:
        """The machine hears some of its orders, in their order."""
        given = self.yard.fakes.executor.given
        for _ in range(min(count, len(given)) if self.connected else 0):
            order = given.pop(0)
            if isinstance(order, LaunchRequest):
                self._launch(order)
            elif isinstance(order, Withdraw):
                self._withdraw((order.run_id, order.attempt))
            elif isinstance(order, Stop):
                self._stop((order.run_id, order.attempt), order.cause)
            elif isinstance(order, StoreRequest):
                self.machine.told.append(Stored(order.run_id, 1, 1))
            elif isinstance(order, Release):
                self._forget(lambda key, run=order.run_id: key[0] == run)
            elif isinstance(order, Synced):
                self._forget(lambda key, own=order.run_ids: key[0] not in own)

    def _forget(self, is_gone: Callable[[Key], bool]) -> None:
        machine = self.machine
        for key in [key for key in machine.held() if is_gone(key)]:
            machine.running.pop(key, None)
            machine.grants.pop(key, None)
            machine.ended.discard(key)

    def _launch(self, order: LaunchRequest) -> None:
        key = (order.run_id, order.attempt)
        if key in self.machine.running or key in self.machine.ended:
            return
        if order.hold_ms:
            self.machine.grants[key] = order.queue_class
            return
        self.machine.grants.pop(key, None)
        self._begin(key, order.slots)

    def _begin(self, key: Key, slots: tuple[int, ...]) -> None:
        assert key not in self.machine.begun, "begun twice"
        self.machine.begun.append(key)
        self.machine.running[key] = slots
        self.machine.told.append(Began(*key, self.yard.now))

    def _withdraw(self, key: Key) -> None:
        if self.machine.grants.pop(key, None) is not None:
            self.machine.told.append(Declined(*key))

    def _stop(self, key: Key, cause: StopCause) -> None:
        if key in self.machine.running:
            self._ends(key, Exit(self.yard.now, None, 15, cause))
        elif self.machine.grants.pop(key, None) is not None:
            self.machine.ended.add(key)
            self.machine.told.append(Exited(*key, Exit(self.yard.now, None, None, cause)))

    @rule(which=st.integers(0, 5), code=st.sampled_from([0, 0, 0, 1]), take=st.booleans())
    def a_program_ends(self, which: int, code: int, take: bool) -> None:
        """It ends while the server may be away; the next grant of its class takes its room, unless it was declined."""
        running = list(self.machine.running)
        if running:
            self._ends(running[which % len(running)], Exit(self.yard.now, code, None), take=take)

    def _ends(self, key: Key, record: Exit, *, take: bool = True) -> None:
        slots = self.machine.running.pop(key)
        self.machine.ended.add(key)
        following = next(iter(self.machine.grants), None) if take else None
        then = None
        if following is not None:
            del self.machine.grants[following]
            then = Then(*following)
        self.machine.told.append(Exited(*key, record, then))
        if following is not None:
            self._begin(following, slots)

    @rule(count=st.integers(1, 8))
    def grants_run_out(self, count: int) -> None:
        for key in list(self.machine.grants)[:count]:
            del self.machine.grants[key]
            self.machine.told.append(Declined(*key))

    @rule(count=st.integers(1, 30), answered=st.booleans(), ms=st.integers(0, 40))
    def tells(self, count: int, answered: bool, ms: int) -> None:
        """Facts go out; an answer that is lost makes them come again."""
        if not self.connected:
            return
        self.yard.fakes.clock.pass_by(ms)
        batch = self.machine.told[:count]
        supervise.take(self.yard.world, "n1", batch)
        if answered:
            del self.machine.told[:count]

    @rule(which=st.integers(0, 13))
    def somebody_cancels(self, which: int) -> None:
        control.cancel(self.yard.world, "acme", self.runs[which % len(self.runs)])

    @rule(which=st.integers(0, 13), place=st.integers(1, 5))
    def somebody_moves(self, which: int, place: int) -> None:
        run = self.yard.run(self.runs[which % len(self.runs)])
        if run.state_name is StateName.waiting:
            control.move(self.yard.world, "acme", run.id, place)

    @rule(quota=st.sampled_from([None, 2, 1, 0]), paused=st.booleans())
    def somebody_holds(self, quota: int | None, paused: bool) -> None:
        control.set_quota(self.yard.world, "acme", quota)
        control.pause(self.yard.world, "acme", paused)

    @rule(dies=st.booleans())
    def the_stream_breaks(self, dies: bool) -> None:
        """What was not heard is lost; a machine that dies forgets its grants, its programs go on."""
        self.connected = False
        self.yard.fakes.executor.take()
        if dies:
            self.machine.grants.clear()

    @rule()
    def the_server_begins_anew(self) -> None:
        self.the_stream_breaks(dies=False)
        self.yard.restart()
        self._know_the_pace()

    @rule()
    def the_machine_connects(self) -> None:
        self.yard.fakes.executor.take()
        node = replace(a_node("n1", gpus=SLOTS, connected=False, seen_ms=self.yard.now))
        self.yard.world.ahead.said_hello("n1", self.yard.now, self.yard.now)
        nodes.hello(self.yard.world, node, self.machine.held(), (self.spec,))
        nodes.connected(self.yard.world, "n1")
        stage.staged(self.yard.world, "n1", self.spec)
        self.connected = True

    @invariant()
    def nothing_is_oversubscribed(self) -> None:
        holdings = self.yard.fakes.store.holdings()
        slots = [slot for holding in holdings for slot in holding.slots]
        assert len(slots) == len(set(slots)) <= SLOTS
        assert len(holdings) <= SLOTS
        taken = [slot for held in self.machine.running.values() for slot in held]
        assert len(taken) == len(set(taken)), "two programs in one slot"

    @rule()
    def server_and_machine_agree_once_all_is_told(self) -> None:
        if not self.connected:
            return
        while self.machine.told or self.yard.fakes.executor.given:
            self.hears(1000)
            self.tells(1000, answered=True, ms=1)
        known = {(held.run_id, held.attempt): held.slots for held in self.yard.fakes.store.holdings()}
        assert known == self.machine.running

    @invariant()
    def nothing_is_begun_or_billed_twice(self) -> None:
        assert len(self.machine.begun) == len(set(self.machine.begun))
        store = self.yard.fakes.store
        spans: dict[int, list[tuple[int, int]]] = {}
        for run_id in self.runs:
            run = self.yard.run(run_id)
            released = [attempt for attempt in run.attempts if attempt.released_ms is not None]
            assert len(store.ledger(run_id)) == len(released)
            assert (run.state_name in HOLDS_SLOT) == (len(released) < len(run.attempts))
            for attempt in released:
                for slot in attempt.slots:
                    spans.setdefault(slot, []).append((attempt.assigned_ms, attempt.released_ms or 0))
        billed = sum(entry.gpu_ms for run_id in self.runs for entry in store.ledger(run_id))
        assert billed <= SLOTS * (self.yard.now - self.since)
        for each in spans.values():
            ends = sorted(each)
            assert all(one[1] <= other[0] for one, other in pairwise(ends)), "billed twice"

    def teardown(self) -> None:
        """With a machine that is there and time, everything comes to its end."""
        if not hasattr(self, "yard"):
            return
        control.set_quota(self.yard.world, "acme", None)
        control.pause(self.yard.world, "acme", False)
        for _ in range(60):
            if not self.connected:
                self.the_machine_connects()
            self.yard.fakes.clock.pass_by(10_000)
            dispatch.dispatch(self.yard.world)
            self.hears(1000)
            self.tells(1000, True, 1)
            for _ in list(self.machine.running):
                self.a_program_ends(0, 0, True)
            self.grants_run_out(100)
            self.tells(1000, True, 1)
            if all(self.yard.run(run).state_name in FINAL for run in self.runs):
                return
        left = {run: self.yard.run(run).state for run in self.runs if self.yard.run(run).state_name not in FINAL}
        raise AssertionError(f"lost: {left}")


Lives.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLives = Lives.TestCase
