"""Warm parents: one for each account, member, environment and list of imports; started before they are needed, kept for
as long as they are used, and never waited for longer than they save."""

from __future__ import annotations

import math
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from runyard.core.house import User
from runyard.node.cache import remove_tree
from runyard.node.environment import PASSED_ON, login_of
from runyard.node.environments.interpreter import PACKAGE, Interpreter
from runyard.node.home import PASSABLE, AttemptFolder, Home, make_folder, say
from runyard.node.lanes import Later
from runyard.node.shims import opened, run_script
from runyard.node.system_path import SYSTEM_PATH
from runyard.node.users import identity
from runyard.node.warm.choosing import found_in
from runyard.node.warm.line import Line, Message, close_all, pair
from runyard.shim import groups

MOST = 4
"""Warm parents at once; the one that was used least lately makes room. Each holds some 250 MB with PyTorch."""
IDLE_S = 900.0
WORTH_WAITING_S = 10.0
"""A program whose parent is still importing waits for it at most so long: it would import the same itself."""
MOST_WAITING = 2
"""Launches that wait for parents at once: the others are started by bash."""
FAILED_FOR_S = 300.0
ENDED_FOR_S = {True: 30.0, False: 1.0}
FIRST_FAILED_FOR_S = 1.0
"""A kind whose parent came to nothing is left alone: for a moment the first time, four times as long each time that
follows. Where its parents said nothing before they ended they may have been killed: then never for longer than what
some ten starts cost, with and without modules to import."""
PARENT = PACKAGE + "/shim/warm/parent.py"


@dataclass(frozen=True, slots=True)
class Kind:
    """Whom a warm parent serves. ``sites``: the times at which the folders of its packages last changed."""

    account: str
    user: User | None
    folder: str
    search: tuple[str, ...]
    preload: tuple[str, ...]
    sites: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Housing:
    """What every warm parent of a node stands on. ``own``: the node's environment; ``namespaces``: those that this
    machine allows; ``hidden``: folders that no program sees."""

    home: Home
    own: Mapping[str, str]
    namespaces: tuple[str, ...]
    hidden: tuple[str, ...] = ()


