"""The plan: which waiting runs start now, where, and why the others do not."""

from __future__ import annotations

from runyard.core.scheduling.backfill import Reservations
from runyard.core.scheduling.decisions import Plan, Preempt, Reservation, Share, Start, Wait
from runyard.core.scheduling.fit import Yard
from runyard.core.scheduling.order import Order, Turn, in_order
from runyard.core.scheduling.preempt import COMING, Reclaim
from runyard.core.scheduling.quota import over_quota
from runyard.core.scheduling.share import OWES, Shares
from runyard.core.scheduling.snapshot import Snapshot

__all__ = ["Plan", "Preempt", "Reservation", "Share", "Start", "Wait", "in_order", "make_plan"]


def make_plan(snapshot: Snapshot) -> Plan:
    """Decide the starts, whom to stop, and what is kept for whom.

    One look at each head, in the order of the queue: priority, then fair share between accounts, then submission. A
    head starts, or is told why not. One that its quota holds back also holds what its account has behind it, and nobody
    else. For one that lacks room, room is made where it is due to it; else it is promised a time, and those behind it
    start where they are over by then, or take what it leaves.
    """
    return _Planning(snapshot).plan()


class _Planning:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._policy = snapshot.policy
        self._promised = snapshot.promises.keys()
        self._shares = Shares(snapshot)
        self._yard = Yard(snapshot)
        self._order = Order(snapshot, self._shares)
        self._reclaim = Reclaim(snapshot, self._yard, self._shares)
        self._reservations = Reservations(self._yard, snapshot, self._shares)
        self._starts: list[Start] = []

    def plan(self) -> Plan:
        for turn in self._order:
            self._look_at(turn)
        if self._reclaim.settles_at is not None:
            self._order.wake(self._reclaim.settles_at)
        return Plan(
            tuple(self._starts),
            self._order.waits,
            self._order.wake_at,
            self._order.heads,
            tuple(self._reclaim.preempts),
            self._reservations.made | self._reclaim.reservations,
            self._shares.told(),
            self._reservations.promises(self._order.heads.among(self._promised)),
            self._shares.balances(self._snapshot),
        )

    def _look_at(self, turn: Turn) -> None:
        account, queue_class, head = turn
        closed = self._yard.closed(head)
        if closed is not None:
            self._order.tell(queue_class, head, closed)
            return
        over = over_quota(account, queue_class.shape)
        if over is not None:
            self._order.tell(queue_class, head, over)
            return
        if account.owes and self._owes_first(turn):
            account.lacked = True
            self._reservations.note(queue_class)
            self._order.tell(queue_class, head, OWES)
            return
        room = self._yard.find(queue_class.shape, head)
        if room is None:
            self._lacks_room(turn)
            return
        slots = self._yard.give(room, queue_class.shape, head)
        account.take(queue_class.shape, self._shares.size(queue_class.shape))
        self._starts.append(Start(head.run_id, queue_class.id, room.id, slots))

    def _owes_first(self, turn: Turn) -> bool:
        """Whether a run larger than its account's due may not start before the account has made up for what it had. One
        that has waited for long may as soon as the half of a loan is left, and one that has for twice as long now."""
        account, queue_class, head = turn
        kept = self._reservations
        if not kept.is_on_loan(queue_class, account) or kept.has_waited(head, times=2):
            return False
        return 2 * account.over > account.due * self._policy.loan_ms or not kept.has_waited(head)

    def _lacks_room(self, turn: Turn) -> None:
        account, queue_class, head = turn
        account.lacked = True
        no = self._yard.why_not(queue_class, head, account)
        if self._reclaim.helps(queue_class, head, account):
            self._order.tell_alone(queue_class, head, COMING)
            return
        self._order.tell(queue_class, head, no)
        if self._policy.backfill:
            self._reservations.keep(queue_class, head, account)
        else:
            self._yard.shut(head)
