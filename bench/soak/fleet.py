"""The played machines together: an executor whose orders become events in a heap, and the way back to the server."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.soak.machine import Machine, Telemetry
from runyard.api.node import take_all
from runyard.core.resources import Resources
from runyard.core.run import StopCause
from runyard.engine import metrics, nodes
from runyard.engine.gpus import ShutGpu
from runyard.engine.world import World
from runyard.ports.caches import NO_AGES, Ages, CacheAction, CacheContent
from runyard.ports.executor import LaunchRequest, StageRequest, StoreRequest
from runyard.ports.logs import LogKey
from runyard.ports.metrics import MetricKey
from runyard.ports.store import Node
from runyard.testing.fakes import ManualClock
from runyard.wire.facts import Fact

GPUS = 20
SEEN_MS = 60_000


@dataclass(order=True, slots=True)
class _Due:
    at_ms: int
    number: int
    machine: str = field(compare=False)
    work: Callable[[], object] = field(compare=False)


class Fleet:
    """A :class:`runyard.ports.executor.Executor` over played machines. An order for one that is away is dropped."""

    def __init__(self, names: list[str], clock: ManualClock, chance: random.Random) -> None:
        self._clock, self._chance = clock, chance
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self.machines = {name: Machine(name, partial(self._at, name), chance, clock.now_ms) for name in names}
        self.world: World | None = None
        self.facts = self.stale = 0

    def _at(self, machine: str, ms: int, work: Callable[[], object]) -> None:
        heapq.heappush(self._due, _Due(self._clock.now_ms() + ms, next(self._numbers), machine, work))

    def happen(self) -> None:
        """All that is due by now happens on the machines."""
        now = self._clock.now_ms()
        while self._due and self._due[0].at_ms <= now:
            heapq.heappop(self._due).work()

    def report(self, world: World) -> bool:
        """The machines that are connected say what they have to say; whether there was anything."""
        spoke = False
        for machine in self.machines.values():
            if machine.connected and machine.said:
                said, machine.said = machine.said, []
                self._tell(world, machine, said)
                spoke = True
        return spoke

    def _tell(self, world: World, machine: Machine, said: Sequence[Fact | Telemetry]) -> None:
        now = world.clock.now_ms()
        sent = [each for each in said if isinstance(each, Telemetry)]
        for each in sent:
            half = len(each.log) // 2
            key = LogKey(each.run, each.attempt)
            world.logs.append(key, 0, each.log[:half], now - 5_000)
            world.logs.append(key, half, each.log[half:], now)
        metrics.take_many(world, [(MetricKey(each.run, each.attempt), 0, each.points) for each in sent])
        told = [each for each in said if not isinstance(each, Telemetry)]
        answers = take_all(world, machine.name, told)
        self.facts += len(answers)
        self.stale += answers.count(False)

    # coming and going

    def hello(self, world: World, name: str) -> None:
        """A machine says what it is and holds, opens its stream, and tells what it had to keep to itself."""
        machine = self.machines[name]
        node = Node(
            id=name,
            name=name,
            boot_id="1",
            total=Resources(GPUS, GPUS * 8_000, GPUS * 32 * 1024),
            gpu_names=("Logical",) * GPUS,
            logical=True,
            version="1",
            seen_ms=world.clock.now_ms(),
        )
        shut = [ShutGpu((GPUS - 1,), "Somebody else uses it.")] if self._chance.random() < 0.1 else []
        machine.connected = True
        nodes.hello(world, node, tuple(machine.held), tuple(machine.staged), shut=shut)
        nodes.connected(world, name)

    def leave(self, world: World, name: str) -> None:
        """A machine's stream ends; what runs there goes on."""
        machine = self.machines[name]
        machine.connected = False
        nodes.disconnected(world, name, lambda: False)

    # the executor

    def _of(self, name: str) -> Machine | None:
        machine = self.machines.get(name)
        return machine if machine is not None and machine.connected else None

    def stage(self, request: StageRequest) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        if machine := self._of(request.node_id):
            machine.stage(request)

    def launch(self, request: LaunchRequest) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        if machine := self._of(request.node_id):
            machine.launch(request)

    def stop(self, node_id: str, run_id: str, attempt: int, cause: StopCause, grace_ms: int) -> None:  # noqa: ARG002  # played programs need no grace
        """See :class:`runyard.ports.executor.Executor`."""
        if machine := self._of(node_id):
            machine.stop(run_id, attempt, cause.value)

    def store(self, request: StoreRequest) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        if machine := self._of(request.node_id):
            machine.store(request.run_id)

    def stop_storing(self, node_id: str, run_id: str) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        if machine := self._of(node_id):
            machine.storing.discard(run_id)

    def release(self, node_id: str, run_id: str) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        if machine := self._of(node_id):
            machine.release(run_id)

    def cache(
        self,
        node_id: str,
        number: int,
        action: CacheAction,  # noqa: ARG002  # every machine answers the same
        bucket: str,  # noqa: ARG002
        ages: Ages = NO_AGES,  # noqa: ARG002
    ) -> None:
        """See :class:`runyard.ports.executor.Executor`: it answers before this returns."""
        if self.world is not None and self._of(node_id) is not None:
            self.world.caches.heard(node_id, number, CacheContent(1 << 20, 1 << 30, (), ()))

    def put_back(self, node_id: str) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        if self.world is not None:
            nodes.told_of_gpus(self.world, node_id, ())

    def synced(self, node_id: str, run_ids: tuple[str, ...]) -> None:
        """See :class:`runyard.ports.executor.Executor`."""
        if machine := self._of(node_id):
            machine.keep_only(frozenset(run_ids))
