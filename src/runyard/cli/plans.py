"""``plans``: what accounts are given."""

from __future__ import annotations

import click

from runyard.cli.amounts import limits, parts
from runyard.cli.session import Session, common
from runyard.cli.table import table


@click.group()
def plans() -> None:
    """Keep plans, which say what accounts may have at once: list, set, rm."""


@plans.command("list")
@common
@click.pass_obj
def list_plans(session: Session) -> None:
    """List all plans."""
    found = session.client.plans()
    if session.json:
        session.emit([each.raw for each in found])
        return
    rows = [(each.name, limits(each.limits), f"{each.weight:g}") for each in found]
    session.out(table(("NAME", "AT ONCE", "WEIGHT"), rows, flexible=1))


@plans.command("set")
@click.argument("plan")
@click.option("--gpus", metavar="N|none", help="GPUs at once.")
@click.option("--cpus", metavar="N|none", help="CPUs at once.")
@click.option("--memory", metavar="SIZE|none", help="Memory at once, such as 64Gi.")
@click.option("--waiting", metavar="N|none", help="Runs that may wait.")
@click.option("--storage", metavar="SIZE|none", help="What may be kept in the embedded store.")
@click.option("--weight", default=1.0, show_default=True, metavar="W", help="Of each account's fair share.")
@common
@click.pass_obj
def set_plan(session: Session, plan: str, weight: float, **said: str | None) -> None:
    """Make a plan, or say anew all that it gives (for an admin). What is not said has no limit."""
    own, _ = parts(said)
    made = session.client.set_plan(plan, own, weight)
    if session.json:
        session.emit(made.raw)
    else:
        session.say(f"{made.name}: {limits(made.limits)}.")


@plans.command()
@click.argument("plan")
@common
@click.pass_obj
def rm(session: Session, plan: str) -> None:
    """Remove a plan that no account is on; `free` and `unlimited` are as they came again."""
    session.client.remove_plan(plan)
    if session.json:
        session.emit({"removed": plan})
    else:
        session.say(f"Removed {plan}.")
