"""The ends of attempts: closing lines, the fact for the server, the rest of the logs; and what shims left that died."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from runyard.core.run import StopCause
from runyard.node.became import (
    Became,
    Early,
    Trace,
    began,
    boot_id,
    is_held,
    look,
    lost,
    what_became,
)
from runyard.node.closing import close_log
from runyard.node.gang import PEER, Gang, Learner, see
from runyard.node.grants import Grants
from runyard.node.home import AttemptFolder, Key, Record, say
from runyard.node.lanes import Crew, Lanes, Later
from runyard.node.occupied import Occupied
from runyard.node.prepare import Ground, read_order
from runyard.node.report import Report
from runyard.node.shims import end_what_is_left, remove_container
from runyard.node.ship import Shipping
from runyard.node.unwritten import Unwritten
from runyard.node.watch import Watch
from runyard.wire.facts import Exited, Fact, Lost

AGAIN_S = 0.05
"""A shim that died lets go of its lock a moment after it hung up."""
LOOK_S = 5.0
"""Between two looks at attempts whose shims are gone without anybody having told of it."""
BROKEN_OFF = Early(error="The node was restarted while it was starting the learners one after the other.")
NO_SHIM = Early(error="The process that starts the program ended before the program began.")


class Endings:
    """Settles attempts, one thing at a time for each run."""

    def __init__(
        self,
        ground: Ground,
        report: Report,
        shipping: Shipping,
        watch: Watch,
        lanes: Lanes,
        later: Later,
        grants: Grants,
    ) -> None:
        self._grants = grants
        self._ground = ground
        self._report = report
        self._shipping = shipping
        self._watch = watch
        self._lanes = lanes
        self._later = later
        self._crew = Crew("settle", 4, at_once=1)
        self._boot_id = boot_id()
        self.ended_well: Callable[[AttemptFolder], None] = lambda _: None
        """Told of an attempt that ended by itself with exit code 0, once the server is told."""
        self.occupied = Occupied()
        self._lock = threading.Lock()
        self._starting: set[tuple[str, int]] = set()
        self._heard: set[Key] = set()
        """Learners whose shim has said that the program runs, for as long as their end is not told."""
        self._told: set[tuple[str, int]] = set()
        """Attempts whose logs are closed and whose end was told since this node started."""
        self._followed: dict[Key, AttemptFolder] = {}
        """Learners whose shim this node has listened to, until their run is forgotten."""
        self._untouched: set[Key] = set()
        """Learners in whose working directories nothing is their programs', as was seen at the end."""
        self._missed: set[Key] = set()
        """Those that had no shim and no told end at the last look."""
        self._unwritten = Unwritten(lanes, self._crew, later)

    def gang(self, folder: AttemptFolder) -> Gang:
        """All learners of an attempt, as their folders tell now."""
        return see(self._ground.home.learners(folder.run, folder.number), self._unwritten.records())

    @contextmanager
    def starting(self, folder: AttemptFolder) -> Generator[None]:
        """Meanwhile the shims of an attempt's learners are started: nothing is made of some having none yet."""
        attempt = (folder.run, folder.number)
        with self._lock:
            self._starting.add(attempt)
        try:
            yield
        finally:
            with self._lock:
                self._starting.discard(attempt)

    def _is_starting(self, folder: AttemptFolder) -> bool:
        with self._lock:
            return (folder.run, folder.number) in self._starting

    def over(self, folder: AttemptFolder, cause: str | None) -> None:
        """A shim says that nothing of its program is left: a grant that waits for that begins while the end is still
        being put on the disk. Should shim or machine die meanwhile, the successor's folder has told already whom it
        follows, and the attempt is lost."""
        if self._is_alone(folder):
            self._grants.decide(folder, cause)

    def ended(self, folder: AttemptFolder, record: Record) -> None:
        """A shim says how its program ended, which is on the disk: what follows from that follows."""
        if not self._is_alone(folder):
            self.settle(folder)
            return
        cause = record.get("cause")
        self._grants.decide(folder, None if cause is None else str(cause))
        gang = Gang((Learner(folder, Trace(False, None, record)),))
        self._lanes.put(("settle", folder.run), self._crew, lambda: self._tell_end(gang))

    def started(self, folder: AttemptFolder, record: Record) -> None:
        """A shim says that its program runs."""
        if self._is_alone(folder):
            with self._lock:
                self._heard.add(folder.key)
            self._report.tell(began(folder, record))
        else:
            self.tell_began(folder)

    def _is_alone(self, folder: AttemptFolder) -> bool:
        kept = read_order(folder)
        return kept is not None and kept.learners == 1

    def settle(self, folder: AttemptFolder) -> None:
        """See what became of an attempt, and do what follows, in some thread."""
        self._lanes.put(("settle", folder.run), self._crew, lambda: self.settle_now(folder))

    def settle_now(self, folder: AttemptFolder) -> None:
        """The same at once. Callers see to it that nobody else does so for the same run."""
        if self._is_starting(folder):
            return  # asked before looking: what is seen without a shim from here on is not about to get one
        gang = self.gang(folder)
        if gang.became is Became.prepared:
            return
        gang = self._complete(gang)
        for learner in gang.those(Became.lost):
            self._clear_up(learner.folder)
        running = gang.those(Became.running)
        for learner in running:
            self._listen_again(learner.folder)
        if not running:
            self._tell_end(gang)
            return
        self.tell_began(folder)
        if (first := gang.first()) is not None or gang.those(Became.lost):
            cause = PEER if first is None else first.cause or PEER
            for learner in running:
                self._watch.stop_learner(learner.folder, cause)

    def _complete(self, gang: Gang) -> Gang:
        """A gang in which nobody is still to be started: what was left unstarted, as the others have begun, has ended
        like the one that kept it from starting, and that is put down before anything follows from it."""
        if not gang.those(Became.prepared):
            return gang
        first = gang.first()
        why = BROKEN_OFF if first is None or first.cause is None else Early(cause=first.cause)
        learners = (
            replace(each, trace=Trace(False, None, self._unwritten.put_down(each.folder, why)))
            if each.became is Became.prepared
            else each
            for each in gang.learners
        )
        return Gang(tuple(learners))

    def _tell_end(self, gang: Gang) -> None:
        """Tell the end of an attempt, and who has taken over from it: that is decided before anything else is done."""
        folder, first = gang.learners[0].folder, gang.first()
        cause = (first or gang.learners[0]).cause
        then = self._grants.decide(folder, cause) if len(gang.learners) == 1 else None
        with self._lock:
            heard = folder.key in self._heard
            self._heard.discard(folder.key)
        if not heard:
            self.tell_began(folder)  # it was over before anybody listened to its shim
        fact = self.close(gang)
        self.occupied.leave((folder.run, folder.number))
        with self._lock:
            self._told.add((folder.run, folder.number))
        self._report.tell(fact if then is None else msgspec.structs.replace(fact, then=then))
        if isinstance(fact, Exited) and fact.exit_code == 0 and fact.cause is None and fact.launch_error is None:
            self.ended_well(folder)

    def close(self, gang: Gang) -> Exited | Lost:
        """Bring the logs of an ended attempt to their end, and return the fact in its records."""
        for learner in gang.those(Became.exited):
            try:
                if close_log(learner.folder, learner.record, gang.note(learner)):
                    with self._lock:
                        self._untouched.add(learner.folder.key)
            except OSError as error:
                say(f"The closing lines of {learner.folder.name} could not be written: {error}")
        fact = self._fact(gang)
        for learner in gang.learners:
            self._shipping.finish(learner.folder)
        return fact

    def _fact(self, gang: Gang) -> Exited | Lost:
        for learner in gang.those(Became.lost):
            fact = lost(learner.folder, learner.trace.started or {}, self._boot_id)
            if len(gang.learners) > 1:
                detail = f"{fact.detail} It was that of learner {learner.folder.learner}."
                return Lost(fact.run, fact.attempt, fact.reason, detail)
            return fact
        return gang.exited()

    def end_early(self, folder: AttemptFolder, why: Early) -> None:
        """Put down that an attempt ended before any program of it began, and tell the server. One that has a shim after
        all is left to it."""
        gang = self.gang(folder)
        if gang.became is not Became.prepared:
            self.settle(folder)
            return
        records = [self._unwritten.put_down(learner.folder, why) for learner in gang.learners]
        traces = (Trace(False, None, record) for record in records)
        ended = Gang(tuple(Learner(each.folder, trace) for each, trace in zip(gang.learners, traces, strict=True)))
        self._lanes.put(("settle", folder.run), self._crew, lambda: self._tell_end(ended))

    def not_started(self, folders: Sequence[AttemptFolder], why: Early) -> None:
        """Put down that some learners could not be started, where others have been. What follows is settled later."""
        for folder in folders:
            self._unwritten.put_down(folder, why)

    def follow(self, folder: AttemptFolder) -> None:
        """A shim of this learner is listened to from now on."""
        with self._lock:
            self._followed[folder.key] = folder

    def look_for_ever(self) -> None:
        """Look every few seconds whether the end of a shim has gone unnoticed, whatever became of the word on it: what
        follows that attempt in its slots is told of only after its end."""
        self.look_once()
        self._later.put(LOOK_S, self.look_for_ever)

    def look_once(self) -> None:
        """One look. What is found twice in a row is settled."""
        with self._lock:
            followed = list(self._followed.values())
        untold = {each.key: each for each in followed if not self.is_told(each) and not is_held(each.lock)}
        for key in untold.keys() & self._missed:
            folder = untold[key]
            say(f"The end of {folder.name} had gone unnoticed.")
            self._watch.drop(folder)
            self._lanes.put(folder.run, self._crew, lambda folder=folder: self.gone(folder))
        self._missed = set(untold)

    def gone(self, folder: AttemptFolder) -> None:
        """A shim hung up without a word on the end."""
        if what_became(look(folder)) is not Became.prepared:
            self.settle(folder)
        elif not self._is_starting(folder) and self.gang(folder).became is Became.prepared:
            self._lanes.put(("settle", folder.run), self._crew, lambda: self._clear_up(folder))  # its control group
            self.end_early(folder, NO_SHIM)
        else:
            self._unwritten.put_down(folder, NO_SHIM)
            self.settle(folder)

    def recover_grants(self, folders: Sequence[AttemptFolder]) -> None:
        """Find again who took over from whom, before anything else is said of them."""
        gangs = [self.gang(folder) for folder in folders]
        over = [gang for gang in gangs if gang.became in (Became.exited, Became.lost)]
        begun = [gang for gang in gangs if gang.became is not Became.prepared]
        first = [gang.learners[0].folder for gang in begun]
        self._grants.recover([gang.learners[0].folder for gang in over], first)

    def recover(self, folder: AttemptFolder) -> None:
        """Find an attempt again that was there before this node started. What takes long is done in some thread."""
        gang = self.gang(folder)
        if gang.became in (Became.running, Became.lost):
            self.occupied.take((folder.run, folder.number), self._grants.slots_of(folder), over=True)
        for learner in gang.those(Became.running):
            self._listen_again(learner.folder)
        if gang.became is Became.exited:
            self.close(gang)
        elif gang.became is Became.lost:
            for learner in gang.learners:
                self._shipping.open(learner.folder)
        elif len(gang.those(gang.became)) < len(gang.learners):
            self.settle(folder)

    def tell_began(self, folder: AttemptFolder) -> None:
        """Tell the server that all programs of an attempt have begun, if they have."""
        fact = self.gang(folder).began()
        if fact is not None:
            self._report.tell(fact)

    def bring_to_end(self, folder: AttemptFolder) -> None:
        """An attempt that is to be removed: nothing of it lives on, and its logs are shipped to their end."""
        if self.is_told(folder):
            return
        gang = self.gang(folder)
        for learner in gang.those(Became.lost):
            self._clear_up(learner.folder)
        if gang.became is Became.prepared:
            self.close(gang)
            return
        self._grants.decide(folder, StopCause.fenced)
        self._tell_end(gang)  # what is told of a successor follows this, and the server may have waited for its room

    def is_told(self, folder: AttemptFolder) -> bool:
        """Whether this node has told of an attempt's end, so that nothing is left to do."""
        with self._lock:
            return (folder.run, folder.number) in self._told

    def is_untouched(self, folder: AttemptFolder) -> bool:
        """Whether nothing in the working directory of a learner is its program's, as was seen at its end."""
        with self._lock:
            return folder.key in self._untouched

    def forget(self, run: str) -> None:
        """A run's folders are gone."""
        self.occupied.forget(run)
        self._unwritten.forget(run)
        with self._lock:
            self._told = {key for key in self._told if key[0] != run}
            self._untouched = {key for key in self._untouched if key[0] != run}
            self._followed = {key: folder for key, folder in self._followed.items() if key[0] != run}

    def facts(self) -> list[Fact]:
        """What the folders tell of beginnings, to be sent again at every connect; the ends follow by themselves."""
        told: list[Fact] = []
        for folder in self._ground.home.all_attempts():
            gang = self.gang(folder)
            fact = gang.began()
            if fact is not None:
                told.append(fact)
            if gang.became is not Became.prepared and len(gang.those(Became.running)) < len(gang.learners):
                self.settle(folder)
        return told

    def _listen_again(self, folder: AttemptFolder) -> None:
        """A shim lives: listen to it. One that does not answer is on its way out, maybe before its program began."""
        try:
            self._watch.connect(folder)
            self.follow(folder)
            self._shipping.open(folder)
        except OSError:
            self._later.put(AGAIN_S, lambda: self._lanes.put(folder.run, self._crew, lambda: self.gone(folder)))

    def _clear_up(self, folder: AttemptFolder) -> None:
        started = look(folder).started or {}
        while left := end_what_is_left(folder, self._ground.group(folder), started):
            say(f"Processes of {folder.name} do not die: {sorted(left)}.")
        remove_container(started)
