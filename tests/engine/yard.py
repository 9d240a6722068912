"""A server's engine over memory, with one machine, and the moves that tests make with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from runyard.core.account import Account, Principal, Scope
from runyard.core.lifecycle import Exit
from runyard.core.run import Run, StopCause
from runyard.core.spec import Scalar
from runyard.engine import dispatch, intake, nodes, stage, supervise
from runyard.engine.bell import Bell
from runyard.engine.world import Rules, World
from runyard.ports.executor import LaunchRequest, StageRequest
from runyard.ports.store import Node
from runyard.testing.builders import a_node
from runyard.testing.fakes import Fakes

ACME = Principal("t1", Scope.member, "acme", "mia")
OTHER = Principal("t2", Scope.member, "other", "olaf")
SECRET = "sesame-open-0123456789"


def manifest(
    *, command: str = "python3 train.py", data: str = "", kind: str = "local", size: str = "small", extra: str = ""
) -> str:
    """A manifest of dialect one. ``data``: a bucket, of a store of type ``kind``."""
    text = f"model_definition:\n  name: digits\n  execution:\n    command: {command}\n"
    text += f"    compute_configuration: {{name: {size}}}\n"
    if data:
        keys = f"{{endpoint_url: 'http://127.0.0.1:9', access_key_id: AKIA, secret_access_key: {SECRET}}}"
        connection = f"  connection: {keys}\n" if kind == "s3" else ""
        text += f"training_data_reference:\n  type: {kind}\n{connection}  source: {{bucket: {data}}}\n"
    return text + "training_results_reference:\n  type: local\n  target: {bucket: results}\n" + extra


class HeardBell(Bell):
    """A bell that remembers what was rung."""

    def __init__(self) -> None:
        super().__init__()
        self.rung: set[str] = set()

    def ring(self, *topics: str) -> None:
        """Remember, and ring."""
        self.rung.update(topics)
        super().ring(*topics)


@dataclass
class Yard:
    """The engine and what it stands on. ``world`` is replaced when the server dies."""

    fakes: Fakes = field(default_factory=Fakes)
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.bell = HeardBell()
        self.world: World = replace(self.fakes.world(self.rules), bell=self.bell)
        for who, name in ((ACME, "Mia"), (OTHER, "Olaf")):
            self.fakes.store.ensure_account(Account(who.account_id, who.account_id))
            self.fakes.store.ensure_member(who.member_id, who.account_id, name)

    @property
    def now(self) -> int:
        """The time on the clock."""
        return self.fakes.clock.now_ms()

    def restart(self) -> World:
        """The server died, and another one has begun on the same store."""
        self.world = self.fakes.world(self.rules)
        nodes.forget_connections(self.world)
        return self.world

    def join(
        self,
        node_id: str = "n1",
        *,
        gpus: int = 2,
        held: tuple[tuple[str, int], ...] = (),
        staged: tuple[int, ...] = (),
        begun: Mapping[tuple[str, int], tuple[int, ...]] = MappingProxyType({}),
        living: tuple[tuple[str, int], ...] | None = None,
        **more: object,
    ) -> Node:
        """A machine says hello and opens its stream."""
        node = replace(a_node(node_id, gpus=gpus, connected=False, seen_ms=self.now), **more)  # type: ignore[arg-type]  # replace() checks the names itself
        self.world.ahead.said_hello(node_id, self.now, self.now)
        nodes.hello(self.world, node, held, staged, begun, (), living)
        nodes.connected(self.world, node_id)
        return node

    def submit(
        self,
        text: str | None = None,
        *,
        parameters: tuple[Mapping[str, Scalar], ...] = (),
        who: Principal = ACME,
        **more: object,
    ) -> tuple[str, ...]:
        """Submit a manifest; returns the ids."""
        request = intake.Request(text or manifest(), parameters=parameters, **more)  # type: ignore[arg-type]  # the tests name its fields
        return intake.submit(self.world, who, request).ids

    def run(self, run_id: str) -> Run:
        """The run as it is stored now."""
        run = self.fakes.store.run(run_id)
        assert run is not None
        return run

    def staged(self, run_id: str, node_id: str = "n1") -> None:
        """Code and data of a run become ready."""
        spec_id = self.run(run_id).spec_id
        stage.stage(self.world, spec_id)
        assert self.fakes.executor.of(StageRequest)[-1].spec_id == spec_id
        stage.staged(self.world, node_id, spec_id)

    def starting(self, text: str | None = None) -> str:
        """A run whose launch was ordered."""
        run_id = self.submit(text)[0]
        self.staged(run_id)
        dispatch.dispatch(self.world)
        assert self.fakes.executor.of(LaunchRequest)[-1].run_id == run_id
        return run_id

    def running(self, text: str | None = None) -> str:
        """A run whose program runs."""
        run_id = self.starting(text)
        assert supervise.began(self.world, "n1", run_id, 1, self.now)
        return run_id

    def ends(self, run_id: str, code: int | None = 0, **record: object) -> bool:
        """The program of the latest attempt is gone."""
        fields: dict[str, object] = {"at_ms": self.now, "exit_code": code, "signal": None} | record
        number = len(self.run(run_id).attempts)
        return supervise.exited(self.world, "n1", run_id, number, Exit(**fields))  # type: ignore[arg-type]  # the tests name its fields

    def storing(self, text: str | None = None) -> str:
        """A run whose results are on their way."""
        run_id = self.running(text)
        self.ends(run_id)
        return run_id

    def finished(self, text: str | None = None) -> str:
        """A run that is completed."""
        run_id = self.storing(text)
        assert supervise.stored(self.world, "n1", run_id, 2, 100)
        return run_id


CANCEL = StopCause.cancel
