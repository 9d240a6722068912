"""The machines."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from runyard.adapters.sql.accounts import put
from runyard.adapters.sql.codec import texts, to_json, words
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
            rows = tx.connection.execute(sa.select(nodes).order_by(nodes.c.id)).all()
        return [
            Node(
                id=row.id,
                name=row.name,
                boot_id=row.boot_id,
                total=Resources(row.gpus, row.cpu_millis, row.memory_mib),
                gpu_names=words(row.gpu_names),
                logical=row.logical,
                version=row.version,
                seen_ms=row.seen_ms,
                connected=row.connected,
                closed=row.closed,
                notes=words(row.notes),
                features=words(row.features),
                python=row.python,
                packages=texts(row.packages),
            )
            for row in rows
        ]
