"""The processes of one learner where there is one for each GPU (``launch: gpu``); the shim starts this as the program.

``python -I -S -B fan.py COUNT FIRST-RANK GRACE FAILURE ARGV...`` runs ``ARGV`` ``COUNT`` times, each in a process group
of its own, with ``RANK`` (from ``FIRST-RANK``) and ``LOCAL_RANK`` (from 0). The first that fails ends all: the others
get SIGTERM, and SIGKILL after nearly ``GRACE`` seconds, and its end is the end of this one (128 + n for a signal n), in
time where the learner is stopped a moment later for the others' sake, and killed when its grace is over. When the first
failed is written to the file ``FAILURE``: the others may take their grace, and the learner's own end tells too late
which of several learners failed first.

Being told to stop is for all of a learner's processes: the shim signals each of them itself. So a SIGTERM is not handed
on here, which would make two of one; it only means that whoever ends from now on has been told to.
"""

import os
import signal
import sys
import time

FAILURE = "first-failure.json"
"""In the learner's own folder."""
SPARED_S, SPARED = 0.5, 0.1
"""So much of the grace at most, and such a part of it, is left for the end of this process itself."""
LOOK_S = 0.05
"""Between two looks at groups whose processes have lost their parent; and how long a SIGTERM to all of a tree may take
from one process to the next."""


class Fan:
    """Processes by the number of their group, and how the first that failed did."""

    def __init__(self, grace_s: float, failure: str) -> None:
        self.grace_s = grace_s
        self.failure = failure
        self.groups: set[int] = set()
        self.waited: set[int] = set()
        self.code = 0
        self.told_to_stop = False
        self.kill_at: float | None = None

    def start(self, argv: list[str], count: int, first_rank: int) -> None:
        """Start all; what cannot be started has failed like a command that is not there."""
        for local in range(count):
            env = {**os.environ, "RANK": str(first_rank + local), "LOCAL_RANK": str(local)}
            try:
                pid = os.posix_spawn(argv[0], argv, env, setpgroup=0, setsigmask=())
            except OSError as error:
                os.write(2, f"{argv[0]} could not be started: {error.strerror}\n".encode())
                self.fail(127)
                return
            self.groups.add(pid)
            self.waited.add(pid)

    def fail(self, code: int) -> None:
        """One has failed: the first decides, and the others are to end."""
        if self.code:
            return
        self.code = code
        now = boottime_s()
        try:
            descriptor = os.open(self.failure, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.write(descriptor, b'{"boottime_ms": %d}\n' % int(now * 1000))
            os.close(descriptor)
        except OSError:
            pass  # the disk is full, perhaps why it failed: the end of the learner is known all the same
        # One that was told to stop may have ended before the word came here.
        if not self.told_to_stop and signal.sigtimedwait({signal.SIGTERM}, LOOK_S) is None:
            self.kill_at = now + self.grace_s - min(SPARED_S, self.grace_s * SPARED)
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)
        else:
            self.told_to_stop = True

    def signal(self, number: int) -> None:
        """Signal every group (0: only look), and forget those that are gone."""
        for group in list(self.groups):
            try:
                os.killpg(group, number)
            except OSError:
                self.groups.discard(group)

    def reap(self) -> None:
        """Collect every child that ended."""
        while self.waited:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self.waited.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            if code != 0:
                self.fail(128 - code if code < 0 else code)
            elif self.kill_at is None:
                self.groups.discard(pid)  # what it left in the background is the shim's, and its number anybody's

    def run(self) -> int:
        """Until all are gone; of those that fail also what they started, which may be saving its checkpoint."""
        while self.waited or (self.kill_at is not None and self.groups):
            orphans = self.kill_at is not None and not self.waited
            heard = self.wait(LOOK_S if orphans else None)
            self.told_to_stop |= heard == signal.SIGTERM
            self.reap()
            if self.kill_at is not None and boottime_s() >= self.kill_at:
                self.signal(signal.SIGKILL)
            elif orphans:
                self.signal(0)
        return self.code

    def wait(self, most_s: "float | None") -> int:
        """The next signal, 0 when none came in time."""
        if self.kill_at is not None:
            left = self.kill_at - boottime_s()
            left = left if left > 0 else LOOK_S  # they were killed: until they are gone
            most_s = left if most_s is None else min(most_s, left)
        mask = {signal.SIGCHLD, signal.SIGTERM}
        heard = signal.sigtimedwait(mask, 1e6 if most_s is None else most_s)
        return 0 if heard is None else heard.si_signo


def boottime_s() -> float:
    """Seconds since the machine started, its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def main(arguments: "list[str]") -> int:
    """Start them, wait for them, and end as the first that failed, or with 0."""
    count, first_rank, grace_s, failure, *argv = arguments
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    fan = Fan(float(grace_s), failure)
    fan.start(argv, int(count), int(first_rank))
    return fan.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
