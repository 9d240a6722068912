"""A server's engine and API over a real store, driven by hand: its stations turn when they are rung for, its clock
is moved, its machines are played."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from bench.soak.asking import Asking
from bench.soak.fleet import SEEN_MS, Fleet
from bench.soak.people import PERIOD_S, People
from runyard.api.app import create_app
from runyard.api.doorkeeper import token_digest
from runyard.engine import after, dispatch, draining, nodes, room, stage
from runyard.engine.bell import AFTER, DISPATCH, STAGE, Bell
from runyard.engine.leases import Leases
from runyard.engine.summing import Summing
from runyard.engine.world import SpecShelf
from runyard.server import Bootstrap, build
from runyard.settings import Settings
from runyard.testing.builders import NOW
from runyard.testing.fakes import ManualClock, SeededEntropy

MACHINES = 5
ADMIN = "ryd_admin_of_the_simulated_day"
HOUR_MS = 3_600_000
_KEPT_DAYS = 2 / 24
_ROUNDS = 8
SETTINGS = Settings(
    keep_results_days=_KEPT_DAYS / 2,
    keep_logs_days=_KEPT_DAYS / 2,
    keep_metrics_days=_KEPT_DAYS / 2,
    keep_records_days=_KEPT_DAYS,
    keep_definitions_days=_KEPT_DAYS,
    keep_caches_days=1.0,
    server_reserve_gib=0.0,
    node_lost_after_s=600.0,
)


class RungBell(Bell):
    """Remembers what was rung for until it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = {DISPATCH, STAGE, AFTER}

    def ring(self, *topics: str) -> None:
        """Remember those that stations listen to."""
        self.rung.update({DISPATCH, STAGE, AFTER}.intersection(topics))

    def take(self) -> set[str]:
        """What was rung for since the last time."""
        rung, self.rung = self.rung, set()
        return rung


class Town:
    """The whole of it, in a folder that is empty. ``context`` is what the API stands on, with the engine's world."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.chance = random.Random(seed)
        self.clock = ManualClock(NOW)
        self.fleet = Fleet([f"machine{i}" for i in range(MACHINES)], self.clock, self.chance)
        self.bell = RungBell()
        bootstrap = Bootstrap(token_digest(ADMIN), ADMIN[:8], token_digest("ryd_of_no_node"), "ryd_of_n")
        _, context = build(folder, SETTINGS, bootstrap, "http://127.0.0.1")
        store = context.world.store
        self.world = self.fleet.world = replace(
            context.world,
            clock=self.clock,
            entropy=SeededEntropy(seed),
            executor=self.fleet,
            bell=self.bell,
            specs=SpecShelf(store, monotonic=self._seconds),
            leases=Leases(monotonic=self._seconds),
            summing=Summing(monotonic=self._seconds),
        )
        self.context = replace(context, world=self.world, started_ms=NOW)
        self.asking = Asking(create_app(self.context))
        self.people = People(self.asking, ADMIN, self.chance)
        self.database = folder / "runyard.db"
        self._seen, self._began = 0, NOW
        self.fenced = self.swept = 0
        self._drained = next(iter(self.fleet.machines))
        for name in self.fleet.machines:
            self.fleet.hello(self.world, name)

    def _seconds(self) -> float:
        return self.clock.now_ms() / 1000

    @property
    def hours(self) -> float:
        """How much of the day is over."""
        return (self.clock.now_ms() - NOW) / HOUR_MS

    def pass_by(self) -> None:
        """One period: things happen, people act, the stations turn."""
        before = self.clock.now_ms()
        now = self.clock.pass_by(PERIOD_S * 1000)
        self.fleet.happen()
        self.fleet.report(self.world)
        self.people.act()
        self._stations()
        for every_ms, work in ((600_000, self.people.often), (SEEN_MS, self._watch), (HOUR_MS, self._hourly)):
            if before // every_ms != now // every_ms:
                work()
        if before // (20 * 60_000) != now // (20 * 60_000):
            self._come_and_go(now // (20 * 60_000) % 3)

    def _stations(self) -> None:
        for _ in range(_ROUNDS):
            rung = self.bell.take()
            if not rung:
                return
            if STAGE in rung:
                self._stage()
            if AFTER in rung:
                self._seen = after.catch_up(self.world, self._seen)
            if DISPATCH in rung:
                dispatch.dispatch(self.world)

    def _stage(self) -> None:
        now = self.clock.now_ms()
        for spec in self.world.store.specs_to_stage(self.world.rules.stage_window):
            if self.world.ready.due_ms(spec) <= now and not self.world.ready.asked(spec):
                stage.stage(self.world, spec)

    def _watch(self) -> None:
        """Back-offs and times at which the plan would wake are over; machines that stay away are fenced."""
        self.bell.ring(STAGE, DISPATCH)
        nodes.note_gone(self.world)
        late, _ = nodes.overdue(self.world, self.clock.now_ms(), self._began)
        self.fenced += sum(nodes.fence(self.world, node.id, self._began) > 0 for node in late)

    def _come_and_go(self, part: int) -> None:
        """In each hour some machines leave for twenty minutes, and one for so long that it is fenced; then one is
        drained, and its GPUs are put back."""
        names = list(self.fleet.machines)
        away = [name for name in names if not self.fleet.machines[name].connected]
        if part == 0:
            draining.resume(self.world, self._drained)
            for name in [self._drained, *self.chance.sample(names, 2)]:
                if self.fleet.machines[name].connected:
                    self.fleet.leave(self.world, name)
        elif part == 1:
            for name in away[:-1]:
                self.fleet.hello(self.world, name)
        else:
            for name in away:
                self.fleet.hello(self.world, name)
            self._drained = self.chance.choice(names)
            draining.drain(self.world, self._drained, preempt=self.chance.random() < 0.5)

    def _hourly(self) -> None:
        self.people.hourly()
        sweeping = room.Pass()
        while sweeping.turn(self.world):
            pass
        self.swept += sum(sweeping.runs.values())
        room.sweep_definitions(self.world, dry=False)
        room.sweep_ends(self.world)
        room.sweep_caches(self.world, dry=False)

    def close(self) -> None:
        """Let go of everything."""
        self.asking.close()
        self.world.store.close()
