"""Launch and stop orders: an attempt is started once, however often it is ordered, and a stop overtakes its start."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from runyard.core.reasons import Reason
from runyard.core.run import StopCause
from runyard.node.became import Became, Early, clock_ms
from runyard.node.endings import Endings
from runyard.node.gpus.guarding import GpuTaken, Guarding
from runyard.node.grants import Grants
from runyard.node.holding import Ahead, Holding
from runyard.node.home import AttemptFolder
from runyard.node.lanes import Crew, Lanes, Later
from runyard.node.prepare import Ground, Prepared, Stopped, furnish, keep_order, leave_evidence, prepare
from runyard.node.ready import Ready
from runyard.node.removing import Removing
from runyard.node.report import Report
from runyard.node.restoring import NoOrigin, Restoring
from runyard.node.seats import hold_port
from runyard.node.ship import Shipping
from runyard.node.stage import Failed, Outcome, Staging
from runyard.node.starting import Starting
from runyard.node.store import Storing
from runyard.node.watch import Watch
from runyard.stores.errors import StoreError
from runyard.wire.orders import Launch, Place, Stop, Withdraw

AGAIN_S = 0.05
STAGED_WITHIN_S = 5.0
"""For so long a launch has its slots while its code and data, which the server took to be here, are still to come."""
SLOTS_WITHIN_S = 10.0
"""For so long a launch waits for slots in which another attempt is still being ended."""
NOT_YET = "This machine has to fetch code and data of the run first."
NOT_READY = Early(error="This machine has the code and data of the run no longer, though it had said so.")
NODE_MISTAKE = Early(error="A mistake in the node itself kept it from starting: see its own log.")


Attempt = tuple[str, int]
"""A run and the number of its attempt."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What launching works with."""

    ground: Ground
    staging: Staging
    storing: Storing
    shipping: Shipping
    watch: Watch
    endings: Endings
    lanes: Lanes
    later: Later
    starting: Starting
    grants: Grants
    report: Report
    removing: Removing
    guarding: Guarding


