"""Values with sensible defaults for tests: say what matters, leave out the rest."""

from __future__ import annotations

from dataclasses import replace

from runyard.core.ids import RUN_PREFIX, encode
from runyard.core.resources import Resources
from runyard.core.run import Run, State, Waiting
from runyard.core.spec import Connection, Location, Options, ResourceRequest, RunSpec, StoreKind
from runyard.ports.store import Node, Submission

NOW = 1_700_000_000_000
"""A moment in November 2023, for tests that need one."""

ONE_GPU = Resources(gpus=1, cpu_millis=1000, memory_mib=1024)


def a_run_id(number: int) -> str:
    """The id of a run made up for tests."""
    return RUN_PREFIX + encode(number, 9)


def a_location(
    bucket: str = "data", *, prefix: str = "", name: str = "", kind: StoreKind = StoreKind.local
) -> Location:
    """A bucket of the embedded store."""
    return Location(kind, Connection(), bucket, prefix, name)


def a_spec(
    *,
    name: str = "digits",
    command: str = "python3 train.py",
    resources: Resources = ONE_GPU,
    data: tuple[Location, ...] | None = None,
    results: Location | None = None,
    options: Options | None = None,
    priority: int = 50,
    tags: tuple[str, ...] = (),
    max_retries: int = 0,
) -> RunSpec:
    """A spec of one learner. ``options`` given whole, or made of the three that follow it."""
    chosen = Options(priority=priority, tags=tags, max_retries=max_retries) if options is None else options
    return RunSpec(
        name=name,
        command=command,
        request=ResourceRequest(resources),
        data=(a_location(),) if data is None else data,
        results=a_location("results") if results is None else results,
        options=chosen,
    )


def a_submission(
    count: int = 1,
    *,
    first: int = 1,
    spec: RunSpec | None = None,
    account_id: str = "acme",
    member_id: str = "mia",
    resources: Resources = ONE_GPU,
    now_ms: int = NOW,
    key: str | None = None,
    digest: str = "",
    notes: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
) -> Submission:
    """``count`` runs with ids from ``a_run_id(first)`` on. ``key``, ``digest``: of idempotency."""
    shared = a_spec(resources=resources) if spec is None else spec
    return Submission(
        account_id=account_id,
        member_id=member_id,
        spec=shared,
        resources=resources,
        ids=tuple(a_run_id(first + i) for i in range(count)),
        names=(shared.name,) * count,
        parameters=tuple(f'{{"trial":{i}}}' for i in range(count)),
        now_ms=now_ms,
        notes=notes,
        idempotency_key=key,
        request_digest=digest,
        after=after,
    )


def a_run(number: int = 1, *, state: State | None = None, **changes: object) -> Run:
    """A run that waits, as the store would hand it out; any of its fields can be given another value."""
    run = Run(
        id=a_run_id(number),
        seq=number,
        account_id="acme",
        member_id="mia",
        name="digits",
        spec_id=1,
        parameters="{}",
        class_id=1,
        resources=ONE_GPU,
        priority=50,
        rank=number * 2**20,
        state=Waiting() if state is None else state,
        version=1,
        created_ms=NOW,
    )
    return replace(run, **changes)  # pyright: ignore[reportArgumentType]  # replace() checks the names itself


def a_node(node_id: str = "n1", *, gpus: int = 2, connected: bool = True, **changes: object) -> Node:
    """A machine with 8 CPUs and 32 GiB, connected; any of its fields can be given another value."""
    node = Node(
        id=node_id,
        name=node_id,
        boot_id="boot-1",
        total=Resources(gpus, 8000, 32 * 1024),
        gpu_names=("Test GPU",) * gpus,
        logical=True,
        version="0",
        seen_ms=NOW,
        connected=connected,
    )
    return replace(node, **changes)  # pyright: ignore[reportArgumentType]  # replace() checks the names itself
