"""After the program: store orders, tried again for as long as it takes, checkpoints in between, and the release."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from runyard.core.run import StopCause
from runyard.node.became import Became, look, what_became
from runyard.node.checkpoints import CheckpointStore
from runyard.node.home import AttemptFolder, say
from runyard.node.lanes import Crew
from runyard.node.launching import Hands, Launching
from runyard.node.link import Backoff
from runyard.node.prepare import Stopped, forget_orders, read_order
from runyard.node.report import Report
from runyard.node.shims import kill_shim
from runyard.node.store import FolderLost
from runyard.node.sweep import Tree
from runyard.node.together import Objects, Together
from runyard.node.views import without_secret
from runyard.stores.errors import StoreError
from runyard.wire.facts import Stored, StoreFailed
from runyard.wire.orders import Store

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 60.0
SYNC_EVERY_S = 60.0
AGAIN_S = 0.05
EVIDENCE_PATIENCE_S = 5.0
"""For so long at most a run that is stored waits for its log and metrics to be with the server."""
HANGING_S = 20.0
"""A shim that has not ended its program after so long is itself ended."""


class _Storing:
    """A store order that stands: its latest form, and its pauses. ``first``: nothing of the run is stored yet, and the
    first try goes on, by the node's own word."""

    def __init__(self, order: Store, *, first: bool = False) -> None:
        self.order = order
        self.first = first
        self.backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)


def is_same(one: Store, other: Store) -> bool:
    """Whether two orders ask for the same, whatever their credentials."""
    places = [without_secret(order.results) for order in (one, other)]
    told = [(order.attempt, order.earlier, order.outputs) for order in (one, other)]
    return places[0] == places[1] and told[0] == told[1]


