"""The server: the one place that puts adapters, engine and API together. ``python -m runyard.server`` runs it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

import runyard
from runyard import settings as settings_room
from runyard.adapters.clock import MachineClock, SystemEntropy
from runyard.adapters.definitions import DefinitionFiles
from runyard.adapters.disk import ServerDisk
from runyard.adapters.node import NodeExecutor
from runyard.adapters.objects import Stores
from runyard.adapters.objects.folder import FolderStore
from runyard.adapters.passwords import Argon2
from runyard.adapters.pip_index import PipIndex
from runyard.adapters.sql import is_current, open_store
from runyard.adapters.sql.snapshots import BEFORE
from runyard.adapters.telemetry.files import LogFiles
from runyard.adapters.telemetry.metrics import MetricFiles
from runyard.adapters.vault import FileVault, KeyFileError
from runyard.api.app import create_app, make_ahead
from runyard.api.context import Context
from runyard.api.listening import Listening
from runyard.api.memory import keep_low, settled
from runyard.api.patience import HEAD_S, Patient, most_connections
from runyard.api.sign_ins import Entrance
from runyard.core.account import Account, Role, Scope
from runyard.core.errors import RunyardError
from runyard.core.lifecycle import RetryPolicy
from runyard.engine import loops
from runyard.engine.bell import AFTER, DISPATCH, EVENTS, NODES, STAGE, Bell
from runyard.engine.world import Rules, SpecShelf, World
from runyard.ports.accounts import TokenRecord
from runyard.ports.sealed import SealedKind
from runyard.ports.store import Store
from runyard.settings import Settings, days_ms
from runyard.shim.crews import Hands
from runyard.shim.heaps import few_heaps
from runyard.shim.lean import PR_SET_PDEATHSIG, prctl

ACCOUNT = "default"
MEMBER = "owner"
NODE = "local"
UPGRADING = "upgrading"
"""In the installation's folder while the database's schema is brought forward."""
_NOTED_S = 0.5
AT_ONCE, WAITS_S = 2, 0.005
"""So many requests are worked on at once while they take no longer: more threads would take the interpreter from each
other (:mod:`runyard.shim.crews`)."""
PATIENCE_S = 300.0
"""How long a connection may take none of the bytes that wait for it. Readers of events and logs come back by themselves
and go on where they were."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Digests of the tokens that ``runyard up`` has made: of the owner and of this machine's node."""

    owner_digest: str
    owner_hint: str
    node_digest: str
    node_hint: str


@dataclass(frozen=True, slots=True)
class Leading:
    """The lease of a server on PostgreSQL: by which name it is held, its epoch, and how to let go of it."""

    holder: str
    epoch: int
    let_go: Callable[[], None]


def build(
    home: Path,
    settings: Settings,
    bootstrap: Bootstrap | None,
    url: str,
    authority: str = "",
    leading: Leading | None = None,
) -> tuple[FastAPI, Context]:
    """Put everything together over a folder of the server's own. ``authority``: the certificate (PEM) of its own
    authority, where it has one; ``leading``: on PostgreSQL."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    holder, epoch = (leading.holder, leading.epoch) if leading is not None else ("", None)
    half_life_ms = settings.policy.half_life_ms
    store = open_store(store_url(home, settings), home / BEFORE, holder=holder, epoch=epoch, half_life_ms=half_life_ms)
    clock = MachineClock(store.latest_event_ms(), home / "clock.json", resume=bool(store.holdings()))
    vault = open_vault(home / "key", store)
    embedded = FolderStore(home / "store")
    executor = NodeExecutor()
    definitions = DefinitionFiles(home / "definitions")
    world = World(
        store=store,
        executor=executor,
        objects=Stores(
            embedded,
            host_paths=settings.host_paths,
            ca_bundle=Path(settings.ca_file) if settings.ca_file is not None else None,
        ),
        vault=vault,
        logs=LogFiles(home / "logs"),
        metrics=MetricFiles(home / "logs"),
        clock=clock,
        entropy=SystemEntropy(),
        specs=SpecShelf(store),
        catalog=PipIndex(settings.pip_options, source_builds=settings.pip_source_builds),
        rules=_rules(settings),
        disk=ServerDisk(home),
        definitions=definitions,
    )
    _defaults(store, bootstrap, clock.now_ms())
    store.when_back(partial(_look_again, executor, world.bell))
    context = Context(
        world=world,
        links=executor,
        definitions=definitions,
        embedded=embedded,
        passwords=Argon2(),
        version=runyard.__version__,
        url=settings.public_url or url,
        authority=authority,
        started_ms=clock.now_ms(),
        definition_limit=settings.upload_limit_mib * 1024 * 1024,
        entrance=_entrance(settings),
    )
    return create_app(context, lifespan=_lifespan), context


def _entrance(settings: Settings) -> Entrance | None:
    if settings.oidc is None:
        return None
    # Where nobody signs in elsewhere, its keys and requests take no room.
    from runyard.adapters.oidc import Fetching, Provider  # noqa: PLC0415

    return Entrance(settings.oidc, Provider(settings.oidc, Fetching(settings.ca_file)))


def _rules(settings: Settings) -> Rules:
    return Rules(
        retry=RetryPolicy(platform_attempts=settings.platform_attempts),
        price=settings.price,
        configurations=settings.configurations,
        node_lost_after_ms=round(settings.node_lost_after_s * 1000),
        results_wait_ms=days_ms(settings.results_wait_days),
        policy=settings.policy,
        keep=settings.keep,
        keep_definitions_ms=days_ms(settings.keep_definitions_days),
        keep_caches_ms=days_ms(settings.keep_caches_days),
        keep_environments_ms=days_ms(settings.keep_environments_days),
        sweep_every_ms=round(settings.sweep_every_s * 1000),
        idle=settings.idle,
        disk_reserve=round(settings.server_reserve_gib * (1 << 30)),
    )


def _look_again(executor: NodeExecutor, bell: Bell) -> None:
    """The database was away: whether its last transaction went through, nobody heard. So every machine is given its
    orders again, and every station looks at what there is."""
    executor.end_all()
    bell.ring(DISPATCH, STAGE, AFTER, NODES, EVENTS)


def server_folder(home: Path, settings: Settings) -> Path:
    """Where the server's files are: definitions, logs, metrics, the embedded store, the key."""
    return Path(settings.shared_folder) if settings.shared_folder else home / "server"