class Launching:
    """Attempts on their way to a shim, and stops on their way to them."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._crew = Crew("launch", 4, at_once=1)
        self._turn = Crew("turn", 2, at_once=1)
        self._restoring = Restoring(hands.ground, hands.storing)
        self._holding = Holding(hands.ground, hands.staging, self._restoring, hands.lanes, hands.later, hands.report)
        hands.grants.take_over = self._take_over
        self._lock = threading.Lock()
        self._stops: dict[Attempt, Stop] = {}
        self._orders: dict[Attempt, Launch] = {}
        """Every launch order since this node started, in its latest form, until its run is released."""
        self._started: set[str] = set()
        """Runs of which a program was started since then."""
        self._waits: dict[Attempt, float] = {}
        """Launches that wait for their slots, and since when."""
        self._leaving: dict[str, Launch | None] = {}
        """Runs that are being released, and the launch that waits until they are."""

    # -------------------------------------------------------------------------------------------------- from outside

    def launch(self, order: Launch) -> None:
        """Start an attempt, or listen to it where it runs already."""
        with self._lock:
            if order.run in self._leaving:
                self._leaving[order.run] = order
                return
            self._orders[order.run, order.attempt] = order
        if order.hold_ms > 0:
            self._hold(order)
            return
        self._hands.grants.withdraw(order.run, order.attempt)
        self._hands.lanes.put(order.run, self._crew, lambda: self._launch(order))

    def _hold(self, order: Launch) -> None:
        """Keep a grant ahead for when an attempt of its class ends, its folder made meanwhile. One that began before
        this node started is told of instead."""
        folder = self._hands.ground.home.attempt(order.run, order.attempt)
        if self._is_stopped(order) or self._hands.endings.gang(folder).became is not Became.prepared:
            self._hands.lanes.put(order.run, self._crew, lambda: self._launch(order))
        elif self._hands.grants.hold(order):
            self._holding.prepare(order, lambda: self._is_stopped(order))
            left_ms = order.until_ms - clock_ms() if order.until_ms else order.hold_ms
            self._hands.later.put(max(0, min(left_ms, order.hold_ms)) / 1000, lambda: self._expire(order))

    def _expire(self, order: Launch) -> None:
        if self._hands.grants.withdraw(order.run, order.attempt, order) is not None:
            self._decline(order)

    def _decline(self, order: Launch) -> None:
        with self._lock:
            self._orders.pop((order.run, order.attempt), None)
        self._holding.decline(order)

    def withdraw(self, order: Withdraw) -> None:
        """Decline a grant that is held. One that has begun goes on."""
        held = self._hands.grants.withdraw(order.run, order.attempt)
        if held is not None:
            self._decline(held)

    def _take_over(self, order: Launch) -> None:
        """A grant that was held has slots now: start it at once."""
        self._hands.endings.occupied.take((order.run, order.attempt), order.slots, over=True)
        with self._lock:
            self._orders[order.run, order.attempt] = order
        self._hands.lanes.put(order.run, self._turn, lambda: self._begin(order))

    def _begin(self, order: Launch) -> None:
        ahead = self._holding.take(order)
        if ahead is None or self._is_stopped(order):
            self._launch(order)
        else:
            self._start(order, self._hands.ground.home.attempt(order.run, order.attempt), ahead.ready, ahead)

    def stop(self, order: Stop) -> None:
        """End all learners of an attempt, or see to it that they never begin."""
        with self._lock:
            self._stops[order.run, order.attempt] = order
        self._hands.grants.withdraw(order.run, order.attempt, for_good=True)
        told = self._hands.watch.stop(order.run, order.attempt, order.cause, order.grace_ms)
        if not told or len(self._hands.ground.home.learners(order.run, order.attempt)) > 1:
            self._hands.lanes.put(order.run, self._crew, lambda: self._stop(order))

    def refuse(self, run: str) -> None:
        """Start nothing more of a run: it is being released."""
        self._hands.grants.withdraw_all(run)
        self._holding.forget(run)
        with self._lock:
            self._leaving[run] = None
            self._orders = {key: order for key, order in self._orders.items() if key[0] != run}

    def forget(self, run: str) -> None:
        """The run's folders are gone. A launch that came meanwhile begins now."""
        self._hands.grants.forget(run)
        self._hands.report.forget(run)
        with self._lock:
            order = self._leaving.pop(run, None)
            self._started.discard(run)
            for key in [key for key in list(self._waits) if key[0] == run]:
                self._waits.pop(key, None)
            waiting = (run, order.attempt) if order is not None else None
            self._stops = {key: stop for key, stop in self._stops.items() if key[0] != run or key == waiting}
        if order is not None:
            self.launch(order)

    def has_started(self, run: str) -> bool:
        """Whether this very node has started the program of a run."""
        with self._lock:
            return run in self._started

    def has_order(self, run: str, attempt: int) -> bool:
        """Whether a launch order of an attempt stands, one that is held included."""
        with self._lock:
            return (run, attempt) in self._orders

    def results(self, run: str) -> Place | None:
        """Where a run's results go, its secret included, if a launch order of it came since this node started."""
        with self._lock:
            places = [order.results for key, order in self._orders.items() if key[0] == run]
        return places[-1] if places else None

    def specs(self) -> set[int]:
        """The specs of every run that has a launch order here."""
        with self._lock:
            return {order.stage.spec for order in self._orders.values()}

    # ------------------------------------------------------------------------------------------------- one at a time

    def _launch(self, order: Launch) -> None:
        hands, folder = self._hands, self._hands.ground.home.attempt(order.run, order.attempt)
        if hands.endings.gang(folder).became is not Became.prepared:
            hands.endings.tell_began(folder)
            hands.endings.settle(folder)
        elif self._is_stopped(order):
            self._end_stopped(folder)
        elif self._end_older(order):
            hands.later.put(AGAIN_S, lambda: self._again(order))
        elif (other := hands.endings.occupied.take((order.run, order.attempt), order.slots)) is not None:
            self._wait_for_slots(order, folder, other)
        elif (ready := hands.staging.find(order.stage)) is not None and hands.staging.has_image(ready):
            self._start(order, folder, ready, self._holding.take(order))
        elif order.stage.listed:
            hands.staging.request(order.stage, lambda outcome: self._staged(order, outcome))
        elif hands.staging.follow(order.stage.spec, lambda outcome: self._staged(order, outcome)):
            hands.later.put(STAGED_WITHIN_S, lambda: self._hand_back(order))
        else:
            hands.endings.end_early(folder, NOT_READY)

    def _wait_for_slots(self, order: Launch, folder: AttemptFolder, other: Attempt) -> None:
        """Another attempt is still being ended in its slots: wait until that is gone, but not for ever."""
        key = (order.run, order.attempt)
        since = self._waits.setdefault(key, time.monotonic())
        if time.monotonic() - since < SLOTS_WITHIN_S:
            self._hands.later.put(AGAIN_S, lambda: self._again(order))
            return
        self._waits.pop(key, None)
        why = f"A slot that it was given is still held by attempt {other[1]} of {other[0]}, which does not end."
        self._hands.endings.end_early(folder, Early(error=why, reason=Reason.gpu_taken))

    def _again(self, order: Launch) -> None:
        """Go on with a launch that waited for something, unless its run was released or a later order took over."""
        if self._stands(order):
            self._hands.lanes.put(order.run, self._crew, lambda: self._launch(order))

    def _stands(self, order: Launch) -> bool:
        with self._lock:
            return self._orders.get((order.run, order.attempt)) is order

    def _staged(self, order: Launch, outcome: Outcome) -> None:
        if isinstance(outcome, Ready):
            self._again(order)
        elif self._stands(order):
            folder = self._hands.ground.home.attempt(order.run, order.attempt)
            self._hands.lanes.put(order.run, self._crew, lambda: self._not_staged(folder, outcome.detail))

    def _hand_back(self, order: Launch) -> None:
        """What was ordered together with its code and data has not begun, since they take long to come: give the slots
        back for the meantime."""
        if self._stands(order) and self._hands.staging.find(order.stage) is None:
            self._staged(order, Failed(Reason.not_ready, NOT_YET))

    def _not_staged(self, folder: AttemptFolder, detail: str) -> None:
        if self._hands.endings.gang(folder).became is Became.prepared:
            self._hands.endings.end_early(folder, Early(error=detail))

    def _start(self, order: Launch, folder: AttemptFolder, ready: Ready, ahead: Ahead | None = None) -> None:
        hands = self._hands
        self._waits.pop((order.run, order.attempt), None)
        try:
            hands.guarding.check(order.slots)
            if ahead is None:
                self._restoring.restore(order)
            port = hold_port() if ahead is None else ahead.port
            with port.holder:
                if ahead is None:
                    prepared = prepare(hands.ground, order, ready, port.number, lambda: self._is_stopped(order))
                else:
                    prepared = furnish(hands.ground, order, ready, port.number)
                    if not hands.grants.has_taken_over(order.run, order.attempt):
                        keep_order(hands.ground, order)  # it was held, and is started by an order with slots after all
                if self._is_stopped(order):
                    raise Stopped
                self._start_shims(order, prepared, port.holder.fileno())
                hands.staging.mark_used(ready)  # the order that stands keeps it in the cache until here
        except Stopped:
            self._end_stopped(folder)
        except GpuTaken as error:
            hands.endings.end_early(folder, Early(error=str(error), reason=Reason.gpu_taken))
        except NoOrigin as error:
            leave_evidence(hands.ground, folder, ready.spec, str(error))
            hands.endings.end_early(folder, Early(error=str(error), reason=Reason.start_from_missing))
        except StoreError as error:
            words = f"The run's checkpoints could not be fetched back: {error.message}"
            hands.endings.end_early(folder, Early(error=words))
        except OSError as error:
            hands.endings.end_early(folder, cannot_start(error))
        except Exception:
            hands.endings.end_early(folder, NODE_MISTAKE)
            raise

    def _start_shims(self, order: Launch, prepared: Sequence[Prepared], held: int) -> None:
        """Start all learners. Raises ``OSError`` when the first cannot be started; when another cannot, that is put
        down, and ends the others."""
        first, *others = prepared
        if not others:
            self._follow(first.folder, self._hands.starting.start(order, first, (held,)))
            return
        endings = self._hands.endings
        with endings.starting(first.folder):
            for number, each in enumerate(prepared):
                try:
                    child = self._hands.starting.start(order, each, (held,))
                except OSError as error:
                    if each is first:
                        raise
                    endings.not_started([left.folder for left in prepared[number:]], cannot_start(error))
                    break
                self._follow(each.folder, child)
        endings.settle(first.folder)

    def _follow(self, folder: AttemptFolder, child: subprocess.Popen[bytes] | None) -> None:
        """Listen to a shim that has just been started. From here on it alone says what becomes of the attempt."""
        hands = self._hands
        with self._lock:
            self._started.add(folder.run)
        hands.endings.follow(folder)
        try:
            hands.watch.connect(folder, child)
            hands.shipping.open(folder, fresh=True)
        except OSError:
            hands.endings.gone(folder)
        stop = self._stop_of(folder)
        if stop is not None:
            hands.watch.stop(stop.run, stop.attempt, stop.cause, stop.grace_ms)

    def _end_older(self, order: Launch) -> bool:
        """End earlier attempts that the server has given up and that still live here; says whether there were any."""
        found = False
        self._drop_older(order)
        for folder in self._hands.ground.home.attempts(order.run):
            became = self._hands.endings.gang(folder).became if folder.number < order.attempt else Became.exited
            if became is Became.running:
                self._hands.watch.stop(folder.run, folder.number, StopCause.fenced, 0)
                found = True
            elif became is Became.lost:
                self._hands.endings.bring_to_end(folder)
        return found

    def _drop_older(self, order: Launch) -> None:
        """Earlier attempts of which nothing has begun never will, and have no slots."""
        for key in ((order.run, number) for number in range(1, order.attempt)):
            with self._lock:
                stands = key in self._orders
            if stands and self._hands.endings.gang(self._hands.ground.home.attempt(*key)).became is Became.prepared:
                with self._lock:
                    self._orders.pop(key, None)
                self._hands.endings.occupied.leave(key)

    def _stop(self, order: Stop) -> None:
        hands, folder = self._hands, self._hands.ground.home.attempt(order.run, order.attempt)
        gang = hands.endings.gang(folder)
        if gang.became is Became.prepared:
            self._end_stopped(folder)
            return
        running = [learner.folder for learner in gang.those(Became.running)]
        untold = [each for each in running if not hands.watch.stop_learner(each, order.cause, order.grace_ms)]
        if untold or not running:
            hands.endings.settle(folder)
        if untold:
            hands.later.put(AGAIN_S, lambda: self.stop(order))

    def _end_stopped(self, folder: AttemptFolder) -> None:
        stop = self._stop_of(folder)
        cause = stop.cause if stop is not None else StopCause.fenced
        self._hands.endings.end_early(folder, Early(cause=cause))

    def _is_stopped(self, order: Launch) -> bool:
        with self._lock:
            return (order.run, order.attempt) in self._stops or order.run in self._leaving

    def _stop_of(self, folder: AttemptFolder) -> Stop | None:
        with self._lock:
            return self._stops.get((folder.run, folder.number))


def cannot_start(error: OSError) -> Early:
    """Why an attempt does not begin whose folder, or shim, the system would not make."""
    words = error.strerror or type(error).__name__
    return Early(error=f"This machine's disk could not take the attempt, or start it: {words}.")
