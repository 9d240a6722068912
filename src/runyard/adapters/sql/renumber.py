"""A restored database gives out no number that the one before it may have given out after the copy was made.

Nodes know specs and classes by their numbers, and readers know how far they have seen the events: were a number given
out a second time, a machine would start other code than was submitted.
"""

from __future__ import annotations

from typing import Final

from runyard.adapters.sql.database import Transaction

GAP: Final = 1_000_000
_FLOORS: Final = {"specs": "spec_floor", "queue_classes": "class_floor"}


def leave_gap(tx: Transaction) -> None:
    """Let the next event, run, spec and queue class have numbers beyond all that were given out meanwhile."""
    tx.change(f"UPDATE counters SET value = value + {GAP} WHERE name IN ('event', 'run')")
    for table, floor in _FLOORS.items():
        highest = next_id(tx, table) - 1 + GAP
        tx.change("DELETE FROM counters WHERE name = :name", name=floor)
        tx.change("INSERT INTO counters (name, value) VALUES (:name, :value)", name=floor, value=highest)


def next_id(tx: Transaction, table: str) -> int:
    """The next number of ``specs`` or ``queue_classes``."""
    highest = int(tx.value(f"SELECT coalesce(max(id), 0) FROM {table}"))
    return max(highest, int(tx.value("SELECT value FROM counters WHERE name = :name", name=_FLOORS[table]) or 0)) + 1
