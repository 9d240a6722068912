"""The sender of facts: in order, together, again until the server has answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import msgspec

from runyard.node.became import clock_ms, now_ms
from runyard.node.company import MOMENT_S, Company
from runyard.node.home import Grumble
from runyard.node.link import Backoff, Link, Refused, Unreachable
from runyard.wire.facts import Began, Exited, Fact, Lost, StageProgress, Stored, encode

BATCH = 500
"""Facts in one request."""

Attempt = tuple[str, int]
"""A run and the number of its attempt."""


class Report:
    """Facts on their way to the server. They are held in memory only: what a fact tells lies in folders, and
    :meth:`renew` takes all of it again at every connect."""

    def __init__(self, link: Link, company: Company | None = None) -> None:
        self._link = link
        self._company = company or Company()
        self._company.when_quiet(self._wake)
        self._waiting: list[Fact] = []
        self._changed = threading.Condition()
        self._connected = False
        self._batch = BATCH
        self._grumble = Grumble()
        self._follows: dict[Attempt, Attempt] = {}
        """Attempts of which nothing is told before the end of another, which is the value."""
        self._answered: set[Attempt] = set()
        """Those others, once the server has their end."""
        self._last: dict[str, int] = {}
        """The last attempt of each run in ``_follows``: facts of a whole run are told behind those of it."""
        self._urgent = False
        self._asleep = True
        self._sent_at = 0.0

    def tell(self, fact: Fact) -> None:
        """Send a fact as soon as can be; one that nobody waits for, with the next ones."""
        with self._changed:
            self._waiting = [*without_overtaken(self._waiting, fact), fact]
            self._urgent |= is_urgent(fact)
            if self._asleep or self._urgent:
                self._changed.notify()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def follow(self, attempt: Attempt, before: Attempt) -> None:
        """Tell nothing of an attempt before the end of another has been told."""
        with self._changed:
            self._follows[attempt] = before
            self._last[attempt[0]] = max(attempt[1], self._last.get(attempt[0], 0))

    def is_known(self, attempt: Attempt) -> bool:
        """Whether the server knows that an attempt has begun here, as far as that hangs on the end of another."""
        with self._changed:
            before = self._follows.get(attempt)
            return before is None or before in self._answered

    def forget(self, run: str) -> None:
        """A run's folders are gone: no further word on it comes, or is waited for."""
        with self._changed:
            untold = {ended(fact) for fact in self._waiting}
            self._answered |= {key for key in self._follows.values() if key[0] == run and key not in untold}
            for key in [key for key in self._follows if key[0] == run]:
                self._answered.discard(self._follows.pop(key))
            self._last.pop(run, None)
            self._changed.notify()

    def renew(self, derived: Sequence[Fact]) -> None:
        """The server knows this node (again): send what the folders tell, then what waited."""
        with self._changed:
            known = {encode([fact]) for fact in derived}
            self._waiting = [*derived, *(fact for fact in self._waiting if encode([fact]) not in known)]
            self._connected = self._urgent = True
            self._changed.notify()

    @property
    def is_connected(self) -> bool:
        """Whether the server is there, as far as is known."""
        return self._connected

    def pause(self) -> None:
        """The server is away: facts wait until the next :meth:`renew`."""
        with self._changed:
            self._connected = False

    def send_for_ever(self) -> None:
        """The life of the sending thread."""
        backoff = Backoff()
        while True:
            batch = self._next()
            if self._sent(batch):
                backoff.reset()
            else:
                with self._changed:
                    self._changed.wait(backoff.pause_s())

    def _next(self) -> list[Fact]:
        """What is to be sent now; waits until there is something, and a moment for its company."""
        with self._changed:
            self._asleep = True
            while not (batch := self._sendable()):
                self._changed.wait()
            self._asleep = False
            patience_s = self._company.patience_s() if time.monotonic() - self._sent_at < MOMENT_S else 0.0
            if not self._urgent and patience_s > 0:
                self._changed.wait_for(lambda: self._urgent or not self._company.is_busy(), patience_s)
                batch = self._sendable()
            self._urgent = False
            return batch

    def _sendable(self) -> list[Fact]:
        """What may be sent now, oldest first, each attempt's facts behind the end that they follow."""
        if not self._connected:
            return []
        batch: list[Fact] = []
        passed = set(self._answered)
        held: dict[Attempt, list[Fact]] = {}
        for fact in self._waiting:
            before = self._before(fact) if self._follows else None
            if before is not None and before not in passed:
                held.setdefault(before, []).append(fact)
                continue
            batch.append(fact)
            over = [ended(fact)]
            while over:  # an end lets go of what waited for it, among which may be ends
                end = over.pop()
                passed.add(end)
                freed = held.pop(end, [])
                batch += freed
                over += [ended(each) for each in freed]
        return batch[: self._batch]

    def _before(self, fact: Fact) -> Attempt | None:
        """The attempt whose end comes before a fact; None: none has to."""
        run = getattr(fact, "run", "")
        return self._follows.get((run, getattr(fact, "attempt", self._last.get(run, 0))))

    def _sent(self, batch: list[Fact]) -> bool:
        self._sent_at = time.monotonic()
        try:
            msgspec.json.decode(self._link.ask("POST", "/facts", encode(batch, now_ms(), clock_ms())), type=list[bool])
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
            if self._follows:
                self._answered |= {ended(fact) for fact in batch} & set(self._follows.values())
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


_NOBODY: Attempt = ("", 0)


def ended(fact: Fact) -> Attempt:
    """The attempt whose end a fact tells; none's where it tells of something else."""
    return (fact.run, fact.attempt) if isinstance(fact, Exited | Lost) else _NOBODY


def is_urgent(fact: Fact) -> bool:
    """Whether somebody waits for it: the queue for a slot that is free, runs for their data, a person for a failure."""
    if isinstance(fact, Exited | Lost):
        return fact.then is None
    return not isinstance(fact, Began | Stored)


def without_overtaken(waiting: list[Fact], fact: Fact) -> list[Fact]:
    """What still waits, less the progress of a spec on which there is a later word."""
    spec = getattr(fact, "spec", None)
    if spec is None:
        return waiting
    return [old for old in waiting if not (isinstance(old, StageProgress) and old.spec == spec)]
