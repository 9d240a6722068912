"""What ``up``, ``down``, ``doctor`` and ``service`` ask of the embedded installation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpOptions:
    """Start server and node. ``gpus``: all, none, or numbers such as ``0,2``; ``fake_gpus``: so many logical slots
    instead, None for real ones; ``detach``: return once it answers. ``tls``: serve with certificates of an authority of
    its own; ``insecure``: listen beyond loopback without TLS all the same."""

    home: str
    host: str
    port: int
    gpus: str
    slots_per_gpu: int
    fake_gpus: int | None
    detach: bool
    tls: bool = False
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class DownOptions:
    """Stop server and node; running programs go on unless ``cancel_runs``."""

    home: str
    cancel_runs: bool


@dataclass(frozen=True, slots=True)
class BackupOptions:
    """Make a backup of the installation in ``file``, or look at one (``verify``); ``without_key``: leave the key and
    the tokens out, ``passphrase_file``: seal them; ``json``: print one JSON document."""

    home: str
    file: str
    verify: bool
    without_key: bool
    passphrase_file: str | None
    json: bool


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """Restore the backup ``file`` into ``home``, or the database from before its last upgrade (``before_upgrade``);
    ``store_url``: into another database, ``sqlite`` for a file in the home; ``json``: print one JSON document."""

    home: str
    file: str
    store_url: str | None
    passphrase_file: str | None
    before_upgrade: bool
    json: bool


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """Look at the machine and the installation; ``json``: print one JSON document instead of prose; ``gpu``: try the
    GPUs too."""

    home: str
    json: bool
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """The installation as a unit of systemd. ``what``: install, uninstall or status; ``words``: options for ``up``;
    ``system``: a unit of the machine, not of the user; ``only_print``: show the unit, change nothing."""

    what: str
    home: str
    system: bool
    words: tuple[str, ...] = ()
    only_print: bool = False
