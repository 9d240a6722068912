"""How many runs stand before another. Counted for each block of ranks, so that a place costs the same at any depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from runyard.adapters.sql.database import Transaction
from runyard.adapters.sql.ranks import RANK_STEP
from runyard.adapters.sql.schema import NOT_BLOCKED
from runyard.core.lifecycle import Transition, is_blocked
from runyard.core.run import Run, StateName

BLOCK: Final = 1024 * RANK_STEP
"""Ranks of a block: those of 1,024 runs that nobody has moved."""

Blocks = Mapping[tuple[int, int], int]
"""Changes of counts, by priority and block."""

_COUNT: Final = (
    "INSERT INTO queue_blocks (priority, block, waiting) VALUES (:priority, :block, :change) "
    "ON CONFLICT (priority, block) DO UPDATE SET waiting = queue_blocks.waiting + excluded.waiting"
)


def ahead_of(tx: Transaction, run: Run) -> int:
    """How many waiting runs stand before one in the order of the queue, without those that wait for others."""
    block = run.rank // BLOCK
    counted = tx.value(
        "SELECT (SELECT coalesce(sum(waiting), 0) FROM queue_blocks WHERE priority > :priority) + "
        "(SELECT coalesce(sum(waiting), 0) FROM queue_blocks WHERE priority = :priority AND block < :block)",
        priority=run.priority,
        block=block,
    )
    near = tx.value(
        "SELECT count(*) FROM runs WHERE state = 'waiting' AND priority = :priority AND rank >= :first "
        f"AND rank < :rank AND {NOT_BLOCKED}",
        priority=run.priority,
        first=block * BLOCK,
        rank=run.rank,
    )
    return int(counted) + int(near)


def accepted(priority: int, first_rank: int, count: int) -> Blocks:
    """The counts of ``count`` new runs, whose ranks are ``RANK_STEP`` apart."""
    last = first_rank + (count - 1) * RANK_STEP
    return {
        (priority, block): (min(last, (block + 1) * BLOCK - 1) - max(first_rank, block * BLOCK)) // RANK_STEP + 1
        for block in range(first_rank // BLOCK, last // BLOCK + 1)
    }


def changed(tx: Transaction, done: Iterable[Transition]) -> Blocks:
    """What transitions change. Ranks are read: neighbours that gave way have others than when it was decided."""
    changes: Counter[str] = Counter()
    for each in done:
        changes[each.after.id] += stands(each.after) - stands(each.before)
    moving = [run_id for run_id, change in changes.items() if change]
    blocks: Counter[tuple[int, int]] = Counter()
    for run_id, priority, rank in tx.those("SELECT id, priority, rank FROM runs WHERE true", "id", moving):
        blocks[priority, rank // BLOCK] += changes[run_id]
    return blocks


def moved(priority: int, ranks: Sequence[tuple[int, int]]) -> Blocks:
    """What runs that stand in the queue change when they get other ranks: (old, new)."""
    blocks: Counter[tuple[int, int]] = Counter()
    for old, new in ranks:
        blocks[priority, old // BLOCK] -= 1
        blocks[priority, new // BLOCK] += 1
    return blocks


def stands(run: Run) -> bool:
    """Whether a run is counted: it waits, and not for others."""
    return run.state_name is StateName.waiting and not is_blocked(run)


def count_blocks(tx: Transaction, blocks: Blocks) -> None:
    """Add to the counts."""
    rows = [
        {"priority": priority, "block": block, "change": change}
        for (priority, block), change in blocks.items()
        if change
    ]
    tx.change_each(_COUNT, rows)


def forget_empty(tx: Transaction) -> None:
    """Drop the blocks in which nobody stands any more."""
    tx.change("DELETE FROM queue_blocks WHERE waiting = 0")
