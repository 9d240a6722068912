"""``usage``: what was held and what it costs."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict, fields
from typing import Any

import click

from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.cli.times import instant
from runyard.client.account_records import Usage, UsageLine


@click.command()
@click.option("--by", default="account", show_default=True, type=click.Choice(["account", "user", "day", "tag"]))
@click.option("--since", metavar="T", help="From then on: 2026-01-31, an ISO time, or 7d (ago).")
@click.option("--until", metavar="T", help="Until then.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@common
@click.pass_obj
def usage(session: Session, by: str, as_csv: bool, **when: Any) -> None:
    """Show what was held and what it costs; a platform's fault is not billed, it stands under WASTE."""
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
