"""``up``, ``down``, ``doctor``, ``service``: thin doors to :mod:`runyard.up`, for the server's packages and Linux."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Final, cast

import click

from runyard.cli.failures import REFUSED
from runyard.cli.options import DoctorOptions, DownOptions, ServiceOptions, UpOptions
from runyard.cli.session import Session, common
from runyard.client.address import home_folder

SERVER_PACKAGES: Final = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "obstore", "msgspec", "yaml", "cryptography")
"""What the server and the node import, and `runyard` without extras does not bring."""

_SERVERS: Final = ("up", "backup", "restore")

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
@click.option("--tls", is_flag=True, help="Serve https, with an authority of its own for `login` to pin.")
@click.option("--insecure", is_flag=True, help="Listen beyond loopback without TLS.")
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
    tls: bool,
    insecure: bool,
) -> int:
    """Start the service on this machine: server, node and pages."""
    _check_gpus(gpus)
    options = UpOptions(home_of(home), host, port, gpus, slots_per_gpu, fake_gpus, detach, tls, insecure)
    return call(session, "up", options, "runyard.up.start")


@click.command()
@HOME
@click.option("--cancel-runs", is_flag=True, help="Also cancel what runs; without it, programs go on.")
@common
@click.pass_obj
def down(session: Session, home: str | None, cancel_runs: bool) -> int:
    """Stop the service on this machine. Running programs go on, and the next `up` finds them."""
    return call(session, "down", DownOptions(home_of(home), cancel_runs))


@click.command()
@HOME
@click.option("--gpu", is_flag=True, help="Also try every GPU: takes seconds each; without one, that is bad.")
@common
@click.pass_obj
def doctor(session: Session, home: str | None, gpu: bool) -> int:
    """Look for what is wrong with this machine or the installation."""
    return call(session, "doctor", DoctorOptions(home_of(home), session.json, gpu))


@click.group()
def service() -> None:
    """Start the service with this machine, by systemd: install, uninstall, status."""


SYSTEM = click.option("--system/--user", default=None, help="The machine's unit, or yours [default: system for root].")


@service.command()
@HOME
@SYSTEM
@click.option("--print", "only_print", is_flag=True, help="Print the unit and change nothing.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- UP-OPTIONS]")
@common
@click.pass_obj
def install(session: Session, home: str | None, system: bool | None, only_print: bool, words: tuple[str, ...]) -> int:
    """Install and start the unit; what stands after `--` is passed to `up`."""
    return _service(session, ServiceOptions("install", home_of(home), _is_system(system), words, only_print))


@service.command()
@SYSTEM
@common
@click.pass_obj
def uninstall(session: Session, system: bool | None) -> int:
    """Stop and remove the unit. Training programs go on."""
    return _service(session, ServiceOptions("uninstall", home_of(None), _is_system(system)))


@service.command("status")
@SYSTEM
@common
@click.pass_obj
def service_status(session: Session, system: bool | None) -> int:
    """Show what systemd says of the unit."""
    return _service(session, ServiceOptions("status", home_of(None), _is_system(system)))


def _is_system(told: bool | None) -> bool:
    return os.geteuid() == 0 if told is None else told


def _service(session: Session, options: ServiceOptions) -> int:
    return call(session, "service", options)


def home_of(home: str | None) -> str:
    """The installation's folder."""
    return home or str(home_folder())


def _check_gpus(gpus: str) -> None:
    if gpus not in ("all", "none") and not all(part.strip().isdigit() for part in gpus.split(",")):
        raise click.BadParameter(f"{gpus!r} is neither all, none, nor numbers such as 0,2.", param_hint="--gpus")


def call(session: Session, name: str, options: object, module: str | None = None) -> int:
    """Call a function below ``runyard.up`` by name, in the module of that name unless told; says what is missing where
    it cannot be."""
    if sys.platform != "linux":
        session.say("error: server and node need Linux. This machine can use one: set RUNYARD_URL and RUNYARD_TOKEN.")
        return REFUSED
    missing = [package for package in SERVER_PACKAGES if find_spec(package) is None] if name in _SERVERS else []
    if missing:
        which = ", ".join(missing)
        session.say(f"error: `{name}` needs packages that are not installed ({which}): pip install 'runyard[server]'")
        return REFUSED
    function = cast("Callable[[object], int]", getattr(import_module(module or f"runyard.up.{name}"), name))
    return function(options)
