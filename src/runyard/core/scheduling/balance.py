"""Balances: what each account has had above its due, or below it, while others waited for room.

What is due to an account at a moment says nothing of the hour before. A run that is larger than its account's due makes
it hold too much for hours, and what it then holds too little makes up for it only where somebody counts. So each plan
counts on what the one before it left: what an account used since then, less its part by weight of what all used. One
that waited for no room is due no more than it used (the others share what it leaves), and where nobody waited for room,
nobody has had anything too much. The method is the one of fair queues of packets: M. Shreedhar and G. Varghese,
"Efficient Fair Queuing Using Deficit Round Robin" (SIGCOMM 1995), where who has nothing to send saves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from runyard.core.scheduling.snapshot import DAY_MS, AccountRoom, Balance, Snapshot


def counted_on(snapshot: Snapshot, dues: Mapping[str, int]) -> dict[str, int]:
    """By account, what it has had above its due up to now (millionths of a GPU, ms); below zero where it saved.

    ``dues``: in millionths of a GPU. Nobody is ahead or behind by more than a day of his due.
    """
    before = snapshot.balances
    if not snapshot.policy.fair_share or not any(each.short for each in before.values()):
        return {}
    rooms = {room.id: room for room in snapshot.accounts if room.id in before}
    used = {name: _used(room, before[name], snapshot) for name, room in rooms.items()}
    fair = _fair(used, rooms, {name for name in rooms if before[name].short})
    found: dict[str, int] = {}
    for name, gone in used.items():
        over = before[name].over + gone - fair[name]
        most = dues.get(name, 0) * DAY_MS
        found[name] = min(most, max(-most if before[name].short else 0, over))
    return found


def told(snapshot: Snapshot, overs: Mapping[str, int], short: Collection[str]) -> dict[str, Balance]:
    """What the next plan is to know. ``short``: the accounts that wait for room."""
    now = snapshot.now_ms
    return {
        room.id: Balance(now, room.used_ms, overs.get(room.id, 0), short=room.id in short)
        for room in snapshot.accounts
        if room.id in short or room.used_ms or room.id in overs
    }


def _used(room: AccountRoom, before: Balance, snapshot: Snapshot) -> int:
    """What an account used since then."""
    decay = 2.0 ** (-max(0, snapshot.now_ms - before.at_ms) / snapshot.policy.half_life_ms)
    return max(0, round((room.used_ms - before.used_ms * decay) * 1_000_000))


def _fair(used: Mapping[str, int], rooms: Mapping[str, AccountRoom], short: Collection[str]) -> dict[str, int]:
    """What was due to each of what all used: by weight, and no more than it used to one that waited for nothing."""
    fair: dict[str, int] = dict.fromkeys(used, 0)
    left = sum(used.values())
    weights = {name: max(rooms[name].weight, 1e-9) for name in sorted(used)}
    open_ones: list[str] = [name for name in weights if used[name] or name in short]
    while open_ones:
        whole = sum(weights[name] for name in open_ones)
        parts = {name: int(left * (weights[name] / whole)) for name in open_ones}
        sated = [name for name in open_ones if name not in short and used[name] <= parts[name]]
        if not sated:
            return fair | parts
        fair |= {name: used[name] for name in sated}
        left -= sum(used[name] for name in sated)
        open_ones = [name for name in open_ones if name not in sated]
    return fair
