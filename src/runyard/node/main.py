"""The node's entry: its command line, its connection to the server, and its end."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from runyard.core.containers import CHOICES
from runyard.core.house import read_root, read_users
from runyard.node.agent import Agent, Settings
from runyard.node.cache import DEFAULT_LIMIT
from runyard.node.environments.pip import PipSettings
from runyard.node.finishing import SYNC_EVERY_S
from runyard.node.gpus.guarding import Caution
from runyard.node.home import Grumble, open_home, say
from runyard.node.inventory import take_inventory
from runyard.node.lanes import do_safely
from runyard.node.limiting import MEASURE_EVERY_S
from runyard.node.limits import DEFAULTS, Limits
from runyard.node.link import Address, Backoff, Refused, Unreachable
from runyard.node.owning import owned_by
from runyard.shim import metadata, seccomp
from runyard.shim.cgroups import remove_unused
from runyard.shim.heaps import EVERY_S, Tide, few_heaps
from runyard.shim.lean import PR_SET_DUMPABLE, prctl
from runyard.wire import facts, orders

PROBE_S = 3.0
"""How long another server has to answer before it counts as away too."""
STARTED_S = 0.25
"""So soon a server that was killed is there again, where somebody sees to it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a node until it is told to end by SIGTERM or SIGINT; programs go on without it. Returns the exit code."""
    told = parser().parse_args(arguments)
    os.umask(0o077)
    few_heaps()
    prctl(PR_SET_DUMPABLE, 0)  # where programs have our user id, they must not read credentials from our memory
    try:
        home = open_home(told.home)
        owned = owned_by(home.root, told.gpu_locks)
        inventory = take_inventory(
            gpus=told.gpus,
            fake_gpus=told.fake_gpus,
            slots_per_gpu=told.slots_per_gpu,
            take=owned.take if told.gpu_locks or not told.fake_gpus else None,
        )
        notes = (*(owned.notes if inventory.nodes or owned.held else ()), *close_metadata(told.uid_base))
        inventory = replace(inventory, notes=(*inventory.notes, *notes, *seccomp.opened(told.allow_system_call)))
        servers = [each.strip().rstrip("/") for each in told.server.split(",") if each.strip()]
        token = read_token(told.token_file)
        address = Address(servers[0], told.name, token, told.server_authority, told.server_certificate)
    except BlockingIOError:
        say(f"Another node runs in {told.home}: end it first, or give this one a --home of its own.")
        return 1
    except (OSError, ValueError) as error:
        say(f"The node cannot start: {error}")
        return 1
    agent = Agent(home, address, inventory, settings_of(told), owned)
    ended = threading.Event()

    def end(_number: int, _frame: object) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    agent.start()
    threading.Thread(target=agent.report.send_for_ever, name="report", daemon=True).start()
    elsewhere = Elsewhere(tuple(servers[1:]), list(sys.argv[1:] if arguments is None else arguments))
    threading.Thread(target=lambda: stay_connected(agent, elsewhere), name="orders", daemon=True).start()
    tide = Tide()
    while not ended.wait(EVERY_S):
        tide.look()
    say("The node ends; programs go on, and the next node in this folder finds them.")
    remove_unused(home.group)
    os._exit(0)  # threads in the middle of a transfer are left behind: what they make is whole or not there


def settings_of(told: argparse.Namespace) -> Settings:
    """What the command line says of how the agent works."""
    limits = Limits(told.log_limit << 20, told.disk_limit << 20, told.workdir_limit << 20)
    return Settings(
        told.uid_base,
        tuple(told.host_path),
        told.cache_limit << 20,
        told.patience,
        told.sync_every,
        told.ca_file,
        limits,
        told.measure_every,
        PipSettings(tuple(told.pip_option), told.pip_source_builds, tuple(told.python_allowed or ("*",))),
        read_users(json.loads(told.users)),
        not told.shared_tmp,
        told.reserve << 20,
        Caution(told.gpu_strangers << 20, not told.ignore_gpu_errors),
        tuple(told.private),
        tuple(told.allow_system_call),
        told.container_engine,
    )


def close_metadata(uid_base: int) -> list[str]:
    """Close the cloud's metadata address to programs; a sentence where that cannot be done."""
    if os.geteuid() != 0:
        return [f"{metadata.OPEN} (only a node that runs as root can close it)."]
    return metadata.close(uid_base, uid_base + metadata.MEMBERS - 1)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Further servers, and the words that this node was started with."""

    urls: tuple[str, ...] = ()
    words: Sequence[str] = ()

    def go_on(self, now: str) -> None:
        """Where another server answers and this one does not, begin anew with that: this process becomes a new node,
        which finds all again by its folders. Programs take no notice."""
        if not self.urls or answers_again(now):
            return  # it was started again meanwhile, and passes on to who leads now
        there = next((url for url in self.urls if answers(url)), None)
        if there is None:
            return
        say(f"The server at {now} does not answer; the one at {there} does.")
        others = [there, *(url for url in self.urls if url != there), now]
        begun = [*self.words, "--server", ",".join(others)]  # the last one counts
        os.execv(sys.executable, [sys.executable, "-P", "-m", "runyard.node", *begun])


NOWHERE = Elsewhere()


def answers_again(url: str) -> bool:
    """Whether a server answers, or does a moment after it has broken off: one that was killed is started again at once,
    which takes less than to begin anew with another."""
    began = time.monotonic()
    if answers(url):
        return True
    if time.monotonic() - began > PROBE_S / 2:
        return False
    time.sleep(STARTED_S)
    return answers(url)


def answers(url: str) -> bool:
    """Whether a server and its database answer at an address."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # it is told nothing
    try:
        with urllib.request.urlopen(url + "/healthz", timeout=PROBE_S, context=trusting) as answer:
            return answer.status == 200
    except OSError:
        return False


