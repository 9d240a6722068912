"""The one door through which learners' programs are started, whichever way."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from runyard.node.launcher import Launcher
from runyard.node.prepare import Prepared
from runyard.wire.orders import Launch


class Starting:
    """Chooses for each learner between a fork of a warm parent and a program of its own, and starts its shim."""

    def __init__(self) -> None:
        self._launcher = Launcher()

    def start(self, _order: Launch, prepared: Prepared, holding: Sequence[int] = ()) -> subprocess.Popen[bytes] | None:
        """Start a prepared learner; ``holding``: descriptors that its shim keeps open. Returns the shim where this node
        has to reap it. Raises ``OSError``."""
        return self._launcher.start(prepared.folder, prepared.shim_order, holding)
