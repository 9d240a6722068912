"""The ends of attempts: closing lines, the fact for the server, the rest of the logs; and what shims left that died."""

from __future__ import annotations

from runyard.node.became import (
    Became,
    began,
    boot_id,
    end_without_program,
    exited,
    look,
    lost,
    now_ms,
    what_became,
)
from runyard.node.closing import close_log
from runyard.node.home import PASSABLE, AttemptFolder, Record, make_folder, say
from runyard.node.lanes import Crew, Lanes, Later
from runyard.node.prepare import Ground
from runyard.node.report import Report
from runyard.node.shims import end_what_is_left
from runyard.node.ship import Shipping
from runyard.node.watch import Watch
from runyard.wire.facts import Exited, Fact

AGAIN_S = 0.05
"""A shim that died lets go of its lock a moment after it hung up."""


class Endings:
    """Settles attempts, one thing at a time for each run."""

    def __init__(
        self, ground: Ground, report: Report, shipping: Shipping, watch: Watch, lanes: Lanes, later: Later
    ) -> None:
        self._ground = ground
        self._report = report
        self._shipping = shipping
        self._watch = watch
        self._lanes = lanes
        self._later = later
        self._crew = Crew("settle", 4)
        self._boot_id = boot_id()

    def settle(self, folder: AttemptFolder) -> None:
        """See what became of an attempt, and do what follows, in some thread."""
        self._lanes.put(("settle", folder.run), self._crew, lambda: self.settle_now(folder))

    def settle_now(self, folder: AttemptFolder) -> None:
        """The same at once. Callers see to it that nobody else does so for the same run."""
        trace = look(folder)
        became = what_became(trace)
        if became is Became.running:
            self._listen_again(folder)
        elif trace.exit is not None:
            self._report.tell(self.close(folder, trace.exit))
        elif became is Became.lost and trace.started is not None:
            self._clear_up(folder)
            self._report.tell(lost(folder, trace.started, self._boot_id))

    def close(self, folder: AttemptFolder, record: Record) -> Exited:
        """Bring the logs of an ended attempt to their end, and return the fact in its exit record."""
        try:
            close_log(folder, record)
        except OSError as error:
            say(f"The closing lines of {folder.run}/{folder.number} could not be written: {error}")
        fact = exited(folder, record)
        self._shipping.finish(folder)
        return fact

    def end_early(self, folder: AttemptFolder, *, cause: str | None = None, error: str | None = None) -> None:
        """Put down that an attempt ended before its program began, and tell the server. One that has a shim after all
        is left to it."""
        if what_became(look(folder)) is not Became.prepared:
            self.settle(folder)
            return
        try:
            make_folder(folder.path, PASSABLE)
            end_without_program(folder, cause=cause, error=error)
            self.settle(folder)
        except OSError as trouble:  # the fact has to go without a record: the disk is full, most likely
            say(f"The end of {folder.run}/{folder.number} could not be written down: {trouble}")
            self._report.tell(Exited(folder.run, folder.number, now_ms(), cause=cause, launch_error=error))

    def gone(self, folder: AttemptFolder) -> None:
        """A shim hung up without a word on the end."""
        if what_became(look(folder)) is Became.prepared:
            self.end_early(folder, error="The process that starts the program ended before the program began.")
        else:
            self.settle(folder)

    def recover(self, folder: AttemptFolder) -> None:
        """Find an attempt again that was there before this node started. What takes long is done in some thread."""
        trace = look(folder)
        became = what_became(trace)
        if became is Became.running:
            self._listen_again(folder)
        elif trace.exit is not None:
            self.close(folder, trace.exit)
        elif became is Became.lost:
            self._shipping.open(folder)

    def tell_began(self, folder: AttemptFolder) -> None:
        """Tell the server that a program has begun, if it has."""
        trace = look(folder)
        if trace.started is not None and what_became(trace) is not Became.lost:
            self._report.tell(began(folder, trace.started))

    def bring_to_end(self, folder: AttemptFolder) -> None:
        """An attempt that is to be removed: nothing of it lives on, and its logs are shipped to their end."""
        trace = look(folder)
        if what_became(trace) is Became.lost:
            self._clear_up(folder)
        elif trace.exit is not None:
            self.close(folder, trace.exit)
        else:
            self._shipping.finish(folder)

    def facts(self) -> list[Fact]:
        """What the folders tell of beginnings, to be sent again at every connect; the ends follow by themselves."""
        told: list[Fact] = []
        for folder in self._ground.home.all_attempts():
            trace = look(folder)
            became = what_became(trace)
            if trace.started is not None and became is not Became.lost:
                told.append(began(folder, trace.started))
            if became in (Became.exited, Became.lost):
                self.settle(folder)
        return told

    def _listen_again(self, folder: AttemptFolder) -> None:
        """A shim lives: listen to it. One that does not answer is on its way out."""
        try:
            self._watch.connect(folder)
            self._shipping.open(folder)
        except OSError:
            self._later.put(AGAIN_S, lambda: self.settle(folder))

    def _clear_up(self, folder: AttemptFolder) -> None:
        started = look(folder).started or {}
        while left := end_what_is_left(folder, self._ground.group(folder), started):
            say(f"Processes of {folder.run}/{folder.number} do not die: {sorted(left)}.")
        self._shipping.finish(folder)