def stay_connected(agent: Agent, elsewhere: Elsewhere = NOWHERE) -> None:
    """The life of the connection: hello, orders, and again."""
    backoff, grumble = Backoff(), Grumble()
    while True:
        try:
            agent.link.ask("POST", "/hello", facts.encode(agent.hello()))
            agent.connected()
            for line in agent.link.lines("/orders"):
                backoff.reset()
                grumble.reset()
                do_safely(lambda line=line: obey_line(agent, line))
        except Unreachable:
            grumble.say(f"The server at {agent.url} does not answer; trying on.")
            elsewhere.go_on(agent.url)
        except Refused as error:
            grumble.say(f"{error} Is the token right?" if error.status in (401, 403) else str(error))
        agent.report.pause()
        time.sleep(backoff.pause_s())


def obey_line(agent: Agent, line: bytes) -> None:
    """One line of the stream. One that is no order is told to the operator and skipped."""
    if not line.strip():
        return
    try:
        order = orders.decode(line)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        say(f"The server sent an order that this node does not understand ({error}): are their versions the same?")
        return
    agent.obey(order)


def read_token(path: str | None) -> str | None:
    """The token in a file; None without one. Raises ``ValueError`` for an empty file."""
    if path is None:
        return None
    token = Path(path).read_text(encoding="utf-8").strip()
    if not token:
        raise ValueError(f"the token file {path} is empty")
    return token


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m runyard.node", description="A node of Runyard: runs programs here.")
    made.add_argument("--home", required=True, help="folder of the node's own")
    made.add_argument("--server", required=True, metavar="URL[,URL]", help="one, or several on one database")
    made.add_argument("--server-authority", metavar="PEM", help="trust these for the server, not the system's")
    made.add_argument("--server-certificate", metavar="PEM", help="or know it by its own one, whatever it is called")
    made.add_argument("--name", default=socket.gethostname(), help="name of this node, the same over its restarts")
    made.add_argument("--token-file", metavar="FILE", help="file with a token of scope `node`")
    made.add_argument("--gpus", default="all", metavar="all|none|0,2", help="GPUs that runs may have")
    made.add_argument("--fake-gpus", type=int, default=0, metavar="N", help="pretend that there are N GPUs")
    made.add_argument("--gpu-locks", metavar="DIR", help="where the locks of this machine's GPUs are")
    made.add_argument("--gpu-strangers", type=number, default=0, metavar="MIB", help="they may hold of a GPU; 0: all")
    made.add_argument("--ignore-gpu-errors", action="store_true", help="runs are given GPUs that reported errors, too")
    made.add_argument("--slots-per-gpu", type=positive, default=1, metavar="K")
    made.add_argument("--uid-base", type=int, default=50_000, help="user ids of programs start here")
    made.add_argument("--host-path", action="append", default=[], type=read_root, metavar="DIR[:ro|:rw]")
    made.add_argument(
        "--private", action="append", default=[], metavar="DIR", help="of the service: hidden from programs"
    )
    made.add_argument(
        "--allow-system-call", action="append", default=[], choices=seccomp.names(), metavar="NAME", help="or all"
    )
    made.add_argument("--users", default="{}", metavar="JSON", help="whom members' programs run as")
    made.add_argument("--shared-tmp", action="store_true", help="programs see the machine's /tmp")
    made.add_argument("--ca-file", type=Path, metavar="PEM", help="authorities to trust beside the system's own")
    made.add_argument("--cache-limit", type=positive, default=DEFAULT_LIMIT >> 20, metavar="MIB")
    made.add_argument("--patience", type=float, default=30.0, metavar="S", help="for a data store that is not reached")
    made.add_argument("--log-limit", type=number, default=DEFAULTS.log >> 20, metavar="MIB", help="of a log; 0: none")
    made.add_argument("--disk-limit", type=number, default=0, metavar="MIB", help="of a run; 0: half of the disk")
    made.add_argument("--workdir-limit", type=number, default=DEFAULTS.workdir >> 20, metavar="MIB", help="kept of it")
    made.add_argument("--measure-every", type=float, default=MEASURE_EVERY_S, metavar="S", help="what runs write")
    made.add_argument("--pip-option", action="append", default=[], metavar="WORD", help="further word for pip")
    made.add_argument("--pip-source-builds", action="store_true", help="build packages that have no wheel")
    made.add_argument("--python-allowed", action="append", metavar="GLOB", help="`python:` may name these")
    made.add_argument("--container-engine", default="auto", choices=CHOICES, help="what runs containers")
    made.add_argument("--reserve", type=number, default=0, metavar="MIB", help="of the disk: nothing new starts below")
    made.add_argument("--sync-every", type=float, default=SYNC_EVERY_S, metavar="S", help="between checkpoint syncs")
    return made


def number(text: str) -> int:
    """A number from 0 on."""
    found = int(text)
    if found < 0:
        raise ValueError
    return found


def positive(text: str) -> int:
    """A number from 1 on."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