def store_url(home: Path, settings: Settings) -> str:
    """The address of the store of record: the operator's, else a file in the server's folder."""
    return settings.store_url or f"sqlite:///{home / 'runyard.db'}"


def open_vault(key_file: Path, store: Store) -> FileVault:
    """The vault over a key file, which is made where nothing was sealed before. Keys that nothing is sealed with
    any more leave the file. Raises :class:`KeyFileError`."""
    if not key_file.exists() and store.any_sealed():
        raise KeyFileError(
            f"The key file {key_file} is missing, and the database holds what was sealed with it: put the file "
            "back from a backup. If it is lost for good, docs/accounts.md says how to begin with a new one."
        )
    vault = FileVault(key_file)
    if vault.has_old_keys and not any(store.sealed_texts(kind, vault.mark(), 1) for kind in SealedKind):
        vault.drop_old_keys()
    return vault


def _defaults(store: Store, bootstrap: Bootstrap | None, now: int, node_id: str = NODE) -> None:
    store.ensure_account(Account(ACCOUNT, ACCOUNT))
    store.ensure_member(MEMBER, ACCOUNT, MEMBER, Role.admin)
    if bootstrap is None:
        return
    wanted = (
        (Scope.admin, bootstrap.owner_digest, bootstrap.owner_hint, None),
        (Scope.node, bootstrap.node_digest, bootstrap.node_hint, node_id),
    )
    known = {token.digest for token in store.tokens(ACCOUNT)}
    for scope, digest, hint, of_node in wanted:
        if digest not in known:
            name = "made by runyard up"
            store.add_token(TokenRecord(digest[:10], digest, hint, scope, ACCOUNT, MEMBER, name, now, node_id=of_node))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    context = app.state.context
    assert isinstance(context, Context)
    # More than the default of a small machine: stations, streams and nodes share them, and each holds one only briefly.
    asyncio.get_running_loop().set_default_executor(Hands("runyard", 32, AT_ONCE, WAITS_S))
    await loops.prepare(context.world)
    turning = asyncio.create_task(loops.turn_all(context.world))
    settled()
    low = asyncio.create_task(keep_low())
    yield
    for task in (low, turning):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await context.trail.flush()
    if context.entrance is not None:
        context.entrance.close()
    context.world.store.close()


