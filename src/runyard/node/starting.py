"""The one door through which learners' programs are started, whichever way."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from runyard.node.environments.interpreter import Interpreter
from runyard.node.launcher import Launcher
from runyard.node.prepare import Prepared
from runyard.node.warm.choosing import Fork, choose
from runyard.node.warm.parents import WarmParent, WarmParents
from runyard.wire.orders import Launch, Warm

IMPORTING = "Started by bash: its warm parent was still importing."
NO_PARENTS = "Started by bash: this machine has no warm parents."


class Starting:
    """Chooses for each learner between a fork of a warm parent and bash, and starts it. Without ``parents``: bash."""

    def __init__(self, parents: WarmParents | None = None, uid_base: int | None = None) -> None:
        self._launcher = Launcher()
        self._parents = parents
        self._uid_base = uid_base

    def start(self, order: Launch, prepared: Prepared, holding: Sequence[int] = ()) -> subprocess.Popen[bytes] | None:
        """Start a prepared learner; ``holding``: descriptors that its shim keeps open. Returns the shim where this node
        has to reap it. Raises ``OSError``."""
        chosen = choose(order, prepared)
        if isinstance(chosen, Fork):
            chosen = self._fork(order, prepared, chosen, holding)
        if chosen is None:
            return None
        return self._launcher.start(prepared.folder, {**prepared.shim_order, "way_note": chosen}, holding)

    def expect(self, warm: Warm | None, interpreter: Interpreter) -> None:
        """Programs of this kind will soon be started: have their warm parent import."""
        if self._parents is not None and warm is not None:
            self._parent(warm, interpreter)

    def _parent(self, warm: Warm, interpreter: Interpreter) -> WarmParent | None:
        assert self._parents is not None
        uid = None if self._uid_base is None else self._uid_base + warm.member
        return self._parents.want(self._parents.kind(warm.account, uid, interpreter, warm.preload), interpreter)

    def _fork(self, order: Launch, prepared: Prepared, fork: Fork, holding: Sequence[int]) -> str | None:
        """Have it forked; returns why it was not, in a sentence, or None when it was."""
        warm = order.stage.warm
        if self._parents is None or warm is None:
            return NO_PARENTS
        parent = self._parent(warm, prepared.interpreter)
        if parent is None:
            return "Started by bash: its warm parent cannot be started here."
        if not self._parents.wait_for(parent):
            return f"Started by bash: its warm parent forks nothing, {parent.failure}" if parent.failure else IMPORTING
        shim_order = {**prepared.shim_order, "program": fork.program, "env": fork.env, "way_note": parent.saved()}
        try:
            parent.launch(prepared.folder, shim_order, holding)
        except BlockingIOError:
            raise  # it has been started after all
        except OSError as error:
            return f"Started by bash: its warm parent did not fork it, {error.strerror or error}"
        return None
