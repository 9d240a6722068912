"""The order of the queue: priority, then fair share between accounts, then the order of submission."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heapreplace, merge
from operator import attrgetter
from typing import Final

from runyard.core.run import BLOCKED
from runyard.core.scheduling.decisions import No, Told, Wait
from runyard.core.scheduling.share import Account, Shares, Standing
from runyard.core.scheduling.snapshot import Head, QueueClass, Snapshot

AFTER: Final = Wait.after, "It waits for other runs to complete."
WINDOW: Final = Wait.window, "It may not start before its start window opens."
BACKOFF: Final = (
    Wait.backoff,
    "The attempt before failed by the platform's fault; the next one starts after a short wait.",
)
QUEUE_PAUSED: Final = Wait.paused, "The queue is paused: `runyard queue resume` lets it go on."
ACCOUNT_PAUSED: Final = Wait.paused, "The account's queue is paused: `runyard queue resume` lets it go on."

_BY_LIMIT: Final = frozenset({Wait.behind, Wait.share})
_NODE: Final[Callable[[Head], str]] = attrgetter("node_id")
_NOT_BEFORE: Final[Callable[[Head], int]] = attrgetter("not_before_ms")
_OPENS: Final[Callable[[Head], int]] = attrgetter("opens_ms")

Turn = tuple[Account, QueueClass, Head]


def in_order(classes: Sequence[QueueClass]) -> Iterator[tuple[QueueClass, Head]]:
    """All heads, highest priority first, then by rank: the order of submission, as people see it."""
    for *_, queue_class, head in merge(*map(_lane, classes), key=lambda item: item[:3]):
        yield queue_class, head


def _lane(queue_class: QueueClass) -> Iterator[tuple[int, int, str, QueueClass, Head]]:
    return ((-queue_class.priority, head.rank, head.run_id, queue_class, head) for head in queue_class.heads)


class Lane:
    """A class on its way: ``at`` is its next head; ``shut`` what all its heads wait for, ``alike`` those of one
    machine (and of one limit, where another limit may be told something else)."""

    __slots__ = ("_node", "_plain", "alike", "at", "queue_class", "shut")

    def __init__(self, queue_class: QueueClass) -> None:
        self.queue_class = queue_class
        self.at = 0
        self.shut: No | None = None
        self.alike: dict[object, No] = {}
        self._node = queue_class.heads[0].node_id if queue_class.heads else ""
        self._plain: bool | None = None

    def for_all(self, now: int) -> No | None:
        """What all heads from ``at`` on are told, None where they may differ."""
        no = self.shut or self.alike.get(self._node)
        if no is not None and self._plain is None:
            self._plain = _are_plain(self.queue_class.heads, now)
        return no if self._plain else None


def _are_plain(heads: Sequence[Head], now: int) -> bool:
    """Whether all may start now, on the same machine or on any. Most have neither a time nor a machine: that is seen
    soonest."""
    return (
        (not any(map(_NOT_BEFORE, heads)) or max(map(_NOT_BEFORE, heads)) <= now)
        and (not any(map(_OPENS, heads)) or max(map(_OPENS, heads)) <= now)
        and (not any(map(_NODE, heads)) or len(set(map(_NODE, heads))) == 1)
    )


class Order:
    """Gives the heads in turn, and keeps what each that waits was told.

    After a turn the heads that would be told the same are told at once, so that a deep queue costs little. Who comes
    next depends on what was given: an account that took its turn stands where its share is now.
    """

    def __init__(self, snapshot: Snapshot, shares: Shares) -> None:
        self.heads = Told()
        self.waits: dict[int, No] = {}
        self.wake_at: int | None = None
        self._now = snapshot.now_ms
        self._paused = QUEUE_PAUSED if snapshot.paused else None
        self._fair = snapshot.policy.fair_share
        self._shares = shares
        self._lane: Lane | None = None
        self._classes = snapshot.classes
        patient = snapshot.now_ms - snapshot.policy.patience_ms
        self._firsts = {
            run_id: each.since_ms
            for run_id, each in snapshot.promises.items()
            if each.first or each.since_ms <= patient
        }

    def __iter__(self) -> Iterator[Turn]:
        by_priority: dict[int, list[QueueClass]] = {}
        for queue_class in self._classes:
            by_priority.setdefault(-queue_class.priority, []).append(queue_class)
        for _, classes in sorted(by_priority.items()):
            yield from self._level(classes)

    def _level(self, classes: Sequence[QueueClass]) -> Iterator[Turn]:
        """One priority: the account that stands first gives its earliest head, and is put where it then stands."""
        lines = self._lines(classes)
        heap = [
            (*self._standing(account, line[0][1]), *line[0][:2], account) for account, line in lines.items() if line
        ]
        heapify(heap)
        while heap:
            account = heap[0][-1]
            line = lines[account]
            self._lane = lane = line[0][-1]
            yield account, lane.queue_class, lane.queue_class.heads[lane.at]
            lane.at += 1
            self._put_back(line, lane)
            if line:
                heapreplace(heap, (*self._standing(account, line[0][1]), *line[0][:2], account))
            else:
                heappop(heap)

    def _standing(self, account: Account, run_id: str) -> Standing:
        if not self._fair:
            return 0, 0.0
        since = self._firsts.get(run_id)
        return account.standing() if since is None else (0, since)

    def _lines(self, classes: Sequence[QueueClass]) -> dict[Account, list[tuple[int, str, Lane]]]:
        lines: dict[Account, list[tuple[int, str, Lane]]] = {}
        for queue_class in classes:
            account = self._shares.accounts[queue_class.account_id]
            lane = Lane(queue_class)
            lane.shut = self._paused or _closed(account)
            head = self._seek(lane)
            if head is not None:
                lines.setdefault(account, []).append((head.rank, head.run_id, lane))
        for line in lines.values():
            heapify(line)
        return lines

    def _put_back(self, line: list[tuple[int, str, Lane]], lane: Lane) -> None:
        head = self._seek(lane)
        if head is None:
            heappop(line)
        else:
            heapreplace(line, (head.rank, head.run_id, lane))

    def _seek(self, lane: Lane) -> Head | None:
        """The next head that is not told something already."""
        heads, now, alike, shut = lane.queue_class.heads, self._now, lane.alike, lane.shut
        node, there = None, None
        for_all = lane.for_all(now) if lane.at < len(heads) else None
        if for_all is not None:
            self._tell(lane, len(heads), for_all)
            return None
        for at in range(lane.at, len(heads)):
            head = heads[at]
            if head.not_before_ms > now or head.opens_ms > now:
                no = self._early(head, shut)
            elif shut is not None:
                no = shut
            else:
                if head.node_id != node:
                    node, there = head.node_id, alike.get(head.node_id)
                no = there or (alike.get((node, head.limit_ms)) if alike else None)
            if no is None:
                return head
            self._tell(lane, at + 1, no)
        return None

    def _tell(self, lane: Lane, end: int, no: No) -> None:
        """The next heads of a class wait, up to a place."""
        self.heads.tell(lane.queue_class.heads, lane.at, end, no)
        self.waits.setdefault(lane.queue_class.id, no)
        lane.at = end

    def _early(self, head: Head, shut: No | None) -> No:
        if head.not_before_ms >= BLOCKED:
            return AFTER
        if shut is not None and shut[0] in (Wait.paused, Wait.budget):
            return shut
        at, no = (head.opens_ms, WINDOW) if head.opens_ms > self._now else (head.not_before_ms, BACKOFF)
        self.wake(at)
        return no

    def wake(self, at_ms: int) -> None:
        """The plan changes then by itself."""
        self.wake_at = at_ms if self.wake_at is None else min(self.wake_at, at_ms)

    def tell(self, queue_class: QueueClass, head: Head, no: No) -> None:
        """The head whose turn it is waits, and those of its class on the same machine: all, or where one that is over
        sooner may start, those of the same limit."""
        self.tell_alone(queue_class, head, no)
        if self._lane is not None:
            key = (head.node_id, head.limit_ms) if no[0] in _BY_LIMIT else head.node_id
            self._lane.alike[key] = no

    def tell_alone(self, queue_class: QueueClass, head: Head, no: No) -> None:
        """The head whose turn it is waits."""
        self.heads.tell((head,), 0, 1, no)
        self.waits.setdefault(queue_class.id, no)


def _closed(account: Account) -> No | None:
    if account.room.paused:
        return ACCOUNT_PAUSED
    return None if account.room.stopped is None else (Wait.budget, account.room.stopped)
