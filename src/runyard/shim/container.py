"""The keeper of one container: the process between the shim and the container engine, in the place of an init.

It has the engine make the container, start it with its standard output as the run's log, and tell the process id of
its process 1, which is moved into the run's control group before anything of the user's runs: limits, evidence and
the end of all of it are then those of any program. With the shim's leave it sends the script (variables and command)
to process 1, which waits for nothing else, and tells how that ended: the engine's word, never the program's.

SIGTERM is its word to end: it kills process 1, and with it the container. So does the death of the shim. Its own end
comes when the container is forgotten by the engine, or the engine has had its time for that.
"""

import os
import select

from runyard.shim import cgroups
from runyard.shim.lean import (
    NANO,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    boottime_ns,
    encode,
    prctl,
    signals,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

READY = b"runyard: ready"
CREATE_S, START_S, ASK_S, REMOVE_S = 180.0, 180.0, 30.0, 30.0
"""How long the engine may take."""
HURRY_S = 10.0
"""The same, once the container is to end."""
DRAIN_S = 10.0
"""For so long the engine may copy what a container that ended has written."""
LAST_S = 2.0
"""How much earlier an engine's client may end than the container's process 1 is seen to."""
MOST_WORDS = 4096
FAILED = 127


class Trouble(Exception):
    """The engine did not do what it was asked. ``reason``: of the run's end, where that is the user's to mend."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class Process:
    """A child of the keeper's."""

    __slots__ = ("pid", "pidfd")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)

    def collect(self) -> int:
        """Its exit code, once it has ended."""
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Keeper:
    """One container. ``words``: the order's ``container``."""

    def __init__(self, words: "dict[str, Any]", folders: "Sequence[str]", status: int, release: int) -> None:
        self.words = words
        self.folders = folders
        self.status = status
        self.release = release
        self.told = False
        self.client: Process | None = None
        self.errors = -1
        """What the engine's client says while it is attached."""
        self.said = b""
        self.script = -1
        self.box = -1
        """Process 1 of the container, as a pidfd."""
        self.wake, woken = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(self.wake, False)
        signals.signal(signals.SIGTERM, self._end)
        signals.signal(signals.SIGPIPE, signals.SIG_IGN)
        signals.set_wakeup_fd(woken, warn_on_full_buffer=False)

    def _end(self, _signal: int, _frame: object) -> None:
        self.told = True

    def keep(self) -> "NoReturn":
        """Make the container, run the program in it, tell how it ended, and remove it."""
        code = 0
        try:
            self._make()
            pid = self._start()
            outside = cgroups.join(self.folders, pid)
            self._tell({"ready": True, "pid": pid, "missing": [], "view": [], "outside": outside})
            self._give()
            self._tell_end(self._follow())
        except Trouble as error:
            self._fail(error.message, error.reason)
            code = FAILED
        except OSError as error:
            self._fail(f"The container engine could not be started ({error.strerror}).")
            code = FAILED
        self._remove()
        os._exit(code)

    def _fail(self, message: str, reason: str = "") -> None:
        """Tell what went wrong; where it was told to end, only that it has ended."""
        if self.told:
            self._tell({"ended": int(signals.SIGKILL), "at_boottime_ns": boottime_ns()})
        else:
            self._tell({"stage": "container", "errno": None, "message": message, "reason": reason})

    # --------------------------------------------------------------------------------------------------------- start

    def _make(self) -> None:
        """Have the container made; one of the same name is what an earlier try has left."""
        code, _, said = self._run(self.words["create"], CREATE_S)
        if code and "in use" in said:
            self._run(self.words["remove"], REMOVE_S)
            code, _, said = self._run(self.words["create"], CREATE_S)
        if code:
            raise Trouble(f"The container could not be made: {_last(said)}")

    def _start(self) -> int:
        """Start it and wait until its process 1 says that it is there. Returns that process's id."""
        taken, self.script = os.pipe()
        self.errors, said = os.pipe()
        self.client = self._spawn(self.words["start"], {0: taken, 2: said})
        os.close(taken)
        os.close(said)
        os.set_blocking(self.errors, False)
        until = boottime_ns() + int(START_S * NANO)
        while READY not in self.said:
            if self.told:
                raise self._not_started()
            ready = self._wait([self.errors, self.client.pidfd], until)
            self._listen()
            if READY in self.said:
                break
            if self.client.pidfd in ready or not ready:
                raise self._not_started()
        self.said = self.said.partition(READY)[2].lstrip()
        code, told, said_ = self._run(self.words["pid"], ASK_S)
        if code or not told.strip().isdigit() or int(told) <= 0:
            raise Trouble(f"The engine does not say which process its container is: {_last(said_)}")
        self.box = os.pidfd_open(int(told))
        return int(told)

    def _not_started(self) -> Trouble:
        words = self.said.decode("utf-8", "replace")
        if self.told:
            return Trouble("It was stopped before the program began.")
        if "/bin/sh" in words:
            return Trouble("The image has no /bin/sh, which runs the command.", "environment_failed")
        return Trouble(f"The container could not be started: {_last(words) or 'the engine says nothing'}")

    def _give(self) -> None:
        """Wait for leave, then send the script."""
        assert self.client is not None
        while not self.told:
            ready = self._wait([self.release, self.client.pidfd], None)
            if self.client.pidfd in ready:
                raise self._not_started()
            if self.release in ready:
                break
        if self.told or not os.read(self.release, 1):
            self.told = True
            return
        text = self.words["script"].encode("utf-8", "surrogateescape")
        try:
            while text:
                text = text[os.write(self.script, text) :]
        except BrokenPipeError:
            pass  # how it ended will be told
        os.close(self.script)
        self.script = -1
        self._tell({"begun": True})

    # ----------------------------------------------------------------------------------------------------------- end

    def _follow(self) -> int:
        """Wait for the end of process 1 and of the engine's client, which has copied all output then. Returns when the
        former was (:func:`lean.boottime_ns`)."""
        client, ended = self.client, 0
        assert client is not None
        waiting = {self.box, client.pidfd, self.errors}
        until: int | None = None
        while self.box in waiting or client.pidfd in waiting:
            if self.told and self.box in waiting:
                self._kill()
            ready = self._wait(sorted(waiting), until)
            if self.errors in ready and not self._listen():
                waiting.discard(self.errors)
            if self.box in ready:
                ended, until = boottime_ns(), boottime_ns() + int(DRAIN_S * NANO)
                waiting.discard(self.box)
            if client.pidfd in ready:
                waiting.discard(client.pidfd)
                until = boottime_ns() + int(LAST_S * NANO)
            if not ready and until is not None and boottime_ns() >= until:
                if self.box in waiting:
                    self._kill()
                    raise Trouble(
                        f"The container engine let go of its container, which was ended: {self._words()}".rstrip(": ")
                    )
                os.kill(client.pid, signals.SIGKILL)
                until = None
        client.collect()
        self.client = None
        return ended

    def _tell_end(self, at: int) -> None:
        code, told, said = self._run(self.words["wait"], ASK_S)
        last = told.split()[-1:] or [""]
        if code or not last[0].isdigit():
            if not self.told:
                raise Trouble(f"The engine does not say how its container ended: {_last(said)}")
            last = ["137"]
        number = int(last[0])
        killed = self.told and number == 128 + signals.SIGKILL
        self._tell({"ended": int(signals.SIGKILL) if killed else number << 8, "at_boottime_ns": at})

    def _remove(self) -> None:
        """Have the engine forget the container, and wait for what it has left running here for that."""
        try:
            if self.box >= 0:
                self._kill()
            self._run(self.words["remove"], REMOVE_S, hurried=False)
        except (OSError, Trouble):
            pass  # the node looks for such containers when it starts
        until = boottime_ns() + int(LAST_S * NANO)
        while boottime_ns() < until:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    self._wait([], boottime_ns() + NANO // 50)
            except ChildProcessError:
                return

    def _kill(self) -> None:
        try:
            signals.pidfd_send_signal(self.box, signals.SIGKILL)
        except OSError:
            pass  # it is gone

    # -------------------------------------------------------------------------------------------------------- engine

    def _spawn(self, words: "Sequence[str]", ends: "dict[int, int]") -> Process:
        actions = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in ends.items()]
        argv = [self.words["engine"], *words]
        pid = os.posix_spawn(
            argv[0], argv, self.words["env"], file_actions=actions, setsigmask=(), setsigdef=[signals.SIGPIPE]
        )
        return Process(pid)

    def _run(self, words: "Sequence[str]", within_s: float, *, hurried: bool = True) -> tuple[int, str, str]:
        """Have the engine do something: exit code, what it says, and what it says of errors. Raises :class:`Trouble`
        when it takes too long; ``hurried``: soon, once this process is told to end."""
        (heard, said), (troubles, troubled) = os.pipe(), os.pipe()
        process = self._spawn(words, {1: said, 2: troubled})
        os.close(said)
        os.close(troubled)
        texts = {heard: b"", troubles: b""}
        for descriptor in texts:
            os.set_blocking(descriptor, False)
        now = boottime_ns()
        until = now + int(within_s * NANO)
        ended = False
        while not ended:
            limit = min(until, now + int(HURRY_S * NANO)) if self.told and hurried else until
            ready = self._wait([process.pidfd, *texts], limit, once_told=not self.told)
            ended = process.pidfd in ready
            for descriptor in texts:
                texts[descriptor] = (texts[descriptor] + _read(descriptor))[-MOST_WORDS:]
            if not ended and boottime_ns() >= limit:
                os.kill(process.pid, signals.SIGKILL)
                process.collect()
                raise Trouble(f"The container engine took more than {within_s:.0f} s (`{words[0]}`).")
        code = process.collect()
        os.close(heard)
        os.close(troubles)
        return code, texts[heard].decode("utf-8", "replace"), texts[troubles].decode("utf-8", "replace")

    def _wait(self, descriptors: "Sequence[int]", until: int | None, once_told: bool = True) -> list[int]:
        """Which of some descriptors can be read; none when the time is over, or when it is told to end."""
        poll = select.poll()
        for descriptor in {*descriptors, self.wake} if once_told else descriptors:
            poll.register(descriptor, select.POLLIN)
        left = None if until is None else max(0, (until - boottime_ns()) // 1_000_000 + 1)
        ready = [descriptor for descriptor, _ in poll.poll(left)]
        if self.wake in ready:
            _read(self.wake)
            ready.remove(self.wake)
        return ready

    def _listen(self) -> bool:
        """Take in what the attached client says; False: no more will come."""
        try:
            chunk = os.read(self.errors, 1 << 16)
        except BlockingIOError:
            return True
        self.said = (self.said + chunk)[-MOST_WORDS:]
        return bool(chunk)

    def _words(self) -> str:
        return _last(self.said.decode("utf-8", "replace"))

    def _tell(self, report: "dict[str, object]") -> None:
        try:
            os.write(self.status, encode(report).encode() + b"\n")
        except OSError:
            pass  # the shim is gone: nothing is left to do but to remove the container


def _read(descriptor: int) -> bytes:
    """What can be read now."""
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""


def _last(words: str) -> str:
    """The last line of an engine's words, at most 500 characters."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def become_keeper(words: "dict[str, Any]", folders: "Sequence[str]", status: int, release: int) -> "NoReturn":
    """Make the calling process, a child of the shim with a session of its own, the keeper of a container."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # what an engine leaves in the background is waited for here
    keeper = Keeper(words, folders, status, release)
    prctl(PR_SET_PDEATHSIG, signals.SIGTERM)
    keeper.keep()
