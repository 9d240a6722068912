"""Snapshots of queues and machines for the tests of scheduling: written as words, or drawn by chance."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from runyard.core.resources import Resources
from runyard.core.scheduling.plan import Plan, Wait
from runyard.core.scheduling.snapshot import AccountRoom, Head, NodeRoom, QueueClass, Snapshot

NOW = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Queued:
    """A waiting run of a test: who, which shape, how urgent, where its data are, and when it may start."""

    id: str
    gpus: int = 1
    account: str = "acme"
    priority: int = 50
    node: str = "n1"
    cpus: int = 1
    memory_mib: int = 1_024
    wait_ms: int = 0
    opens_in_ms: int = 0


def node(
    name: str = "n1", slots: int = 4, *, free: tuple[int, ...] | None = None, cpus: int = 64, closed: str | None = None
) -> NodeRoom:
    """A machine with these slots free (all of them by default) and plenty of memory."""
    numbers = tuple(range(slots)) if free is None else free
    return NodeRoom(name, numbers, Resources(len(numbers), cpus * 1_000, 1_024 * 1_024), closed)


def account(
    name: str = "acme", quota: int | None = None, used: int = 0, *, paused: bool = False, **more: object
) -> AccountRoom:
    return AccountRoom(name, quota, used, paused, **more)  # type: ignore[arg-type]  # keyword arguments are not checked


def classes_of(queue: list[Queued]) -> tuple[QueueClass, ...]:
    """The queue, in order of submission, folded into classes of account, priority and shape."""
    found: dict[tuple[str, int, Resources], QueueClass] = {}
    for rank, run in enumerate(queue, start=1):
        shape = Resources(run.gpus, run.cpus * 1_000, run.memory_mib)
        key = (run.account, run.priority, shape)
        known = found.get(key) or QueueClass(len(found) + 1, run.account, run.priority, shape, ())
        head = Head(
            run.id,
            rank,
            run.node,
            NOW + run.wait_ms if run.wait_ms else 0,
            opens_ms=NOW + run.opens_in_ms if run.opens_in_ms else 0,
        )
        found[key] = replace(known, heads=(*known.heads, head))
    return tuple(found.values())


def snapshot(
    queue: list[Queued], *nodes: NodeRoom, accounts: tuple[AccountRoom, ...] = (), paused: bool = False
) -> Snapshot:
    """A snapshot; accounts that are not given have no quota."""
    given = {a.id for a in accounts}
    others = tuple(account(name) for name in sorted({run.account for run in queue} - given))
    return Snapshot(NOW, nodes or (node(),), (*accounts, *others), classes_of(queue), paused)


def outcome(plan: Plan) -> str:
    """A plan in words: ``a:0,1 b:wait-capacity`` in order of starts, then of those that wait."""
    starts = [f"{start.run_id}:{','.join(map(str, start.slots)) or '-'}" for start in plan.starts]
    waits = [f"{run_id}:{kind.value}" for run_id, (kind, _) in plan.heads.items()]
    return " ".join([*starts, *waits])


# ------------------------------------------------------------------------------------------ by chance

ACCOUNTS, NODES = ("acme", "brick", "coal"), ("n1", "n2", "n3")

queued = st.builds(
    Queued,
    id=st.just(""),
    gpus=st.sampled_from([0, 1, 1, 2, 3, 4, 8]),
    account=st.sampled_from(ACCOUNTS),
    priority=st.sampled_from([10, 50, 50, 90]),
    node=st.sampled_from([*NODES, *NODES, "gone"]),
    cpus=st.sampled_from([0, 1, 1, 1, 4, 8]),
    memory_mib=st.sampled_from([512, 512, 512, 8_192]),
    wait_ms=st.sampled_from([0, 0, 0, 0, 0, 1, 700]),
)


@st.composite
def rooms(draw: st.DrawFn, name: str) -> NodeRoom:
    free = tuple(sorted(draw(st.sets(st.integers(0, 7)))))
    cpu, memory = draw(st.integers(-1, 24)) * 1_000, draw(st.integers(-1, 24)) * 1_024
    closed = draw(st.sampled_from([None, None, None, "It is draining."]))
    gpus = len(free) + draw(st.sampled_from([0, 0, 0, -1, 1]))  # should the sum and the list ever disagree
    return NodeRoom(name, free, Resources(gpus, cpu, memory), closed)


@st.composite
def snapshots(draw: st.DrawFn, max_runs: int = 25) -> Snapshot:
    runs = [replace(run, id=f"r{n}") for n, run in enumerate(draw(st.lists(queued, max_size=max_runs)))]
    accounts = tuple(
        AccountRoom(
            name,
            draw(st.sampled_from([None, 0, 1, 2, 4, 8])),
            draw(st.integers(0, 5)),
            draw(st.sampled_from([False, False, False, True])),
        )
        for name in ACCOUNTS
    )
    nodes = tuple(draw(rooms(name)) for name in NODES)
    return Snapshot(NOW, nodes, accounts, classes_of(runs), draw(st.sampled_from([False] * 9 + [True])))


WAITS_ALONE = frozenset({Wait.paused, Wait.backoff, Wait.node_closed, Wait.budget, Wait.window})
"""Reasons that have nothing to do with what others want."""
