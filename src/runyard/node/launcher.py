"""The node's launcher: one tiny process that forks the shims, so that no interpreter has to be started for each."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

import msgspec

from runyard.node.home import AttemptFolder, Grumble
from runyard.node.shims import opened, run_script, start_shim

PATIENCE_S = 10.0
"""A launcher that takes longer to fork hangs, and is ended."""
LET_GO_S = 0.5
"""What a launcher that has just ended held is free within this time, unless it is a shim's."""


class _Answer(msgspec.Struct):
    number: int
    error: str | None = None


class _Gone(OSError):
    """The launcher ended, or hung and was ended."""


class Launcher:
    """Starts shims, from any thread: by its process, which it starts at the first launch and whenever it has ended;
    each by an interpreter of its own where there is none to be had."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._number = 0
        self._grumble = Grumble()

    @property
    def pid(self) -> int | None:
        """The process id of the launcher, once there is one."""
        return None if self._process is None else self._process.pid

    def start(
        self, folder: AttemptFolder, order: Mapping[str, object], holding: Sequence[int] = ()
    ) -> subprocess.Popen[bytes] | None:
        """Start the shim of a prepared learner, as :func:`runyard.node.shims.start_shim` does. Returns its process
        where this one has to reap it."""
        try:
            with opened(folder, order) as descriptors, self._lock:
                self._launch(folder.name, [*descriptors, *holding])
            self._grumble.reset()
            return None
        except BlockingIOError:
            raise
        except OSError as error:
            self._grumble.say(f"Shims are started one by one, since the process that forks them failed: {error}")
        # It may have forked the shim before it ended: then the lock stays held.
        deadline = time.monotonic() + LET_GO_S
        while True:
            try:
                return start_shim(folder, order, holding)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return None
            time.sleep(LET_GO_S / 50)

    def close(self) -> None:
        """End the launcher. The shims that it has forked go on."""
        with self._lock:
            self._end()

    def _launch(self, name: str, descriptors: Sequence[int]) -> None:
        """Have a shim forked. A launcher that was there before and has ended is replaced, once. Raises ``OSError``."""
        fresh = self._control is None
        try:
            self._ask(name, descriptors)
        except _Gone:
            if fresh:
                raise
            self._ask(name, descriptors)

    def _ask(self, name: str, descriptors: Sequence[int]) -> None:
        control = self._control or self._begin()
        self._number += 1
        message = msgspec.json.encode({"op": "launch", "number": self._number, "name": name})
        sent = False
        try:
            socket.send_fds(control, [message], list(descriptors))
            sent = True
            text = control.recv(1 << 16)
        except OSError as error:
            text, problem = b"", error.strerror or type(error).__name__
        else:
            problem = "it ended"
        if not text:
            self._end()  # one that hangs must not fork later what will have been started otherwise
            # Once it has the message it may have forked already: a second launcher must not fork another.
            raise OSError(0, problem) if sent else _Gone(0, problem)
        answer = msgspec.json.decode(text, type=_Answer)
        if answer.error is not None:
            raise OSError(0, answer.error)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE_S)
        try:
            with theirs:
                arguments = ["--launcher", "--control-fd", str(theirs.fileno())]
                self._process = run_script(arguments, (theirs.fileno(),), 2)
        except OSError:
            ours.close()
            raise
        self._control = ours
        return ours

    def _end(self) -> None:
        control, process, self._control, self._process = self._control, self._process, None, None
        if control is not None:
            control.close()
        if process is not None:
            process.kill()
            process.wait()
