"""The folders of grants ahead: made while they wait, so that their programs begin at once, and removed when they go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from runyard.node.home import AttemptFolder, say
from runyard.node.lanes import Crew, Lanes, Later
from runyard.node.prepare import Ground, Stopped, forget_orders, make_folders
from runyard.node.ready import Ready
from runyard.node.report import Report
from runyard.node.restoring import NoOrigin, Restoring
from runyard.node.seats import Port, hold_port
from runyard.node.stage import Staging
from runyard.stores.errors import StoreError
from runyard.wire.facts import Declined
from runyard.wire.orders import Launch

AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is ready for a grant: its folder stands on ``ready``, and ``port`` is kept for it."""

    ready: Ready
    port: Port


class Holding:
    """What was got ready for grants that wait, by run and attempt. Everything of one run happens in its lane."""

    def __init__(
        self,
        ground: Ground,
        staging: Staging,
        restoring: Restoring,
        lanes: Lanes,
        later: Later,
        report: Report,
    ) -> None:
        self._ground = ground
        self._staging = staging
        self._restoring = restoring
        self._lanes = lanes
        self._later = later
        self._report = report
        self._crew = Crew("ahead", 1)
        self._lock = threading.Lock()
        self._ahead: dict[tuple[str, int], Ahead] = {}

    def prepare(self, order: Launch, stopped: Callable[[], bool]) -> None:
        """Make a grant's folder, in some thread. What cannot be made is tried again when it is started, and is told
        then."""
        self._lanes.put(order.run, self._crew, lambda: self._prepare(order, stopped))

    def _prepare(self, order: Launch, stopped: Callable[[], bool]) -> None:
        with self._lock:
            if (order.run, order.attempt) in self._ahead:
                return  # the order came again
        ready = self._staging.find(order.stage)
        if ready is None or stopped():
            return
        try:
            self._restoring.restore(order)
            make_folders(self._ground, order, ready, stopped)
            port = hold_port()
        except (Stopped, NoOrigin, StoreError, OSError):
            return
        with self._lock:
            self._ahead[order.run, order.attempt] = Ahead(ready, port)

    def take(self, order: Launch) -> Ahead | None:
        """What was got ready for an order, which has it from now on."""
        with self._lock:
            return self._ahead.pop((order.run, order.attempt), None)

    def forget(self, run: str) -> None:
        """The run is being released: keep no port for it."""
        with self._lock:
            going = [self._ahead.pop(key) for key in list(self._ahead) if key[0] == run]
        for ahead in going:
            ahead.port.holder.close()

    def decline(self, order: Launch) -> None:
        """A grant was not begun in time: remove its folder, and tell the server."""
        self._lanes.put(order.run, self._crew, lambda: self._decline(order))

    def _decline(self, order: Launch) -> None:
        ahead = self.take(order)
        if ahead is not None:
            ahead.port.holder.close()
        folder = self._ground.home.attempt(order.run, order.attempt)
        try:
            self._ground.cache.discard(self._ground.home.run(order.run) if self._is_alone(folder) else folder.path)
            forget_orders(self._ground.home, order.run)
        except OSError as error:
            say(f"The folder of {folder.name}, which was not begun, cannot be removed yet: {error}")
            self._later.put(AGAIN_S, lambda: self.decline(order))
            return
        self._report.tell(Declined(order.run, order.attempt))

    def _is_alone(self, folder: AttemptFolder) -> bool:
        return all(each.number == folder.number for each in self._ground.home.attempts(folder.run))