class WarmParent:
    """One warm parent, and the shim above it that is also the shim of all its programs."""

    def __init__(self, housing: Housing, kind: Kind, interpreter: Interpreter) -> None:
        self.kind = kind
        self.used_at = time.monotonic()
        self.failure = ""
        """Why it forks nothing (any more); empty while it may."""
        self.imported: tuple[str, ...] = ()
        self.import_ms = 0
        self.sudden = False
        """Whether it ended without a word."""
        self.has_worked = False
        """Whether it could fork at any time."""
        self._decided = threading.Event()
        self._folder = f"{housing.home.root}/warm/{secrets.token_hex(6)}"
        self._group = housing.home.group
        ours, theirs = pair()
        order = -1
        try:
            executable = next(
                filter(None, (found_in(interpreter.folder, name) for name in ("python3", "python"))), None
            )
            if executable is None:
                raise FileNotFoundError(2, "there is no python", interpreter.folder)
            self._make_folder()
            order = os.memfd_create("order", os.MFD_CLOEXEC)
            os.write(order, msgspec.json.encode(self._order(housing, executable, interpreter)))
            os.lseek(order, 0, os.SEEK_SET)
            self._shim = self._start(theirs, order)
        except OSError:
            ours.close()
            raise
        finally:
            close_all([theirs] if order < 0 else [theirs, order])
        self.line = Line(ours, self._hear, self._hung_up)

    def is_ready(self, within_s: float = 0.0) -> bool:
        """Whether it can fork; waits so long for it to have imported."""
        return self._decided.wait(within_s) and not self.failure

    @property
    def is_importing(self) -> bool:
        """Whether that is not decided yet."""
        return not self._decided.is_set()

    def saved(self) -> str:
        """What a program is spared that it forks: a sentence for people."""
        if not self.imported:
            return "Forked from a warm parent, which spares it the start of the interpreter."
        named = ", ".join(self.imported[:2]) + (f" and {len(self.imported) - 2} more" if len(self.imported) > 2 else "")
        return f"Forked from a warm parent with {named} imported, which spares it about {self.import_ms / 1000:.1f} s."

    def launch(self, folder: AttemptFolder, order: Mapping[str, object], holding: Sequence[int]) -> None:
        """Have the program of a prepared learner forked. Raises ``OSError`` when it was not; ``BlockingIOError`` when
        the folder has a shim already."""
        with opened(folder, order) as descriptors:
            self.line.launch(folder.name, [*descriptors, *holding])

    def close(self) -> None:
        """End it; programs that it has forked go on."""
        self.failure = self.failure or "it was closed"
        self.line.close()

    # ------------------------------------------------------------------------------------------------------- within

    def _make_folder(self) -> None:
        make_folder(os.path.dirname(self._folder), PASSABLE)
        make_folder(self._folder, PASSABLE)
        for name in ("home", "tmp"):
            os.mkdir(f"{self._folder}/{name}", 0o700)
            if self.kind.user is not None:
                os.chown(f"{self._folder}/{name}", self.kind.user.uid, self.kind.user.gid)

    def _order(self, housing: Housing, executable: str, interpreter: Interpreter) -> dict[str, object]:
        env = {name: housing.own[name] for name in PASSED_ON if name in housing.own}
        login = login_of(None if self.kind.user is None else self.kind.user.uid)
        env |= {
            "PATH": f"{interpreter.folder}:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "USER": login,
            "LOGNAME": login,
            "HOME": f"{self._folder}/home",
            "TMPDIR": f"{self._folder}/tmp",
            "PYTHONUNBUFFERED": "1",
            **interpreter.variables(),
        }
        if interpreter.search:
            env["PYTHONPATH"] = ":".join(interpreter.search)
        return {
            "argv": [executable, PARENT, "--fd", "3"],
            "env": env,
            **identity(self.kind.user),
            "cgroup": None,
            "visible": [*interpreter.visible, PACKAGE + "/shim", self._folder],
            "hide": [housing.home.runs, *housing.hidden],
            "preload": list(self.kind.preload),
            "namespaces": list(housing.namespaces),
        }

    def _start(self, control: int, order: int) -> subprocess.Popen[bytes]:
        named = {"--control-fd": control, "--order-fd": order}
        arguments = [str(word) for item in named.items() for word in item]
        with open(f"{self._folder}/errors.txt", "ab") as errors:
            return run_script(["--warm", *arguments], (control, order), errors.fileno())

    def _hear(self, message: Message) -> None:
        event = message.get("event")
        if event == "ready":
            failed: Mapping[str, str] = message.get("failed") or {}
            self.imported = tuple(name for name in message.get("modules") or () if name not in failed)
            self.import_ms = int(message.get("preload_ms") or 0)
            self._decided.set()
            self.has_worked = True
        elif event in ("failed", "gone"):
            self.failure = str(message.get("message") or "it ended")
            self.sudden = bool(message.get("sudden"))
            self._decided.set()
            self.line.close()

    def _hung_up(self) -> None:
        self.sudden = self.sudden or not self.failure
        self.failure = self.failure or f"the process above it ended. {self._said()}".strip()
        self._decided.set()
        self._shim.wait()  # it stays for the programs that it watches
        groups.remove_left(self._group, self._shim.pid)
        remove_tree(self._folder)

    def _said(self) -> str:
        try:
            with open(f"{self._folder}/errors.txt", "rb") as file:
                return file.read()[-500:].decode("utf-8", "replace").strip()
        except OSError:
            return ""


