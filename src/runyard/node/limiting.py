"""While programs run: their logs give disk blocks back, and a run that is over its limit is ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from runyard.core.run import StopCause
from runyard.node.disk import Measuring, disk_sentence
from runyard.node.home import AttemptFolder, Home, Key, say, write_whole
from runyard.node.lanes import do_safely
from runyard.node.log_limit import Freeing, mebibytes
from runyard.node.prepare import limits_of
from runyard.node.watch import Watch

MEASURE_EVERY_S = 5.0
LOOK_EVERY_S = 0.25
"""Between two looks at the sizes of logs: a disk takes a few hundred megabytes in that time."""
IDLE_S = 1.0
HARDEST = 4
"""Where blocks cannot be given back, a log of so many times its limit ends the program."""
PATIENCE = 1.25
"""A run that still writes in its grace is killed at so many times its limit."""


class Limiting:
    """Two threads over all programs that run: one for logs, one for folders, which can take long to look through."""

    def __init__(self, home: Home, watch: Watch, measure_every_s: float = MEASURE_EVERY_S) -> None:
        self._home = home
        self._watch = watch
        self._every_s = measure_every_s
        self._logs: dict[Key, tuple[AttemptFolder, Freeing]] = {}
        self._looked_at: Sequence[Key] = ()
        """Whose logs these are."""
        self._runs: dict[tuple[str, int], Measuring] = {}
        self._told: set[tuple[str, int]] = set()

    def start(self) -> None:
        """Begin, with whatever runs already."""
        for name, look in (("logs", self._look_at_logs), ("disk", self._look_at_folders)):
            threading.Thread(target=_for_ever, args=(look,), name=name, daemon=True).start()

    # ---------------------------------------------------------------------------------------------------------- logs

    def _look_at_logs(self) -> float:
        keys = self._watch.listened_to()
        if keys != self._looked_at:
            attempts = dict.fromkeys((run, attempt) for run, attempt, _ in keys)
            folders = [folder for run, attempt in attempts for folder in self._home.learners(run, attempt)]
            self._logs = {folder.key: self._logs.get(folder.key) or (folder, _freeing(folder)) for folder in folders}
            self._looked_at = keys
        for folder, freeing in self._logs.values():
            if freeing.limit:
                self._look_at_log(folder, freeing)
        return LOOK_EVERY_S if keys else IDLE_S

    def _look_at_log(self, folder: AttemptFolder, freeing: Freeing) -> None:
        try:
            freeing.look()
        except FileNotFoundError:
            return  # it was released just now
        if not freeing.works and freeing.size > HARDEST * freeing.limit:
            text = (
                f"A log is over {HARDEST} times its limit of {mebibytes(freeing.limit)} (log_limit_mib), and the "
                "machine's disk cannot leave out what is too much of it: the program is stopped."
            )
            self._end(folder.run, folder.number, text, None)

    # ------------------------------------------------------------------------------------------------------- folders

    def _look_at_folders(self) -> float:
        keys = self._watch.watched()
        self._runs = {key: self._runs.get(key) or self._measuring(*key) for key in keys}
        self._told.intersection_update(keys)
        now = time.monotonic()
        for (run, attempt), measuring in self._runs.items():
            if measuring.due <= now:
                measuring.measure()
                if measuring.used > measuring.limit:
                    grace_ms = 0 if measuring.used > PATIENCE * measuring.limit else None
                    sentence = disk_sentence(measuring.used, measuring.limit)
                    self._end(run, attempt, sentence, grace_ms)
        due = min((measuring.due for measuring in self._runs.values()), default=now + IDLE_S)
        return max(0.0, min(IDLE_S, due - time.monotonic()))

    def _measuring(self, run: str, attempt: int) -> Measuring:
        limit = limits_of(self._home.attempt(run, attempt)).disk
        return Measuring(self._home, run, attempt, limit, self._every_s)

    def _end(self, run: str, attempt: int, sentence: str, grace_ms: int | None) -> None:
        """End an attempt, by the grace of its order at first; what is said stands at the end of its logs."""
        again = (run, attempt) in self._told
        if not again:
            self._told.add((run, attempt))
            say(f"{run}/{attempt}: {sentence}")
            try:
                for folder in self._home.learners(run, attempt):
                    write_whole(folder.stopped_for, sentence.encode())
            except OSError as error:  # the disk is full, most likely: all the more reason to stop
                say(f"That could not be written down for the log: {error}")
        self._watch.stop(run, attempt, StopCause.disk_limit, grace_ms if again else None)


def _freeing(folder: AttemptFolder) -> Freeing:
    return Freeing(folder.log("training-log"), limits_of(folder).log)


def _for_ever(look: Callable[[], float]) -> None:
    pause = IDLE_S

    def once() -> None:
        nonlocal pause
        pause = IDLE_S
        pause = look()

    while True:
        do_safely(once)
        time.sleep(pause)
