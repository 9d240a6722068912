"""The operator's settings: ``settings.toml`` in the installation's folder."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar, cast

from runyard.core.containers import CHOICES
from runyard.core.errors import RunyardError
from runyard.core.house import FIRST_ID, NOBODY_MAPPED, Users, read_root, read_users
from runyard.core.idle import DEFAULT_RULE, IdleRule, Then
from runyard.core.oidc import Oidc, read_oidc
from runyard.core.resources import DEFAULT_CONFIGURATIONS, ComputeConfiguration, Price, Resources
from runyard.core.retention import Kept, Part
from runyard.core.scheduling.snapshot import HALF_LIFE_MS, SETTLE_MS, Policy
from runyard.shim import seccomp

_MOST = 1_000_000_000
MEMBERS = 10_000
"""So many user ids from ``uid_base`` on are those of members without a user of the machine."""
T = TypeVar("T")


class SettingsError(RunyardError):
    """A settings file that cannot be used."""

    code = "invalid_settings"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings with their defaults.

    ``host_paths``: folders of the machine that manifests may name (``mount_volume``), as
    :func:`runyard.core.house.read_root` has them. ``users``: whom members' programs run as
    (:class:`runyard.core.house.Users`), where the node is root. ``private_tmp``: each program has a ``/tmp`` of its
    own, where it has mounts of its own. ``allow_system_calls``: those of :func:`runyard.shim.seccomp.names` that
    programs are not refused. Prices are units of money an hour. ``uid_base``: others' programs run under
    this plus the member's number, when the node is root. ``ca_file``: further
    certificate authorities for object stores and for the issuer of ``oidc``.
    ``node_lost_after_s``: how long a machine may be silent before its
    attempts are given up, ``results_wait_days``: before what it has still to store counts as lost, 0 never.
    ``store_url``: another database, e.g. ``postgresql+psycopg://...``.
    ``shared_folder``: where the server's files are (definitions, logs, metrics, the embedded store, the key) in the
    place of ``server`` in the home; with ``store_url``, two servers may share both; ``advertise_url``: by which the
    other one reaches this one, ``other_urls``: of the other servers,
    for this machine's node, ``lease_s``: after which a server that says nothing gives way. ``cache_gib``: size of a
    node's cache. ``upload_limit_mib``: of one model definition. ``log_limit_mib``: of each learner's log, 0 for none.
    ``disk_limit_gib``: of all that a run writes on a machine, 0 for half of the machine's disk. ``workdir_limit_mib``:
    of what is kept from a working directory. ``pip_options``: further words for pip where environments are built, such
    as ``["--index-url", "https://..."]``. ``pip_source_builds``: build packages that have no wheel, which runs their
    code as the user of the node. ``pythons``: globs of the interpreters and environments that ``python`` may name; all
    by default, since a program is its user's own code under any of them. ``container_engine``: what runs container
    images: ``podman``, ``docker``, ``none``, or ``auto`` for the first that answers. ``fair_share``, ``backfill``,
    ``preemption`` and ``preempt_by_priority``: how the queue is served
    (:class:`runyard.core.scheduling.snapshot.Policy`).
    ``share_half_life_h``: what an account has used counts half after so many hours. ``preempt_settle_s``: an attempt
    younger than this is not stopped to make room. ``tls``: serve https with an authority of the installation's own;
    ``tls_certificate`` and ``tls_key``: or with these files (PEM); ``tls_names``: further host names and addresses for
    its certificate. ``public_url``: what the service is called outside, as ``https://lab.example/runyard``.
    ``keep_results_days`` (of the embedded store), ``keep_logs_days``, ``keep_metrics_days``, ``keep_records_days``:
    what a run leaves behind goes so long after its end, 0 never; accounts may have their own
    (:mod:`runyard.core.retention`). ``keep_definitions_days``: model definitions that no recorded run needs.
    ``keep_caches_days``, ``keep_environments_days``: what a node has not used for so long, 0: until its cache is full.
    ``sweep_every_s``: so often what is due goes at most. ``server_reserve_gib``, ``node_reserve_gib``: below this (or a
    twentieth of a smaller disk) the server takes no new runs, and a node starts none. ``gpu_strangers_mib``: a GPU of
    which processes that are not Runyard's hold more is given to no run until it is free, 0: whatever they hold.
    ``gpu_errors``: a GPU that reports a hardware error is given to no run until it is put back. ``idle_after_min``,
    ``idle_then``, ``idle_requeues``: what is done with runs that do nothing (:class:`runyard.core.idle.IdleRule`),
    where their manifest says nothing else. ``oidc``: who may sign in by OpenID Connect
    (:class:`runyard.core.oidc.Oidc`), None: nobody.
    """

    host_paths: tuple[str, ...] = ()
    users: Users = NOBODY_MAPPED
    private_tmp: bool = True
    allow_system_calls: tuple[str, ...] = ()
    price_gpu_hour: float = 0.0
    price_cpu_hour: float = 0.0
    price_gb_hour: float = 0.0
    uid_base: int = 50_000
    ca_file: str | None = None
    node_lost_after_s: float = 600.0
    results_wait_days: float = 7.0
    store_url: str | None = None
    shared_folder: str | None = None
    advertise_url: str | None = None
    other_urls: tuple[str, ...] = ()
    lease_s: float = 2.0
    cache_gib: float = 50.0
    upload_limit_mib: int = 512
    platform_attempts: int = 3
    log_limit_mib: int = 1024
    disk_limit_gib: float = 0.0
    workdir_limit_mib: int = 200
    pip_options: tuple[str, ...] = ()
    pip_source_builds: bool = False
    pythons: tuple[str, ...] = ("*",)
    container_engine: str = "auto"
    fair_share: bool = True
    backfill: bool = True
    preemption: bool = True
    preempt_by_priority: bool = False
    share_half_life_h: float = HALF_LIFE_MS / 3_600_000
    preempt_settle_s: float = SETTLE_MS / 1000
    tls: bool = False
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_names: tuple[str, ...] = ()
    public_url: str | None = None
    keep_results_days: float = 0.0
    keep_logs_days: float = 0.0
    keep_metrics_days: float = 0.0
    keep_records_days: float = 0.0
    keep_definitions_days: float = 7.0
    keep_caches_days: float = 0.0
    keep_environments_days: float = 0.0
    sweep_every_s: float = 3600.0
    server_reserve_gib: float = 1.0
    node_reserve_gib: float = 1.0
    gpu_strangers_mib: int = 1024
    gpu_errors: bool = True
    idle_after_min: float = DEFAULT_RULE.after_ms / 60_000
    idle_then: str = DEFAULT_RULE.then.value
    idle_requeues: int = DEFAULT_RULE.requeues
    oidc: Oidc | None = None
    compute_configurations: tuple[tuple[str, int, float, float], ...] = ()

    @property
    def price(self) -> Price:
        """Prices in micro-units."""
        return Price(*(round(p * 1e6) for p in (self.price_gpu_hour, self.price_cpu_hour, self.price_gb_hour)))

    @property
    def policy(self) -> Policy:
        """How the queue is served."""
        return Policy(
            fair_share=self.fair_share,
            backfill=self.backfill,
            preemption=self.preemption,
            by_priority=self.preempt_by_priority,
            half_life_ms=max(1, round(self.share_half_life_h * 3_600_000)),
            settle_ms=round(self.preempt_settle_s * 1000),
        )

    @property
    def idle(self) -> IdleRule:
        """What is done with runs that do nothing."""
        return IdleRule(round(self.idle_after_min * 60_000), Then(self.idle_then), self.idle_requeues)

    @property
    def keep(self) -> Kept:
        """How long what runs leave behind is kept, where an account has said nothing else."""
        return {
            Part.results: days_ms(self.keep_results_days),
            Part.logs: days_ms(self.keep_logs_days),
            Part.metrics: days_ms(self.keep_metrics_days),
            Part.records: days_ms(self.keep_records_days),
        }

    @property
    def configurations(self) -> dict[str, ComputeConfiguration]:
        """The default compute configurations and the operator's own."""
        own = {
            name: ComputeConfiguration(name, Resources(gpus, round(cpus * 1000), round(gb * 1024)))
            for name, gpus, cpus, gb in self.compute_configurations
        }
        return dict(DEFAULT_CONFIGURATIONS) | own


