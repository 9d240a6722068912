"""Quotas: what an account may hold at once."""

from __future__ import annotations

from typing import Final

from runyard.core.resources import Resources
from runyard.core.scheduling.decisions import No, Wait
from runyard.core.scheduling.share import Account

HELD: Final = Wait.quota, "An earlier run of the account waits for its quota and comes first."
NO_LIMITS: Final = (None, None, None)


def over_quota(account: Account, shape: Resources) -> No | None:
    """Why the account's quota does not let a run of this shape start, None when it does.

    A run that its quota could ever let in holds the account's later ones that need the same: no smaller one overtakes
    it for ever. One that asks for more than the quota can be holds nobody.
    """
    limits = account.limits
    if limits == NO_LIMITS:
        return None
    asked = (shape.gpus, shape.cpu_millis, shape.memory_mib)
    never = [kind for kind, limit in enumerate(limits) if limit is not None and asked[kind] > limit]
    if never:
        kind = never[0]
        return Wait.quota, (
            f"The run needs {_amount(kind, asked[kind])} and the account's quota is {_bare(kind, limits[kind] or 0)}: "
            "raise the quota, or cancel the run and ask for fewer."
        )
    for kind, limit in enumerate(limits):
        if limit is not None and asked[kind] and account.busy[kind] + asked[kind] > limit:
            account.held_kinds.add(kind)
            return Wait.quota, (
                f"The account's quota of {_amount(kind, limit)} leaves no room: "
                f"{_bare(kind, account.busy[kind])} in use, {_bare(kind, asked[kind])} needed."
            )
    return HELD if any(asked[kind] for kind in account.held_kinds) else None


def _bare(kind: int, amount: int) -> str:
    return f"{amount / 1000:g}" if kind == 1 else str(amount)


def _amount(kind: int, amount: int) -> str:
    if kind == 0:
        return "1 GPU" if amount == 1 else f"{amount} GPUs"
    return f"{_bare(kind, amount)} {'CPUs' if kind == 1 else 'MiB of memory'}"
