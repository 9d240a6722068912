"""``up``, ``down`` and ``doctor``: thin doors to :mod:`runyard.up`, which needs the server's packages and Linux."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Final, cast

import click

from runyard.cli.failures import REFUSED
from runyard.cli.options import DoctorOptions, DownOptions, UpOptions
from runyard.cli.session import Session, common
from runyard.client.address import home_folder

SERVER_PACKAGES: Final = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "obstore", "msgspec", "yaml", "cryptography")
"""What the server and the node import, and `runyard` without extras does not bring."""

HOME = click.option("--home", metavar="DIR", help="The installation's folder [default: RUNYARD_HOME or ~/.runyard].")


def _count(least: int) -> click.IntRange:
    return click.IntRange(min=least)


@click.command()
@HOME
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8642, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--gpus", default="all", show_default=True, metavar="all|none|0,2", help="The GPUs to offer.")
@click.option("--slots-per-gpu", default=1, show_default=True, type=_count(1), help="Runs that share a GPU.")
@click.option("--fake-gpus", type=_count(0), metavar="N", help="Offer N logical slots instead of GPUs.")
@click.option("--detach", is_flag=True, help="Return once it answers.")
@common
@click.pass_obj
def up(
    session: Session,
    home: str | None,
    host: str,
    port: int,
    gpus: str,
    slots_per_gpu: int,
    fake_gpus: int | None,
    detach: bool,
) -> int:
    """Start the service on this machine: server, node and pages."""
    _check_gpus(gpus)
    options = UpOptions(_home(home), host, port, gpus, slots_per_gpu, fake_gpus, detach)
    return _call(session, "up", options)


@click.command()
@HOME
@click.option("--cancel-runs", is_flag=True, help="Also cancel what runs; without it, programs go on.")
@common
@click.pass_obj
def down(session: Session, home: str | None, cancel_runs: bool) -> int:
    """Stop the service on this machine. Running programs go on, and the next `up` finds them."""
    return _call(session, "down", DownOptions(_home(home), cancel_runs))


@click.command()
@HOME
@click.option("--gpu", is_flag=True, help="Also try every GPU: takes seconds each; without one, that is bad.")
@common
@click.pass_obj
def doctor(session: Session, home: str | None, gpu: bool) -> int:
    """Look for what is wrong with this machine or the installation."""
    return _call(session, "doctor", DoctorOptions(_home(home), session.json, gpu))


def _home(home: str | None) -> str:
    return home or str(home_folder())


def _check_gpus(gpus: str) -> None:
    if gpus not in ("all", "none") and not all(part.strip().isdigit() for part in gpus.split(",")):
        raise click.BadParameter(f"{gpus!r} is neither all, none, nor numbers such as 0,2.", param_hint="--gpus")


def _call(session: Session, name: str, options: object) -> int:
    if sys.platform != "linux":
        session.say("error: server and node need Linux. This machine can use one: set RUNYARD_URL and RUNYARD_TOKEN.")
        return REFUSED
    missing = [package for package in SERVER_PACKAGES if find_spec(package) is None] if name == "up" else []
    if missing:
        which = ", ".join(missing)
        session.say(f"error: `{name}` needs packages that are not installed ({which}): pip install 'runyard[server]'")
        return REFUSED
    function = cast("Callable[[object], int]", getattr(import_module("runyard.up"), name))
    return function(options)