def days_ms(days: float) -> int:
    """Days in milliseconds; a part of one counts."""
    return math.ceil(days * 86_400_000)


def load(home: Path) -> Settings:
    """Read ``settings.toml``; the defaults when there is none. Raises :class:`SettingsError`."""
    path = home / "settings.toml"
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Settings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    known = {field.name for field in fields(Settings)}
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
            raise SettingsError(f"{path}: unknown setting {key}{hint}")
    return _checked(path, table)


def _checked(path: Path, table: dict[str, object]) -> Settings:
    values: dict[str, object] = {}
    defaults = Settings()
    for key, value in table.items():
        default = getattr(defaults, key)
        if key in TABLES:
            values[key] = TABLES[key](path, value)
        elif isinstance(default, tuple):
            if not isinstance(value, list) or not all(isinstance(each, str) for each in cast(list[object], value)):
                raise SettingsError(f"{path}: {key} is a list of texts")
            values[key] = tuple(cast(list[str], value))
        elif isinstance(default, bool):
            if not isinstance(value, bool):
                raise SettingsError(f"{path}: {key} is true or false")
            values[key] = value
        elif isinstance(default, int):
            if not _is_number(value) or not isinstance(value, int):
                raise SettingsError(f"{path}: {key} is a whole number, 0 or more")
            values[key] = value
        elif isinstance(default, float):
            if not _is_number(value):
                raise SettingsError(f"{path}: {key} is a number, 0 or more")
            values[key] = float(cast(float, value))
        elif not isinstance(value, str):
            raise SettingsError(f"{path}: {key} is a text")
        else:
            values[key] = value
    made = Settings(**values)  # pyright: ignore[reportArgumentType]  # each was checked against its default above
    _check_house(path, made)
    return made


