"""What an account may hold, is due and may spend, and how it stands: views."""

from __future__ import annotations

from runyard.core.budget import Budget, judge
from runyard.core.errors import NotFound
from runyard.core.metering import MS_PER_HOUR
from runyard.core.run import StateName
from runyard.core.scheduling.plan import make_plan
from runyard.engine import queries, shares
from runyard.engine.seeing import Look
from runyard.engine.views import BudgetView, QuotaView, ShareView, iso, money
from runyard.engine.world import World


def quota(world: World, account_id: str, stored_bytes: int | None = None) -> QuotaView:
    """An account's quota and how much of it is in use, its share of the machines, and its budget. ``stored_bytes``: of
    it, where somebody has counted them."""
    account = world.store.account(account_id)
    if account is None:
        raise NotFound(queries.no_account(account_id))
    limits, look = world.store.quota_of(account_id), Look.of(world, world.clock.now_ms())
    part = look.parts.get(account_id, shares.NOTHING)
    holdings = [holding for holding in look.holdings if holding.account_id == account_id]
    weight = 1.0 if part.weight is None else part.weight
    return QuotaView(
        account=account_id,
        gpus=limits.gpus,
        used_gpus=sum(holding.resources.gpus for holding in holdings),
        slots=sum(node.total.gpus for node in look.nodes if node.connected),
        plan=account.plan,
        cpu_millis=limits.cpu_millis,
        used_cpu_millis=sum(holding.resources.cpu_millis for holding in holdings),
        memory_mib=limits.memory_mib,
        used_memory_mib=sum(holding.resources.memory_mib for holding in holdings),
        waiting=limits.waiting,
        used_waiting=world.store.counts(account_id).get(StateName.waiting, 0),
        storage_bytes=limits.storage_bytes,
        used_storage_bytes=stored_bytes,
        share=_share(world, look, account_id, weight, shares.used_ms(world, look.now_ms, part, holdings)),
        budget=None if part.budget is None else budget_of(world, look, account_id, part.budget),
        window=part.window,
    )


def _share(world: World, look: Look, account_id: str, weight: float, used_ms: float) -> ShareView:
    """What is due to an account, as the plan that would be made now has it."""
    told = make_plan(look.snapshot(world)).shares
    own = told.get(account_id)
    if own is None:
        return ShareView(weight, used_ms / MS_PER_HOUR)
    others = sum(max(0.0, each.held - each.due) for account, each in told.items() if account != account_id)
    return ShareView(
        weight,
        used_ms / MS_PER_HOUR,
        due=own.due,
        in_use=own.held,
        borrowed=max(0.0, own.held - own.due),
        lent=min(max(0.0, own.due - own.held), others),
    )


def budget_of(world: World, look: Look, account_id: str, budget: Budget) -> BudgetView:
    """How a budget stands."""
    part = look.parts[account_id]
    holdings = [holding for holding in look.holdings if holding.account_id == account_id]
    spent = shares.spent_now(world, look.now_ms, budget, part.spent, holdings)
    verdict = judge(budget, spent, look.now_ms)
    return BudgetView(
        per=budget.period.value,
        gpu_hours=None if budget.gpu_ms is None else budget.gpu_ms / MS_PER_HOUR,
        money=None if budget.cost is None else money(budget.cost),
        warn_percent=budget.warn_percent,
        spent_gpu_hours=spent.gpu_ms / MS_PER_HOUR,
        spent_money=money(spent.cost),
        percent=verdict.percent,
        stopped=verdict.stopped is not None,
        sentence=verdict.stopped or verdict.warning,
        opens_at=iso(verdict.opens_ms),
    )


def warning(world: World, account_id: str) -> str | None:
    """What a person who submits should know of the account's budget, None while there is enough."""
    look = Look.of(world, world.clock.now_ms())
    part = look.parts.get(account_id)
    if part is None or part.budget is None:
        return None
    return budget_of(world, look, account_id, part.budget).sentence