def before_forks() -> None:
    """What each start of a server would make anew, made where starts are forks: they share it."""
    make_ahead()


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runyard.server", description="The server of Runyard.")
    parser.add_argument("--home", type=Path, required=True, help="the installation's folder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8642)
    parser.add_argument("--url", help="what this machine's programs call it [default: the socket's address]")
    parser.add_argument("--certificate", type=Path, help="serve https with this certificate (PEM)")
    parser.add_argument("--key", type=Path, help="and its key")
    parser.add_argument("--authority", type=Path, help="the certificate that clients may pin (PEM)")
    parser.add_argument("--fd", type=int, help="a listening socket to inherit, in the place of host and port")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, metavar="S", help="with who takes no bytes")
    parser.add_argument("--request-patience", type=float, default=HEAD_S, metavar="S", help="for a request's headers")
    for name in ("owner-digest", "owner-hint", "node-digest", "node-hint"):
        parser.add_argument(f"--{name}", default="")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop."""
    options = _arguments(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    bootstrap = None
    if options.owner_digest and options.node_digest:
        bootstrap = Bootstrap(options.owner_digest, options.owner_hint, options.node_digest, options.node_hint)
    if options.fd is not None:
        listening = socket.socket(fileno=options.fd)
    else:
        listening = socket.create_server((options.host, options.port), backlog=1024)
    # Inherited by every connection (tcp(7)). The kernel cuts one whose other end is gone or has stopped reading, and
    # with it goes what is held for it here: the stream, an open file, some buffers.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(options.patience * 1000))
    host, port = listening.getsockname()[:2]
    url = options.url or f"{'http' if options.certificate is None else 'https'}://{host}:{port}"
    few_heaps()
    try:
        authority = options.authority.read_text() if options.authority is not None else ""
        settings = settings_room.load(options.home)
        folder = server_folder(options.home, settings)
        bring_forward(folder, store_url(folder, settings), options.home / UPGRADING)
        leading = _take_the_lead(options.home, settings, bootstrap, listening, url)
        app, context = build(folder, settings, bootstrap, url, authority, leading)
    except RunyardError as error:
        logging.getLogger(__name__).error("%s", error.message)
        return 4
    Patient.most = most_connections()
    Patient.head_s, Patient.body_s = options.request_patience, 3 * options.request_patience
    config = uvicorn.Config(
        app,
        http=Patient,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=75,
        lifespan="on",
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # uvicorn raises them once more when it has ended
    with suppress(SystemExit):
        Listening(config, context.links.end_all).run(sockets=[listening])
    if leading is not None:
        leading.let_go()
    return 0


def _end(_number: int, _frame: FrameType | None) -> None:
    """A signal before the server listens, or after: there is nothing to finish."""
    raise SystemExit(0)


def bring_forward(folder: Path, url: str, signs: Path) -> None:
    """Have a schema that is not current made, or migrated, by a fork: what that loads and writes to (20 MB with
    Alembic) does not stay with the server. Ends this process where that failed, which the fork has told. To be called
    before there are threads. ``signs``: a file that says meanwhile how far it is, and changes while it gets on."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    signs.unlink(missing_ok=True)
    if is_current(url):
        return
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _migrate(parent, folder, url, signs)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signs.unlink(missing_ok=True)
    if code != 0:
        raise SystemExit(code if code > 0 else 1)


def _migrate(parent: int, folder: Path, url: str, signs: Path) -> NoReturn:
    """The life of the fork; it never returns to the server's frames."""
    code = 1
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it is one transaction, and nobody would know of its end
        if os.getppid() == parent:
            open_store(url, folder / BEFORE, tell=_noting(signs)).close()
            code = 0
    except RunyardError as error:
        logging.getLogger(__name__).error("%s", error.message)
        code = 4
    except BaseException:
        logging.getLogger(__name__).exception("the schema of the database was not made")
    finally:
        os._exit(code)


def _noting(signs: Path) -> Callable[[str, int], None]:
    """Note in a file what is being done and how far it is; twice a second at most."""
    due = 0.0

    def tell(what: str, count: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + _NOTED_S
            with suppress(OSError):  # a disk that is full is the upgrade's trouble, and told of there
                signs.write_text(f"{what} {count}", encoding="utf-8")

    return tell


def _take_the_lead(
    home: Path, settings: Settings, bootstrap: Bootstrap | None, listening: socket.socket, url: str
) -> Leading | None:
    """On PostgreSQL: stand by until this server leads. None on SQLite, whose file is this server's alone."""
    where = settings.store_url
    if where is None or not where.startswith("postgres"):
        return None
    # psycopg is no part of a server on SQLite.
    from runyard.adapters.sql.lease import Lease  # noqa: PLC0415
    from runyard.standby import Keeper, follow, new_holder  # noqa: PLC0415

    folder = server_folder(home, settings)
    store = open_store(where, folder / BEFORE)
    _defaults(store, bootstrap, MachineClock().now_ms(), _own_node(bootstrap))
    store.close()
    lease = Lease(where, new_holder(home), settings.advertise_url or url, settings.lease_s)
    epoch = asyncio.run(follow(listening, lease, shared=settings.shared_folder is not None))
    keeper = Keeper(lease, epoch, settings.lease_s)
    logging.getLogger(__name__).warning("this server leads (epoch %d)", epoch)
    return Leading(lease.holder, epoch, keeper.let_go)


def _own_node(bootstrap: Bootstrap | None) -> str:
    """The id of this machine's node where several servers may each have one."""
    return NODE if bootstrap is None else f"{NODE}-{bootstrap.node_digest[:8]}"


if __name__ == "__main__":
    sys.exit(main())
