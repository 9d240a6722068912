"""What takes the disks: the server's by account, run or kind, and the machines' by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runyard.engine.world import World
from runyard.ports.caches import CacheAction
from runyard.ports.disk import Space, Taken

_BATCH = 500
SHARED = "(installation)"
GONE = "(deleted)"


@dataclass(frozen=True, slots=True)
class Row:
    """Bytes of one group: an account, a run or a kind."""

    group: str
    size: int


@dataclass(frozen=True, slots=True)
class NodeDisk:
    """A machine's disk; ``kinds`` is empty where it did not answer."""

    name: str
    answered: bool
    free: int = 0
    total: int = 0
    kinds: tuple[Row, ...] = ()


def server_rows(world: World, by: str, account_id: str | None) -> tuple[list[Row], Space]:
    """What takes the server's disk, the biggest first, by ``account``, ``run`` or ``kind``. ``account_id``: only
    what is this account's."""
    found = [each for each in world.disk.taken() if each.size]
    owners = _owners(world, found)
    sizes: Counter[str] = Counter()
    for each in found:
        owner = each.account or (owners.get(each.run, GONE) if each.run else SHARED)
        if account_id not in (None, owner) or (by == "run" and not each.run):
            continue
        sizes[{"account": owner, "run": each.run, "kind": each.kind}[by]] += each.size
    return biggest(sizes), world.disk.space()


def _owners(world: World, found: Sequence[Taken]) -> dict[str, str]:
    """The accounts of the runs that are not told with it."""
    ids = list(dict.fromkeys(each.run for each in found if each.run and not each.account))
    owners: dict[str, str] = {}
    for begin in range(0, len(ids), _BATCH):
        owners |= {run.id: run.account_id for run in world.store.runs_of(ids[begin : begin + _BATCH])}
    return owners


def biggest(sizes: Counter[str]) -> list[Row]:
    """Rows, the biggest first."""
    return [Row(group, size) for group, size in sorted(sizes.items(), key=lambda each: (-each[1], each[0]))]


def node_disks(world: World) -> list[NodeDisk]:
    """What takes the disks of the machines, as they tell it."""
    nodes = sorted(world.store.nodes(), key=lambda node: node.name)
    connected = [node.id for node in nodes if node.connected]
    answers = world.caches.ask(world.executor, connected, CacheAction.tell, "") if connected else {}
    disks: list[NodeDisk] = []
    for node in nodes:
        told = answers.get(node.id)
        if told is None:
            disks.append(NodeDisk(node.name, False))
        else:
            kinds = tuple(biggest(Counter(told.kinds)))
            disks.append(NodeDisk(node.name, True, told.free, told.total, kinds))
    return disks
