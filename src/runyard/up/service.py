"""``runyard service``: the installation as a unit of systemd, so that it starts with the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runyard.cli.options import ServiceOptions
from runyard.up.say import answer, say

UNIT: Final = "runyard.service"
REFUSED: Final = 4


def service(options: ServiceOptions) -> int:
    """Install, remove or show the unit. Returns the exit code: 4 where systemd does not run, or refuses."""
    if options.what == "install" and options.only_print:
        answer(unit(options).rstrip("\n"))
        return 0
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        say(
            "systemd does not run on this machine: have `runyard up` started by what does, or see the unit with "
            "`runyard service install --print`."
        )
        return REFUSED
    if options.system and os.geteuid() != 0:
        say("Only root may install a unit of the system: call it with sudo, or install one of your own with --user.")
        return REFUSED
    return {"install": _install, "uninstall": _uninstall, "status": _status}[options.what](options)


def unit(options: ServiceOptions) -> str:
    """The text of the unit.

    ``KillMode=process``: training programs go on while the service is stopped or upgraded. ``Delegate``: the control
    groups below the unit are the node's own, for the limits of runs.
    """
    command = " ".join(map(quoted, [*_program(), "up", "--home", options.home, *options.words]))
    lines = [
        "[Unit]",
        "Description=Runyard, deep learning as a service",
        "Documentation=man:systemd.service(5)",
        "After=network-online.target",
        "Wants=network-online.target",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={command}",
        "Restart=on-failure",
        "RestartSec=2",
        "KillMode=process",
        "TimeoutStopSec=60",
        "Delegate=yes",
        "TasksMax=infinity",
        "LimitNOFILE=1048576",
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if options.system else 'default.target'}",
    ]
    return "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    """A word of a command line as systemd reads it (systemd.service(5), "Command lines"; ``%`` begins a specifier)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or not word or any(sign in word for sign in " \t;'") else word


def _program() -> list[str]:
    beside = Path(sys.executable).with_name("runyard")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "runyard.cli.main"]


def _path(options: ServiceOptions) -> Path:
    if options.system:
        return Path("/etc/systemd/system") / UNIT
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user" / UNIT


def _install(options: ServiceOptions) -> int:
    path = _path(options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(unit(options), encoding="utf-8")
    for words in (["daemon-reload"], ["enable", "--now", UNIT]):
        code = _systemctl(options, words)
        if code != 0:
            return REFUSED
    say(f"Installed {path}: it runs now, and starts with the machine. `runyard service uninstall` takes it away.")
    if not options.system:
        say("`loginctl enable-linger` starts it at boot; without, it starts when you log in.")
    return 0


def _uninstall(options: ServiceOptions) -> int:
    path = _path(options)
    if not path.exists():
        say(f"There is no {path}.")
        return 0
    code = _systemctl(options, ["disable", "--now", UNIT])
    path.unlink()
    _systemctl(options, ["daemon-reload"])
    say("Removed. Programs that ran go on; `runyard up` finds them.")
    return 0 if code == 0 else REFUSED


def _status(options: ServiceOptions) -> int:
    return _systemctl(options, ["status", "--no-pager", UNIT])


def _systemctl(options: ServiceOptions, words: Sequence[str]) -> int:
    scope = [] if options.system else ["--user"]
    return subprocess.run(["systemctl", *scope, *words], check=False).returncode
