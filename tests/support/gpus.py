"""Pretended GPUs for tests: what their driver says, written where the node reads it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from runyard.core.gpus import Sight
from runyard.node.gpus.pretended import NAME, Words
from runyard.node.home import write_whole


def pretend(
    home: Path,
    gpus: Mapping[int, Sight] | None = None,
    xids: Sequence[tuple[int, int]] = (),
    unseen: Sequence[int] = (),
) -> None:
    """Let the driver of a node's fake GPUs say this. ``home``: the node's."""
    words = Words(dict(gpus or {}), tuple(unseen), tuple(xids))
    write_whole(str(home / NAME), msgspec.json.encode(words))