def _in_words(path: Path, key: str, reading: Callable[[], T]) -> T:
    try:
        return reading()
    except ValueError as error:
        raise SettingsError(f"{path}: {key} {error}") from None


def _check_house(path: Path, settings: Settings) -> None:
    for root in settings.host_paths:
        _in_words(path, "host_paths", lambda root=root: read_root(root))
    known = seccomp.names()
    for name in settings.allow_system_calls:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"those are {', '.join(known)}"
            raise SettingsError(f"{path}: allow_system_calls: {name!r} is none of the calls that are refused; {hint}")
    if settings.container_engine not in CHOICES:
        raise SettingsError(f"{path}: container_engine is one of {', '.join(CHOICES)}")
    if settings.uid_base < FIRST_ID:
        raise SettingsError(f"{path}: uid_base is {FIRST_ID} or more: ids below are the system's")
    if settings.idle_then not in list(Then):
        raise SettingsError(f"{path}: idle_then is one of {', '.join(Then)}")
    own = range(settings.uid_base, settings.uid_base + MEMBERS)
    for name, user in settings.users.table.items():
        if any(number in own for number in (user.uid, user.gid, *user.groups)):
            words = f"the ids from {own.start} on ({MEMBERS} of them, uid_base) are those of members without a user"
            raise SettingsError(f"{path}: users {name}: {words}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST


def _configurations(path: Path, value: object) -> tuple[tuple[str, int, float, float], ...]:
    rows: list[tuple[str, int, float, float]] = []
    try:
        for name, row in cast(dict[str, dict[str, float]], value).items():
            gpus, cpus, memory = row["gpus"], row["cpus"], row["memory_gb"]
            if not all(map(_is_number, (gpus, cpus, memory))) or not isinstance(gpus, int) or len(row) > 3:
                raise ValueError
            rows.append((name, gpus, float(cpus), float(memory)))
    except (AttributeError, KeyError, TypeError, ValueError):
        text = "[compute_configurations.NAME] has gpus, cpus and memory_gb, each a number, 0 or more"
        raise SettingsError(f"{path}: {text}") from None
    return tuple(rows)


TABLES: dict[str, Callable[[Path, object], object]] = {
    "compute_configurations": _configurations,
    "oidc": lambda path, value: _in_words(path, "oidc", lambda: read_oidc(value)),
    "users": lambda path, value: _in_words(path, "users", lambda: read_users(value)),
}
"""Settings that are tables, and how they are read."""
