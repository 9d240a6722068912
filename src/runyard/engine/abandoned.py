"""Results that lie on a machine that does not come back: they are waited for, for days, but not for ever."""

from __future__ import annotations

from collections.abc import Sequence

from runyard.core import lifecycle
from runyard.core.run import Storing
from runyard.engine.commit import change
from runyard.engine.nodes import away_until
from runyard.engine.world import World
from runyard.ports.store import Node

DAY_MS = 86_400_000


def overdue(world: World, now: int, since_ms: int) -> tuple[Sequence[Node], int | None]:
    """Machines whose results are waited for no more, and when the next one will be such (None: none is away).

    ``since_ms``: from when on somebody listened: each machine has as long to come back as before its attempts are given
    up, whatever the server slept through.
    """
    patience, least = world.rules.results_wait_ms, since_ms + world.rules.node_lost_after_ms
    if not patience:
        return (), None
    return away_until(world, now, lambda node: max(node.seen_ms + patience, least))


def end(world: World, node_id: str, since_ms: int) -> int:
    """End what is still to be stored by a machine that is overdue. Returns how many runs there were."""
    with world.orders:
        now = world.clock.now_ms()
        late, _ = overdue(world, now, since_ms)
        node = next((node for node in late if node.id == node_id), None)
        if node is None:
            return 0
        detail = f"{node.name}, where it lay, was last heard of {(now - node.seen_ms) / DAY_MS:.1f} days before."
        left = [run.id for run in world.store.active_runs(node_id) if isinstance(run.state, Storing)]
        return sum(
            change(world, run_id, lambda run: lifecycle.results_lost(run, detail, now)) is not None for run_id in left
        )
