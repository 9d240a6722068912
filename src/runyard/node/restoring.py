"""What ``CHECKPOINT_DIR`` begins with: what an earlier attempt left, or the checkpoints of another run."""

from __future__ import annotations

import os
from collections.abc import Callable

from runyard.node.checkpoints import CheckpointStore
from runyard.node.parallel import Patience
from runyard.node.prepare import Ground
from runyard.node.store import Storing
from runyard.stores.errors import StoreError
from runyard.wire.orders import Launch, Origin, Place

PATIENCE_S = 30.0


class NoOrigin(Exception):
    """The checkpoints to start from are not to be had. Its text is a sentence for the person who named them."""


class Restoring:
    """Fetches checkpoints to where this machine has none of a run."""

    def __init__(self, ground: Ground, storing: Storing) -> None:
        self._ground = ground
        self._storing = storing

    def restore(self, order: Launch) -> None:
        """Make ``CHECKPOINT_DIR`` of what an earlier attempt stored that another machine (or another disk) had; where
        there is none, of what the run that it starts from has stored. A folder that is here stays as it is.

        Raises :class:`NoOrigin`, :class:`StoreError` or ``OSError``.
        """
        target = self._ground.home.checkpoints(order.run)
        if os.path.isdir(target) or (order.attempt == 1 and order.start_from is None):
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        uid = self._ground.uid(order)
        if order.attempt > 1:
            self._patiently(order.results, order.run, lambda store: self._fetch(store, target, uid))
        if order.start_from is not None and not os.path.isdir(target):
            self._begin_from(order.start_from, target, uid)

    def _begin_from(self, origin: Origin, target: str, uid: int | None) -> None:
        try:
            self._patiently(origin.results, origin.run, lambda store: self._fetch(store, target, uid, whole=True))
        except StoreError as error:
            if error.definite:
                raise NoOrigin(f"The checkpoints of {origin.run} cannot be had: {error.message}") from None
            raise

    def _fetch(self, store: CheckpointStore, target: str, uid: int | None, *, whole: bool = False) -> None:
        store.restore(self._storing.crew, self._ground.cache, target, uid, whole=whole)

    def _patiently(self, place: Place, run: str, work: Callable[[CheckpointStore], None]) -> None:
        patience = Patience(PATIENCE_S)
        while True:
            try:
                store = self._storing.access.open(place)
                try:
                    work(CheckpointStore(store, run))
                finally:
                    store.close()
                return
            except StoreError as error:
                if error.definite or not patience.is_left():
                    raise
