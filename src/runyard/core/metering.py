"""From an attempt's slot time to the ledger: GPU-, CPU- and GB-time and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from runyard.core.reasons import RULES
from runyard.core.resources import Price, Resources
from runyard.core.run import Attempt, Run

MS_PER_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What one attempt held, from slot assignment to slot release.

    ``gpu_ms`` is slots x milliseconds, ``cpu_ms`` CPUs x milliseconds, ``gb_ms`` GiB x milliseconds (rounded down);
    ``cost`` micro-units of money. ``waste``: the platform's fault, costs the account nothing.
    """

    run_id: str
    attempt: int
    account_id: str
    member_id: str
    from_ms: int
    to_ms: int
    gpu_ms: int
    cpu_ms: int
    gb_ms: int
    cost: int
    waste: bool


def cost(resources: Resources, duration_ms: int, price: Price) -> int:
    """Cost in micro-units of holding ``resources`` for ``duration_ms``, rounded down once."""
    hourly = (
        resources.gpus * price.gpu_hour * 1000 * 1024
        + resources.cpu_millis * price.cpu_hour * 1024
        + resources.memory_mib * price.gb_hour * 1000
    )
    return hourly * duration_ms // (MS_PER_HOUR * 1000 * 1024)


def settle(run: Run, attempt: Attempt, price: Price) -> LedgerEntry:
    """The ledger entry of a released attempt. Raises ``ValueError`` while its slot is held or its end unknown."""
    if attempt.released_ms is None or attempt.ending is None:
        raise ValueError(f"attempt {attempt.number} of {run.id} still holds its slot")
    held = max(0, attempt.released_ms - attempt.assigned_ms)
    waste = not RULES[attempt.ending.reason].billed
    return LedgerEntry(
        run_id=run.id,
        attempt=attempt.number,
        account_id=run.account_id,
        member_id=run.member_id,
        from_ms=attempt.assigned_ms,
        to_ms=attempt.assigned_ms + held,
        gpu_ms=run.resources.gpus * held,
        cpu_ms=run.resources.cpu_millis * held // 1000,
        gb_ms=run.resources.memory_mib * held // 1024,
        cost=0 if waste else cost(run.resources, held, price),
        waste=waste,
    )