class Finishing:
    """Runs whose program has ended, and runs that are to go."""

    def __init__(
        self,
        hands: Hands,
        launching: Launching,
        report: Report,
        together: Together,
        sync_every_s: float = SYNC_EVERY_S,
    ) -> None:
        self._hands = hands
        self._together = together
        hands.endings.ended_well = self.store_by_itself
        self._launching = launching
        self._report = report
        self._sync_every_s = sync_every_s
        self._crew = Crew("store", 2, at_once=1)
        self._removing = Crew("release", 2, at_once=1)
        self._lock = threading.Lock()
        self._storing: dict[str, _Storing] = {}
        self._stored: dict[str, tuple[Stored, Store]] = {}
        self._releasing: set[str] = set()

    # ------------------------------------------------------------------------------------------------------- storing

    def store(self, order: Store) -> None:
        """Store a run, or go on with other credentials where it is being stored."""
        with self._lock:
            done, going_on = self._stored.get(order.run), self._storing.get(order.run)
            stored = done[0] if done is not None and is_same(done[1], order) else None
            if stored is None and going_on is not None and going_on.first and is_same(going_on.order, order):
                going_on.order = order  # with newer credentials
                return
            storing = _Storing(order)
            if stored is None:
                self._storing[order.run] = storing
        if stored is not None:
            self._report.tell(stored)
        else:
            self._hands.lanes.put(order.run, self._crew, lambda: self._try(storing))

    def store_by_itself(self, folder: AttemptFolder) -> None:
        """A run's first attempt ended well: store it at once, without an order, while the server is there. Only where
        this node itself has started it is it known that nothing of it is stored yet."""
        place, kept = self._launching.results(folder.run), read_order(folder)
        if place is None or kept is None or kept.learners > 1 or folder.number > 1 or not self._report.is_connected:
            return
        storing = _Storing(Store(folder.run, kept.spec, folder.number, place, (), kept.outputs), first=True)
        with self._lock:
            known = folder.run in self._storing or folder.run in self._stored or folder.run in self._releasing
            if known or not self._launching.has_started(folder.run):
                return
            self._storing[folder.run] = storing
        small: tuple[Objects, Stored] | None = None
        try:
            small = self._hands.storing.small(storing.order, untouched=self._hands.endings.is_untouched(folder))
        except (StoreError, OSError):
            pass  # the usual way says what is wrong
        if small is None:
            self._hands.lanes.put(folder.run, self._crew, lambda: self._try(storing))
            return
        objects, stored = small
        self._together.put(objects, lambda fault: self._put_together(storing, stored, fault))

    def _put_together(self, storing: _Storing, stored: Stored, fault: StoreError | None) -> None:
        if fault is None:
            self._done(storing, stored)
        else:
            storing.first = False  # some may be there
            self._hands.lanes.put(stored.run, self._crew, lambda: self._try(storing))

    def stop_storing(self, run: str) -> None:
        """Give up; what is in the bucket stays."""
        with self._lock:
            self._storing.pop(run, None)

    def _stands(self, storing: _Storing) -> bool:
        with self._lock:
            return self._storing.get(storing.order.run) is storing

    def _try(self, storing: _Storing) -> None:
        if not self._stands(storing):
            return
        first, storing.first = storing.first, False
        try:
            stored = self._hands.storing.store(storing.order, lambda: not self._stands(storing), first=first)
        except Stopped:
            return
        except (StoreError, OSError) as error:
            self._failed(storing, error)
            return
        except Exception:
            self._failed(storing, StoreError("unreachable", "A mistake in the node itself: see its own log."))
            raise
        self._done(storing, stored)

    def _done(self, storing: _Storing, stored: Stored) -> None:
        with self._lock:
            standing = self._storing.get(stored.run)
            if standing is not None and not is_same(standing.order, storing.order):
                return  # it is to be stored elsewhere after all
            if self._storing.pop(stored.run, None) is not None:
                self._stored[stored.run] = (stored, storing.order)
        self._tell(stored)

    def _tell(self, stored: Stored) -> None:
        """Tell that a run is stored: its log and metrics are with the server before, unless they do not get there."""
        untold = threading.Lock()

        def tell() -> None:
            if untold.acquire(blocking=False):
                self._report.tell(stored)

        self._hands.shipping.when_done(stored.run, tell)
        if not untold.locked():
            self._hands.later.put(EVIDENCE_PATIENCE_S, tell)

    def _failed(self, storing: _Storing, error: StoreError | OSError) -> None:
        if not self._stands(storing):
            return
        run = storing.order.run
        denied = isinstance(error, StoreError) and error.definite and error.kind != "changed"
        words = error.message if isinstance(error, StoreError) else f"A file could not be read: {error.strerror}."
        self._report.tell(StoreFailed(run, words, denied, isinstance(error, FolderLost)))
        self._hands.later.put(
            storing.backoff.pause_s(),
            lambda: self._hands.lanes.put(run, self._crew, lambda: self._try(storing)),
        )

    # --------------------------------------------------------------------------------------------------- checkpoints

    def sync_for_ever(self) -> None:
        """From now on bring the checkpoints of running programs to their buckets, every so often."""
        for run, number in self._hands.watch.watched():
            folder = self._hands.ground.home.attempt(run, number)
            self._hands.lanes.put(("sync", run), self._hands.storing.sync_crew, lambda f=folder: self._sync(f))
        self._hands.later.put(self._sync_every_s, self.sync_for_ever)

    def _sync(self, folder: AttemptFolder) -> None:
        place, kept = self._launching.results(folder.run), read_order(folder)
        if place is None or kept is None:
            return
        watch = self._hands.watch
        try:
            store = self._hands.storing.access.open(place)
            with Tree(self._hands.ground.home.run(folder.run), "checkpoints", kept.uid) as tree:
                CheckpointStore(store, folder.run).sync(
                    self._hands.storing.crew,
                    tree,
                    running=True,
                    stopped=lambda: not watch.is_watched(folder.run, folder.number),
                )
            store.close()
        except (StoreError, OSError) as error:
            say(f"The checkpoints of {folder.run} are not in its bucket yet: {error}")

    # ------------------------------------------------------------------------------------------------------- release

    def keep_only(self, runs: Sequence[str]) -> None:
        """Release every run but these."""
        wanted = set(runs)
        with self._lock:
            orphans = [run for run in self._storing if run not in wanted]
        for run in {*self._hands.ground.home.run_ids(), *orphans} - wanted:
            self.release(run)

    def release(self, run: str) -> None:
        """End what lives of a run, ship the rest of its logs, and remove its folders."""
        with self._lock:
            self._storing.pop(run, None)
            self._stored.pop(run, None)
            if run in self._releasing:
                return
            self._releasing.add(run)
        self._launching.refuse(run)
        self._hands.lanes.put(run, self._removing, lambda: self._release(run))

    def _release(self, run: str, waited_s: float = 0.0) -> None:
        hands = self._hands
        home = hands.ground.home
        attempts = [folder for folder in home.attempts(run) if not hands.endings.is_told(folder)]
        folders = [learner for folder in attempts for learner in home.learners(run, folder.number)]
        alive = [folder for folder in folders if what_became(look(folder)) is Became.running]
        for folder in alive:
            if waited_s > HANGING_S:
                kill_shim(folder)
            elif not hands.watch.stop_learner(folder, StopCause.fenced, 0):
                hands.endings.settle(folder)
        if alive:
            pause = min(1.0, max(AGAIN_S, waited_s))
            again = partial(self._release, run, waited_s + pause)
            hands.later.put(pause, lambda: hands.lanes.put(run, self._removing, again))
            return
        for folder in attempts:
            hands.endings.bring_to_end(folder)
        if hands.shipping.is_done(run):
            self._remove(run)
        else:
            hands.shipping.when_done(run, lambda: hands.lanes.put(run, self._removing, lambda: self._remove(run)))

    def _remove(self, run: str) -> None:
        try:
            self._hands.removing.discard(self._hands.ground.home.run(run))
        except OSError as error:
            say(f"The folder of {run} cannot be removed yet: {error}")
            self._hands.later.put(
                LAST_RETRY_S, lambda: self._hands.lanes.put(run, self._removing, lambda: self._remove(run))
            )
            return
        forget_orders(self._hands.ground.home, run)
        self._hands.endings.forget(run)
        self._hands.shipping.forget(run)
        with self._lock:
            self._releasing.discard(run)
        self._launching.forget(run)
