"""The sender of facts: in order, together, again until the server has answered."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from runyard.node.home import Grumble
from runyard.node.link import Backoff, Link, Refused, Unreachable
from runyard.wire.facts import Fact, StageProgress, encode

BATCH = 500
"""Facts in one request."""


class Report:
    """Facts on their way to the server. They are held in memory only: what a fact tells lies in folders, and
    :meth:`renew` takes all of it again at every connect."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: list[Fact] = []
        self._changed = threading.Condition()
        self._connected = False
        self._batch = BATCH
        self._grumble = Grumble()

    def tell(self, fact: Fact) -> None:
        """Send a fact as soon as can be."""
        with self._changed:
            self._waiting = [*without_overtaken(self._waiting, fact), fact]
            self._changed.notify()

    def renew(self, derived: Sequence[Fact]) -> None:
        """The server knows this node (again): send what the folders tell, then what waited."""
        with self._changed:
            known = {encode([fact]) for fact in derived}
            self._waiting = [*derived, *(fact for fact in self._waiting if encode([fact]) not in known)]
            self._connected = True
            self._changed.notify()

    def pause(self) -> None:
        """The server is away: facts wait until the next :meth:`renew`."""
        with self._changed:
            self._connected = False

    def send_for_ever(self) -> None:
        """The life of the sending thread."""
        backoff = Backoff()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._connected and self._waiting)
                batch = self._waiting[: self._batch]
            if self._sent(batch):
                backoff.reset()
            else:
                with self._changed:
                    self._changed.wait(backoff.pause_s())

    def _sent(self, batch: list[Fact]) -> bool:
        try:
            msgspec.json.decode(self._link.ask("POST", "/facts", encode(batch)), type=list[bool])
        except Unreachable:
            return False
        except (Refused, msgspec.DecodeError) as error:
            self._grumble.say(f"Facts were not taken: {error}")
            self._part(batch)
            return False
        self._grumble.reset()
        self._settle(batch)
        return True

    def _settle(self, batch: list[Fact]) -> None:
        """The server has these."""
        with self._changed:
            done = {id(fact) for fact in batch}
            self._waiting = [fact for fact in self._waiting if id(fact) not in done]
            if not self._waiting:
                self._batch = BATCH

    def _part(self, batch: list[Fact]) -> None:
        """The server does not take these: send them one by one, and the one that it refuses after all the others, so
        that one fact which a server stumbles over does not keep the rest from it."""
        with self._changed:
            if self._batch > 1:
                self._batch = 1
            else:
                done = {id(fact) for fact in batch}
                self._waiting = [*(fact for fact in self._waiting if id(fact) not in done), *batch]


def without_overtaken(waiting: list[Fact], fact: Fact) -> list[Fact]:
    """What still waits, less the progress of a spec on which there is a later word."""
    spec = getattr(fact, "spec", None)
    if spec is None:
        return waiting
    return [old for old in waiting if not (isinstance(old, StageProgress) and old.spec == spec)]
