"""The machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from runyard.adapters.sql.codec import texts, to_json, words
from runyard.adapters.sql.connections import put
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.schema import nodes
from runyard.core.resources import Resources
from runyard.ports.store import Node


class NodeTables:
    """The machines that execute runs."""

    _db: Database

    def put_node(self, node: Node) -> None:
        values = {
            "name": node.name,
            "boot_id": node.boot_id,
            "gpus": node.total.gpus,
            "cpu_millis": node.total.cpu_millis,
            "memory_mib": node.total.memory_mib,
            "gpu_names": to_json(node.gpu_names),
            "logical": node.logical,
            "version": node.version,
            "seen_ms": node.seen_ms,
            "connected": node.connected,
            "closed": node.closed,
            "notes": to_json(node.notes),
            "features": to_json(node.features),
            "python": node.python,
            "packages": to_json(dict(node.packages)),
        }
        with self._db.write() as tx:
            put(tx, nodes, {"id": node.id}, values)

    def nodes(self) -> Sequence[Node]:
        with self._db.read() as tx:
            return [_node(*row) for row in tx.rows(_NODES)]


_NODES: Final = (
    "SELECT id, name, boot_id, gpus, cpu_millis, memory_mib, gpu_names, logical, version, seen_ms, connected, closed, "
    "notes, features, python, packages, since_ms FROM nodes LEFT JOIN node_drains ON node_id = id ORDER BY id"
)


def _node(id: str, name: str, boot_id: str, gpus: int, cpu_millis: int, memory_mib: int, *row: Any) -> Node:
    gpu_names, logical, version, seen_ms, connected, closed, notes, features, python, packages, draining_ms = row
    return Node(
        id=id,
        name=name,
        boot_id=boot_id,
        total=Resources(gpus, cpu_millis, memory_mib),
        gpu_names=words(gpu_names),
        logical=bool(logical),
        version=version,
        seen_ms=seen_ms,
        connected=bool(connected),
        closed=closed,
        notes=words(notes),
        features=words(features),
        python=python,
        packages=texts(packages),
        draining_ms=draining_ms,
    )
