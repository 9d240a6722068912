"""The one door through which learners' programs are started, whichever way."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache

from runyard.core.frameworks import preload_for
from runyard.node.environments.interpreter import RECORDER, Interpreter
from runyard.node.launcher import Launcher
from runyard.node.prepare import Prepared
from runyard.node.users import Mapping
from runyard.node.warm.choosing import Fork, choose
from runyard.node.warm.imports import imported
from runyard.node.warm.parents import WarmParent, WarmParents
from runyard.wire.orders import Launch, Stage, Warm

IMPORTING = "Started by bash: its warm parent was still importing."
NO_PARENTS = "Started by bash: this machine has no warm parents."
NOT_OURS = "Started by bash: where the node is not root, warm parents import packages of its own interpreter alone."


Locks = Callable[[Sequence[int]], Sequence[int]]


class Starting:
    """Chooses for each learner between a fork of a warm parent and bash, and starts it. Without ``parents``: bash.
    ``folder_of_code``: where the code of a hash is unpacked; ``locks``: what the shim of a program with some slots
    holds, too; ``trusted``: whose packages alone may be imported outside of a run, None: any."""

    def __init__(
        self,
        parents: WarmParents | None,
        mapping: Mapping | None,
        folder_of_code: Callable[[str], str],
        locks: Locks,
        trusted: Interpreter | None = None,
    ) -> None:
        self._trusted = trusted
        self._launcher = Launcher()
        self._parents = parents
        self._mapping = mapping
        self._locks = locks

        def read(code: str) -> tuple[str, ...]:
            return preload_for(imported(folder_of_code(code)))

        self._imported = lru_cache(maxsize=256)(read)

    def start(self, order: Launch, prepared: Prepared, holding: Sequence[int] = ()) -> subprocess.Popen[bytes] | None:
        """Start a prepared learner; ``holding``: descriptors that its shim keeps open. Returns the shim where this node
        has to reap it. Raises ``OSError``."""
        holding = (*holding, *self._locks(order.slots))
        if "container" in prepared.shim_order:
            return self._launcher.start(prepared.folder, prepared.shim_order, holding)
        chosen = choose(order, prepared)
        if isinstance(chosen, Fork):
            chosen = self._fork(order, prepared, chosen, holding)
        if chosen is None:
            return None
        return self._launcher.start(prepared.folder, {**prepared.shim_order, "way_note": chosen}, holding)

    def expect(self, stage: Stage, interpreter: Interpreter) -> None:
        """Programs of this kind will soon be started: have their warm parent import."""
        if self._parents is not None and stage.warm is not None and self._may_import(interpreter):
            with suppress(PermissionError):  # the launch will say so
                self._parent(self._parents, stage.warm, stage.code, interpreter)

    def _may_import(self, interpreter: Interpreter) -> bool:
        trusted = self._trusted
        if trusted is None:
            return True
        return interpreter.executable == trusted.executable and set(interpreter.search) <= {RECORDER}

    def _parent(
        self, parents: WarmParents, warm: Warm, code: str | None, interpreter: Interpreter
    ) -> WarmParent | None:
        user = None if self._mapping is None else self._mapping.user(warm.member, warm.login)
        preload = warm.preload or (self._imported(code) if code is not None else ())
        return parents.want(parents.kind(warm.account, user, interpreter, preload), interpreter)

    def _fork(self, order: Launch, prepared: Prepared, fork: Fork, holding: Sequence[int]) -> str | None:
        """Have it forked; returns why it was not, in a sentence, or None when it was."""
        warm = order.stage.warm
        if self._parents is None or warm is None:
            return NO_PARENTS
        if not self._may_import(prepared.interpreter):
            return NOT_OURS
        parent = self._parent(self._parents, warm, order.stage.code, prepared.interpreter)
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
