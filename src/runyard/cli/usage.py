"""``usage``: what was held and what it costs."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict, fields
from typing import Any

import click

from runyard.cli.room import show_disk
from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.cli.times import instant
from runyard.client.account_records import Usage, UsageLine

_BY = "account (unless told otherwise), user, day or tag; with --disk: account, run or kind (unless told otherwise)."


@click.command()
@click.option("--disk", is_flag=True, help="Show what takes the disks, the biggest first.")
@click.option("--by", type=click.Choice(["account", "user", "day", "tag", "run", "kind"]), help=_BY)
@click.option("--since", metavar="T", help="From then on: 2026-01-31, an ISO time, or 7d (ago).")
@click.option("--until", metavar="T", help="Until then.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@common
@click.pass_obj
def usage(session: Session, by: str | None, as_csv: bool, disk: bool, **when: Any) -> None:
    """Show what was held and what it costs; a platform's fault is not billed, it stands under WASTE."""
    if (by in ("run", "kind") and not disk) or (disk and by in ("user", "day", "tag")):
        raise click.UsageError(f"--by {by} is for {'sums' if disk else '--disk'}: see `usage --help`.")
    if disk:
        show_disk(session, by or "kind")
        return
    by = by or "account"
    found = session.client.usage(by, **{key: None if text is None else instant(text) for key, text in when.items()})
    if as_csv:
        _print_csv(found)
    elif session.json:
        session.emit(found.raw)
    else:
        rows = [_row(each.group, each) for each in found.items] + [_row("total", found.total)]
        header = (by.upper(), "RUNS", "ATTEMPTS", "GPU-SECONDS", "CPU-SECONDS", "GB-SECONDS", "COST", "WASTE")
        session.out(table(header, rows, flexible=0))


def _row(name: str, line: UsageLine) -> tuple[str, ...]:
    held = (line.gpu_seconds, line.cpu_seconds, line.gb_seconds)
    amounts = [f"{each:.1f}" for each in held]
    return name, str(line.runs), str(line.attempts), *amounts, line.cost, f"{line.waste_gpu_seconds:.1f}"


def _print_csv(found: Usage) -> None:
    names = [field.name for field in fields(UsageLine)]
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    for each in found.items:
        writer.writerow(asdict(each))
