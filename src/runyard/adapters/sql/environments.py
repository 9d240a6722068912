"""Registered frameworks, and what was found out about specs when they were staged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from runyard.adapters.sql.connections import put
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.schema import frameworks
from runyard.ports.environments import FrameworkRecord, SpecFacts

_PUT_FACTS: Final = (
    "INSERT INTO spec_facts (spec_id, environment, inputs) VALUES (:spec, :environment, :inputs) "
    "ON CONFLICT (spec_id) DO UPDATE SET "
    "environment = CASE WHEN excluded.environment = '' THEN spec_facts.environment ELSE excluded.environment END, "
    "inputs = CASE WHEN excluded.inputs = '' THEN spec_facts.inputs ELSE excluded.inputs END"
)


class EnvironmentTables:
    """What accounts call by a name of their own, and what their programs ran with."""

    _db: Database

    def put_framework(self, record: FrameworkRecord) -> None:
        key = {"account_id": record.account_id, "name": record.name, "version": record.version}
        values = {"created_ms": record.created_ms, "python": record.python, "instead": record.instead}
        with self._db.write() as tx:
            put(tx, frameworks, key, values)

    def frameworks(self, account_id: str) -> Sequence[FrameworkRecord]:
        mine = sa.select(frameworks).where(frameworks.c.account_id == account_id)
        with self._db.read() as tx:
            rows = tx.connection.execute(mine.order_by(frameworks.c.name, frameworks.c.version))
            return [FrameworkRecord(*row) for row in rows]

    def delete_framework(self, account_id: str, name: str, version: str) -> bool:
        mine = sa.and_(
            frameworks.c.account_id == account_id, frameworks.c.name == name, frameworks.c.version == version
        )
        with self._db.write() as tx:
            return tx.connection.execute(frameworks.delete().where(mine)).rowcount == 1

    def put_spec_facts(self, spec_id: int, facts: SpecFacts) -> None:
        with self._db.write() as tx:
            put_facts(tx, spec_id, facts)

    def spec_facts(self, spec_id: int) -> SpecFacts:
        with self._db.read() as tx:
            row = tx.row("SELECT environment, inputs FROM spec_facts WHERE spec_id = :spec", spec=spec_id)
        return SpecFacts() if row is None else SpecFacts(*row)


def put_facts(tx: Transaction, spec_id: int, facts: SpecFacts) -> None:
    """Keep what is known of a spec; a text that is empty leaves what was there."""
    tx.change(_PUT_FACTS, spec=spec_id, environment=facts.environment, inputs=facts.inputs)
