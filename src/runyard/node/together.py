"""Small objects for the embedded store, of several runs in one request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from runyard.node.company import MOMENT_S, Company
from runyard.node.lanes import do_safely
from runyard.node.link import Link, Refused, Unreachable
from runyard.stores.errors import StoreError
from runyard.wire.objects import Kept, Named, decode_answer, encode

SMALL = 256 << 10
"""Bytes of the largest object that goes together with others."""
TOGETHER = 1 << 20
"""Bytes of what goes together for one run, at most."""
MOST = 4 << 20
"""Bytes in one request, about."""

Objects = Sequence[tuple[Named, bytes]]
Then = Callable[[StoreError | None], None]
"""Is told once all objects are stored, or why they are not."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    objects: Objects
    then: Then

    @property
    def size(self) -> int:
        return sum(len(content) for _, content in self.objects)


class Together:
    """The thread that sends them: while one request is on its way, the next one gathers."""

    def __init__(self, link: Link, company: Company | None = None) -> None:
        self._link = link
        self._company = company or Company()
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._started = False
        self._sent_at = 0.0

    def put(self, objects: Objects, then: Then) -> None:
        """Store objects. ``then`` is told from another thread."""
        with self._changed:
            self._waiting.append(_Waiting(objects, then))
            if not self._started:
                self._started = True
                threading.Thread(target=self._work, name="objects", daemon=True).start()
            if len(self._waiting) == 1:
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
            if time.monotonic() - self._sent_at < MOMENT_S:
                self._company.wait(self._company.patience_s())
            with self._changed:
                batch = self._next()
            do_safely(lambda batch=batch: self._send(batch))

    def _next(self) -> list[_Waiting]:
        batch, size = [self._waiting.pop(0)], 0
        while self._waiting and size + self._waiting[0].size <= MOST:
            size += self._waiting[0].size
            batch.append(self._waiting.pop(0))
        return batch

    def _send(self, batch: Sequence[_Waiting]) -> None:
        objects = [each for waiting in batch for each in waiting.objects]
        self._sent_at = time.monotonic()
        kept, error = self._ask(objects)
        at = 0
        for waiting in batch:
            mine = kept[at : at + len(waiting.objects)]
            at += len(waiting.objects)
            fault = error or _fault(waiting.objects, mine)
            do_safely(lambda waiting=waiting, fault=fault: waiting.then(fault))

    def _ask(self, objects: Objects) -> tuple[list[Kept], StoreError | None]:
        try:
            kept = decode_answer(self._link.ask("POST", "/objects", encode(objects), "application/octet-stream"))
        except (Unreachable, Refused) as error:
            return [], StoreError("unreachable", str(error))
        except msgspec.DecodeError:
            return [], StoreError("unreachable", "The server's answer on small objects cannot be read.")
        if len(kept) != len(objects):
            return [], StoreError("unreachable", "The server's answer on small objects is not as long as the question.")
        return kept, None


def _fault(objects: Objects, kept: Sequence[Kept]) -> StoreError | None:
    """What is wrong with what the server keeps of one run's objects, if anything is."""
    for (named, content), each in zip(objects, kept, strict=True):
        if each.error:
            return StoreError("unreachable", each.error)
        if each.size != len(content):
            return StoreError("unreachable", f"{named.key} is not in the bucket as it was sent.")
    return None
