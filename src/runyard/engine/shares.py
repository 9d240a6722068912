"""What accounts are due, have used and may spend now, with the attempts that hold room; and their settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from runyard.core import windows
from runyard.core.account import Account, Quota
from runyard.core.budget import Budget, Spent, Verdict, begin_of, judge, may_be_used_up
from runyard.core.errors import NotFound, Refused
from runyard.core.lifecycle import Transition
from runyard.core.metering import cost
from runyard.core.reasons import RULES
from runyard.core.resources import Resources
from runyard.core.run import Attempt, Run
from runyard.core.scheduling.ahead import LEASE_MS
from runyard.core.scheduling.snapshot import AccountRoom
from runyard.core.use import Held, amount, decayed, rate_of
from runyard.engine.bell import DISPATCH
from runyard.engine.world import World
from runyard.ports.shares import AccountShare
from runyard.ports.store import Holding, Node

HEAVIEST = 1_000_000.0
NOTHING = AccountShare()
NEARLY = (
    "The account's budget is nearly used up: nothing more starts before its last grants to machines have run out, in a "
    "few seconds."
)


def held_of(world: World, transitions: Sequence[Transition]) -> list[Held]:
    """What the attempts that these transitions release held, without those that the platform is to blame for."""
    return [
        _held(world, t.after, t.settled)
        for t in transitions
        if t.settled is not None and t.settled.ending is not None and RULES[t.settled.ending.reason].billed
    ]


def _held(world: World, run: Run, attempt: Attempt) -> Held:
    rate = rate_of(run.resources, world.machines.size(world.store, attempt.node_id))
    ended = attempt.released_ms if attempt.released_ms is not None else attempt.assigned_ms
    return Held(run.id, attempt.number, run.account_id, rate, attempt.assigned_ms, ended)


def rooms(
    world: World,
    now: int,
    accounts: Iterable[Account],
    parts: Mapping[str, AccountShare],
    holdings: Sequence[Holding],
    nodes: Sequence[Node],
) -> tuple[AccountRoom, ...]:
    """The accounts as a plan sees them."""
    quotas = world.store.quotas()
    theirs: dict[str, list[Holding]] = {}
    for holding in holdings:
        theirs.setdefault(holding.account_id, []).append(holding)
    whole = sum((node.total for node in nodes), Resources())
    found: list[AccountRoom] = []
    for account in accounts:
        part, held = parts.get(account.id, NOTHING), theirs.get(account.id, ())
        room = replace(_room(world, now, account, part, held), quota=_at_once(quotas.get(account.id)))
        plain = part.budget is None and part.window is None
        found.append(room if plain else _with_grants(world, now, room, part, held, whole))
    return tuple(found)


def _at_once(quota: Quota | None) -> Resources | None:
    """CPUs and memory at once, as a plan reads them: 0 for no limit of that kind, 1 for one of nothing."""
    if quota is None or (quota.cpu_millis is None and quota.memory_mib is None):
        return None
    least = [None if each is None else max(1, each) for each in (quota.cpu_millis, quota.memory_mib)]
    return Resources(0, least[0] or 0, least[1] or 0)


def _room(world: World, now: int, account: Account, part: AccountShare, holdings: Sequence[Holding]) -> AccountRoom:
    verdict = verdict_of(world, now, part, holdings)
    used = sum((holding.resources for holding in holdings), Resources())
    return AccountRoom(
        id=account.id,
        quota_gpus=account.quota_gpus,
        used_gpus=used.gpus,
        paused=account.paused,
        weight=1.0 if part.weight is None else part.weight,
        used_ms=used_ms(world, now, part, holdings),
        used=used,
        stopped=None if verdict is None else verdict.stopped,
    )


def _with_grants(
    world: World, now: int, room: AccountRoom, part: AccountShare, holdings: Sequence[Holding], whole: Resources
) -> AccountRoom:
    """With what a budget and a window say of grants: a machine that begins one asks nobody, so there has to be enough
    for all that the account could use until then. Where there is not any more, nothing starts while grants are out."""
    ahead = part.window is None or not windows.opens_ms(windows.parse(part.window), now + LEASE_MS)
    stopped, budget = room.stopped, part.budget
    if budget is not None and stopped is None:
        most = _most(room, whole)
        more = Spent(most.gpus * LEASE_MS, cost(most, LEASE_MS, world.rules.price) + 1)
        if may_be_used_up(budget, spent_now(world, now, budget, part.spent, holdings), more):
            ahead = False
            stopped = NEARLY if now < world.ahead.ends_ms(room.id, now) else None
    return replace(room, ahead=ahead, stopped=stopped)


def _most(room: AccountRoom, whole: Resources) -> Resources:
    """What an account can hold at once, of all that machines have."""
    more = room.quota or Resources()
    gpus = whole.gpus if room.quota_gpus is None else min(whole.gpus, room.quota_gpus)
    cpus = min(whole.cpu_millis, more.cpu_millis or whole.cpu_millis)
    memory = min(whole.memory_mib, more.memory_mib or whole.memory_mib)
    used = room.used
    return Resources(max(gpus, used.gpus), max(cpus, used.cpu_millis), max(memory, used.memory_mib))


def used_ms(world: World, now: int, part: AccountShare, holdings: Sequence[Holding]) -> float:
    """What an account has used up to now, decayed: what is kept of it, and the attempts that hold room."""
    half_life = world.rules.policy.half_life_ms
    running = (
        amount(rate_of(each.resources, world.machines.size(world.store, each.node_id)), each.since_ms, now, half_life)
        for each in holdings
    )
    return decayed(part.use, now, half_life) + sum(running)


def verdict_of(world: World, now: int, part: AccountShare, holdings: Sequence[Holding]) -> Verdict | None:
    """What an account's budget says, None without one."""
    if part.budget is None:
        return None
    return judge(part.budget, spent_now(world, now, part.budget, part.spent, holdings), now)