class WarmParents:
    """The warm parents of a node."""

    def __init__(self, housing: Housing, later: Later) -> None:
        self._housing = housing
        self._later = later
        self._looking = False
        self._lock = threading.Lock()
        self._parents: dict[Kind, WarmParent] = {}
        self._failures = Failures()
        self._waiting = threading.Semaphore(MOST_WAITING)
        remove_tree(housing.home.root + "/warm")
        groups.remove_left(housing.home.group)

    def kind(self, account: str, user: User | None, interpreter: Interpreter, preload: Sequence[str]) -> Kind:
        """Which parent serves whom."""
        times = tuple(_changed_ns(path) for path in (*interpreter.sites, *interpreter.search))
        return Kind(account, user, interpreter.folder, interpreter.search, tuple(preload), times)

    def want(self, kind: Kind, interpreter: Interpreter) -> WarmParent | None:
        """The parent of a kind, started now where there is none; None where it has failed lately."""
        now = time.monotonic()
        with self._lock:
            parent = self._parents.get(kind)
            if parent is not None and parent.failure:
                del self._parents[kind]
                if parent.has_worked:
                    self._failures.forget(kind)
                else:
                    self._give_up(
                        kind, parent.failure, ENDED_FOR_S[bool(kind.preload)] if parent.sudden else FAILED_FOR_S
                    )
                parent = None
            if parent is None and self._failures.rests(kind, now):
                return None
            if parent is None:
                self._make_room()
                try:
                    parent = self._parents[kind] = WarmParent(self._housing, kind, interpreter)
                    if not self._looking:
                        self._looking = True
                        self._later.put(IDLE_S, self.close_idle)
                except OSError as error:
                    self._give_up(kind, error.strerror or str(error), FAILED_FOR_S)
                    return None
            parent.used_at = now
            return parent

    def wait_for(self, parent: WarmParent) -> bool:
        """Whether a parent can fork now, or can after a wait that is worth it."""
        if not parent.is_importing:
            return parent.is_ready()
        if not parent.kind.preload or not self._waiting.acquire(blocking=False):
            return False
        try:
            return parent.is_ready(WORTH_WAITING_S)
        finally:
            self._waiting.release()

    def close_idle(self) -> None:
        """End those that nobody has asked for lately, and look again when the next one may be due."""
        before = time.monotonic() - IDLE_S
        with self._lock:
            idle = [kind for kind, parent in self._parents.items() if parent.used_at <= before]
            for kind in idle:
                self._parents.pop(kind).close()
            oldest = min((parent.used_at for parent in self._parents.values()), default=None)
            self._looking = oldest is not None
        if oldest is not None:
            self._later.put(max(1.0, oldest - before), self.close_idle)

    def close(self) -> None:
        """End all."""
        with self._lock:
            for parent in self._parents.values():
                parent.close()
            self._parents.clear()

    def _make_room(self) -> None:
        while len(self._parents) >= MOST:
            oldest = min(self._parents, key=lambda kind: self._parents[kind].used_at)
            self._parents.pop(oldest).close()

    def _give_up(self, kind: Kind, why: str, most_s: float) -> None:
        self._failures.note(kind, time.monotonic(), most_s)
        say(f"A warm parent ({', '.join(kind.preload[:2]) or 'nothing imported'}) forks nothing: {why}")


class Failures:
    """Kinds whose parents came to nothing: until when each is left alone, and for how long the next time."""

    def __init__(self) -> None:
        self._until: dict[Kind, tuple[float, float]] = {}

    def note(self, kind: Kind, now: float, most_s: float) -> None:
        """It came to nothing once more, and is left alone for ``most_s`` at most."""
        _, pause = self._until.get(kind, (0.0, FIRST_FAILED_FOR_S))
        pause = min(most_s, pause)
        for old in [old for old, (until, _) in self._until.items() if until + FAILED_FOR_S < now and old != kind]:
            del self._until[old]  # an environment that was changed since is another kind, and comes no more
        self._until[kind] = (now + pause, min(FAILED_FOR_S, pause * 4))

    def rests(self, kind: Kind, now: float) -> bool:
        """Whether it is to be left alone now."""
        return now < self._until.get(kind, (-math.inf, 0.0))[0]

    def forget(self, kind: Kind) -> None:
        """It worked."""
        self._until.pop(kind, None)


def _changed_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
