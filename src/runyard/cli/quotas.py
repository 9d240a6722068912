"""``quota``: what an account may have at once, what is due to it, and what it may spend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from runyard.cli.amounts import number_or, parts, size
from runyard.cli.session import Session, common
from runyard.cli.table import pairs
from runyard.cli.times import money
from runyard.client.access_records import Quota
from runyard.client.decode import Json, child, integer, number, text


@click.group()
def quota() -> None:
    """Show or set what an account may hold at once and spend, and what part of the machines is due to it."""


@quota.command()
@click.argument("account", required=False)
@common
@click.pass_obj
def show(session: Session, account: str | None) -> None:
    """Show the quota, share and budget of an account (one's own, unless named)."""
    _tell(session, session.client.quota(account))


@quota.command("set")
@click.argument("account")
@click.option("--gpus", metavar="N|none|plan", help="GPUs at once; none: all; plan: as its plan says.")
@click.option("--cpus", metavar="N|none|plan", help="CPUs at once.")
@click.option("--memory", metavar="SIZE|none|plan", help="Memory at once, such as 64Gi.")
@click.option("--waiting", metavar="N|none|plan", help="Runs that may wait.")
@click.option("--storage", metavar="SIZE|none|plan", help="What may be kept in the embedded store.")
@click.option("--gpu-hours", metavar="N|none", help="Budget: GPU-hours in each period; none: no budget.")
@click.option("--money", metavar="N|none", help="Budget: money in each period; none: no budget.")
@click.option("--per", type=click.Choice(["week", "month"]), help="The period of a budget.  [default: month]")
@click.option("--per-week", "per", flag_value="week", help="The same as --per week.")
@click.option("--per-month", "per", flag_value="month", help="The same as --per month.")
@click.option("--warn", type=click.IntRange(1, 100), metavar="P", help="Warn from P % of a budget on, 80 unless told.")
@click.option("--weight", metavar="W|none", help="What part of the machines is due, beside other accounts' weights.")
@click.option("--window", metavar="HH:MM-HH:MM|none", help="When its runs may start, in UTC or with +HH:MM behind.")
@common
@click.pass_obj
def set_quota(session: Session, account: str, **options: Any) -> None:
    """Set the quota, budget, weight or start window of an account (for an admin)."""
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        raise click.UsageError("Say what to set: a limit such as --gpus, --gpu-hours, --money, --weight or --window.")
    if {"per", "warn"} & set(given) and not {"gpu_hours", "money"} & set(given):
        raise click.UsageError("A budget needs --gpu-hours or --money.")
    limits = {name: _limit(name, given[name]) for name in _NUMBERS & set(given)}
    own = parts(given)
    _tell(session, _set(session, account, given, limits, own))


Own = tuple[dict[str, int | None], list[str]]
_NUMBERS = frozenset({"gpu_hours", "money", "weight"})


def _limit(name: str, said: str) -> float | None:
    return number_or(f"--{name.replace('_', '-')}", said, {"none": None}, "a number")


def _set(
    session: Session,
    account: str,
    given: dict[str, Any],
    limits: dict[str, float | None],
    own: tuple[dict[str, int | None], list[str]],
) -> Quota:
    client = session.client
    shares: dict[str, float | str | None] = {name: limits[name] for name in limits if name == "weight"}
    if "window" in given:
        shares["window"] = None if given["window"] == "none" else given["window"]
    if shares:
        client.set_share(account, **shares)
    budget = {name: limits[name] for name in limits if name != "weight"}
    if budget and all(value is None for value in budget.values()):
        client.remove_budget(account)
    elif budget:
        money = None if budget.get("money") is None else given["money"]
        client.set_budget(
            account,
            given.get("per", "month"),
            gpu_hours=budget.get("gpu_hours"),
            money=money,
            warn_percent=given.get("warn"),
        )
    if any(own):
        return client.set_quota(account, *own)
    return client.quota(account)


def _tell(session: Session, found: Quota) -> None:
    if session.json:
        session.emit(found.raw)
        return
    most = found.limits
    share = child(found.raw, "share")
    facts = [
        ("account", found.account),
        ("plan", found.plan),
        ("GPUs", _of(str(found.used_gpus), "as many as there are" if most.gpus is None else str(most.gpus))),
        ("slots", "" if found.slots is None else f"{found.slots} in this service"),
        ("CPUs", _of(f"{found.used_cpu_millis / 1000:g}", _or(most.cpu_millis, lambda n: f"{n / 1000:g}"))),
        ("memory", _of(size(found.used_memory_mib << 20), _or(most.memory_mib, lambda n: size(n << 20)))),
        ("waiting", _of(str(found.used_waiting), _or(most.waiting, str))),
        ("stored", _of("" if found.used_storage_bytes is None else size(found.used_storage_bytes),
                       _or(most.storage_bytes, size))),
        ("share", _share(share)),
        ("used", f"{number(share, 'used_gpu_hours'):.3g} GPU-hours of late" if share else ""),
        ("starts", text(found.raw, "window")),
        ("budget", _budget(child(found.raw, "budget"))),
    ]  # fmt: skip
    session.out(pairs(facts))


def _or(limit: int | None, say: Callable[[int], str]) -> str:
    return "no limit" if limit is None else say(limit)


def _of(used: str, most: str) -> str:
    return f"{used} of {most}" if used else most


def _share(share: Json) -> str:
    if not share:
        return ""
    due, held = number(share, "due"), number(share, "in_use")
    told = f"{due:.3g} GPUs due (weight {number(share, 'weight'):g}), {held:.3g} in use"
    for key in ("borrowed", "lent"):
        if number(share, key):
            told += f", {number(share, key):.3g} {key}"
    return told


def _budget(budget: Json) -> str:
    if not budget:
        return ""
    limits = [f"{number(budget, 'gpu_hours'):g} GPU-hours"] if budget.get("gpu_hours") is not None else []
    limits += [f"{money(text(budget, 'money')) or '0'} of money"] if budget.get("money") is not None else []
    state = text(budget, "sentence") or f"{integer(budget, 'percent')} % is used."
    return f"{' and '.join(limits)} a {text(budget, 'per')}: {state}"