def spent_now(world: World, now: int, budget: Budget, spent: Spent, holdings: Sequence[Holding]) -> Spent:
    """What was spent in the period, with what the attempts that hold room have held of it so far."""
    begin = begin_of(budget.period, now)
    for each in holdings:
        held = max(0, now - max(begin, each.since_ms))
        spent += Spent(each.resources.gpus * held, cost(each.resources, held, world.rules.price))
    return spent


def wakes_ms(world: World, now: int, parts: Mapping[str, AccountShare], holdings: Sequence[Holding]) -> int | None:
    """When the first budget that is used up begins anew, or the last grants of an account that has one have run out."""
    found: list[int] = []
    for account_id, part in parts.items():
        if part.budget is None:
            continue
        verdict = verdict_of(world, now, part, [h for h in holdings if h.account_id == account_id])
        if verdict is not None and verdict.stopped is not None:
            found.append(verdict.opens_ms)
        elif (ends_ms := world.ahead.ends_ms(account_id, now)) > now:
            found.append(ends_ms)
    return min(found, default=None)


def opens(now: int, parts: Mapping[str, AccountShare]) -> dict[str, int]:
    """When the start windows open of those accounts whose is closed now."""
    found = {
        account_id: windows.opens_ms(windows.parse(part.window), now)
        for account_id, part in parts.items()
        if part.window is not None
    }
    return {account_id: at for account_id, at in found.items() if at}


def set_weight(world: World, account_id: str, weight: float | None) -> None:
    """Set what part of the machines is due to an account, beside the others' weights (None: 1)."""
    if weight is not None and not 0 < weight <= HEAVIEST:
        raise Refused(f"A weight is above 0 and at most {HEAVIEST:g}.")
    _set(world, account_id, world.store.set_weight(account_id, weight))


def set_window(world: World, account_id: str, window: str | None) -> None:
    """Set the hours in which an account's runs may start (None: all)."""
    if window is not None:
        try:
            windows.parse(window)
        except ValueError as error:
            raise Refused(str(error)) from None
    _set(world, account_id, world.store.set_window(account_id, window))


def set_budget(world: World, account_id: str, budget: Budget | None) -> None:
    """Set what an account may spend in a period (None: anything). What runs goes on."""
    if budget is not None and budget.gpu_ms is None and budget.cost is None:
        raise Refused("A budget says how many GPU-hours, or how much money.")
    _set(world, account_id, world.store.set_budget(account_id, budget))


def _set(world: World, account_id: str, there: bool) -> None:
    if not there:
        raise NotFound(f"There is no account {account_id}: `runyard accounts list` shows those that there are.")
    world.bell.ring(DISPATCH)


def part_of(world: World, account_id: str) -> AccountShare:
    """What is kept of one account."""
    return world.store.shares(world.clock.now_ms()).get(account_id, NOTHING)
