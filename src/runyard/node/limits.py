"""What the operator lets a run write. The limits that hold when an attempt is prepared stay its own."""

from __future__ import annotations

from typing import Any

import msgspec

from runyard.node.home import AttemptFolder, read_record


class Limits(msgspec.Struct, frozen=True):
    """In bytes. ``log``: of each learner's log, 0 for none; ``disk``: of all that a run writes on this machine, 0 for
    half of the disk; ``workdir``: of what is kept from a working directory."""

    log: int = 1 << 30
    disk: int = 0
    workdir: int = 200 << 20


DEFAULTS = Limits()


def read_limits(folder: AttemptFolder) -> Limits:
    """The limits of a prepared attempt as they are on the disk; the defaults where none were written down."""
    told: dict[str, Any] = dict(read_record(folder.order) or {})
    try:
        return msgspec.convert(told.get("limits", {}), Limits)
    except msgspec.ValidationError:
        return Limits()
