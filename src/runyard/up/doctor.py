"""``runyard doctor``: what is missing or wrong on this machine, and what is not isolated on it."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from runyard import settings
from runyard.cli.options import DoctorOptions
from runyard.core.containers import takes_cdi
from runyard.core.errors import RunyardError
from runyard.node.containers.engines import find
from runyard.node.features import find_namespaces, missing_walls, tried
from runyard.shim import metadata, scope, seccomp
from runyard.shim.cgroups import hierarchies
from runyard.up import record
from runyard.up.finding import Finding
from runyard.up.gpus import examine_gpus
from runyard.up.say import answer

_SERVER_PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "obstore", "msgspec", "yaml", "cryptography")
_LOW_BYTES = 5 * 1024**3


def doctor(options: DoctorOptions) -> int:
    """Print the findings; returns 0 when nothing is bad, 1 otherwise."""
    home = Path(options.home).expanduser().absolute()
    found = examine(home)
    if options.gpu:
        found = [each for each in found if each.what != "GPUs"] + list(examine_gpus(home))
    if options.json:
        answer(json.dumps({"findings": [asdict(each) for each in found]}, indent=2))
    else:
        signs = {"ok": "ok  ", "note": "note", "bad": "BAD "}
        for each in found:
            answer(f"{signs[each.level]}  {each.what}: {each.text}")
    return 1 if any(each.level == "bad" for each in found) else 0


def examine(home: Path) -> list[Finding]:
    """Look at the machine and the installation in ``home``."""
    found = [_python(), _system()]
    if not sys.platform.startswith("linux"):
        return found
    checks: tuple[Callable[[], Iterable[Finding]], ...] = (
        _packages,
        lambda: _home(home),
        lambda: _settings(home),
        _cgroups,
        _users,
        _gpus,
        lambda: _containers(home),
        lambda: _installation(home),
        _isolation,
        lambda: _left_open(home),
    )
    for check in checks:
        found.extend(check())
    return found


def _python() -> Finding:
    version = platform.python_version()
    level = "ok" if sys.version_info >= (3, 11) else "bad"
    return Finding("Python", level, f"{version} at {sys.executable}" + ("" if level == "ok" else "; 3.11 is needed"))


def _system() -> Finding:
    if sys.platform.startswith("linux"):
        return Finding("system", "ok", f"Linux {platform.release()}")
    return Finding("system", "note", f"{platform.system()}: the client works here; server and node need Linux")


def _packages() -> Iterable[Finding]:
    missing = [name for name in _SERVER_PACKAGES if importlib.util.find_spec(name) is None]
    if len(missing) == len(_SERVER_PACKAGES):
        text = "this machine can only submit; to run things here: pip install 'runyard[server]'"
        yield Finding("packages", "note", text)
    elif missing:
        yield Finding("packages", "bad", f"{', '.join(missing)} missing: pip install 'runyard[server]'")
    else:
        yield Finding("packages", "ok", "all that server and node need")
    torch = importlib.util.find_spec("torch") is not None
    yield Finding("PyTorch", "ok" if torch else "note", "in this interpreter" if torch else "not in this interpreter")


def _home(home: Path) -> Iterable[Finding]:
    existing = next(path for path in (home, *home.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield Finding("home", "bad", f"{existing} cannot be written: set RUNYARD_HOME to a folder of yours")
        return
    free = shutil.disk_usage(existing).free
    level = "ok" if free > _LOW_BYTES else "note"
    yield Finding("disk", level, f"{free / 1024**3:.1f} GiB free at {existing}")
    for name in ("token", "node/token", "server/key"):
        path = home / name
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Finding("secrets", "bad", f"{path} can be read by others: chmod 600 {path}")


def _settings(home: Path) -> Iterable[Finding]:
    try:
        settings.load(home)
    except RunyardError as error:
        yield Finding("settings", "bad", error.message)
    else:
        there = (home / "settings.toml").exists()
        yield Finding("settings", "ok", "settings.toml can be used" if there else "the defaults: no settings.toml")


def _cgroups() -> Iterable[Finding]:
    controllers = sorted({name for each in hierarchies() for name in each.controllers})
    needed = [name for name in ("memory", "cpu", "pids") if name not in controllers]
    if os.geteuid() != 0 and not any(os.access(base, os.W_OK) for each in hierarchies() for base in each.bases):
        text = "not ours to write: memory and CPU limits of runs are not enforced; with systemd a user's service has"
        yield Finding(
            "cgroups", "note", f"{text} its own (`runyard service install`, `systemd-run --user --scope ...`)"
        )
    elif needed:
        yield Finding("cgroups", "note", f"{', '.join(needed)} missing: these limits of runs are not enforced")
    else:
        yield Finding("cgroups", "ok", f"limits by {', '.join(controllers)}")


def _users() -> Iterable[Finding]:
    if os.geteuid() != 0:
        if "mount" in find_namespaces():
            text = "programs run as this user, parted from it and each other by user namespaces"
        else:
            text = "programs run as this user, and could change their own exit record"
        yield Finding("user ids", "note", f"not root: {text}")
        return
    prefix = Path(sys.base_prefix).resolve()
    closed = [str(path) for path in (prefix, *prefix.parents) if not path.stat().st_mode & stat.S_IXOTH]
    if not closed:
        yield Finding("user ids", "ok", "root: each member's programs run under a user id of their own")
    elif _may_unshare():
        text = (
            f"root; the interpreter lies below {closed[-1]}, closed to other users: runs see just what they need of it"
        )
        yield Finding("user ids", "ok", text)
    else:
        text = f"the interpreter lies below {closed[-1]}, closed to other users, and mount namespaces are not allowed"
        yield Finding("user ids", "bad", f"{text}: chmod o+x the folder, or install Python elsewhere")


def _containers(home: Path) -> Iterable[Finding]:
    """Which engine runs container images, or what is to be done to have one."""
    try:
        wanted = settings.load(home).container_engine
    except RunyardError:
        return  # said already
    found = find(wanted, dict(os.environ), thoroughly=True)
    if isinstance(found, str):
        text = f"{found}: runs that name an image (`framework: custom`) are refused"
        text += "" if wanted == "none" else "; to have them: apt-get install podman, or start the Docker daemon"
        yield Finding("containers", "note", text)
        return
    engine = found.engine
    gpus = "GPUs by CDI" if takes_cdi(engine) else "no CDI specification for GPUs (`nvidia-ctk cdi generate`)"
    rootless = "; it runs without root: limits are its own, and untried" if engine.rootless else ""
    yield Finding("containers", "ok", f"{engine} at {engine.path}; {gpus}{rootless}")


def _may_unshare() -> bool:
    child = os.fork()
    if child == 0:
        os._exit(0 if ctypes.CDLL(None).unshare(0x00020000) == 0 else 1)  # CLONE_NEWNS, unshare(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _gpus() -> Iterable[Finding]:
    try:
        import pynvml  # noqa: PLC0415 - an optional package, looked for by this very check  # pyright: ignore[reportMissingTypeStubs] - it has none
    except ImportError:
        yield Finding("GPUs", "note", "nvidia-ml-py is not installed: GPUs are not looked for")
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield Finding("GPUs", "note", "no NVIDIA driver: GPU slots are logical ones, one a core")
        return
    count = int(pynvml.nvmlDeviceGetCount())
    pynvml.nvmlShutdown()
    yield Finding("GPUs", "ok" if count else "note", f"{count} found by the NVIDIA driver")


def _installation(home: Path) -> Iterable[Finding]:
    running = record.read(home)
    if running is None:
        yield Finding("installation", "note", f"not running in {home}: `runyard up` starts it")
    else:
        yield Finding("installation", "ok", f"running at {running.url} (home {home})")


def _left_open(home: Path) -> Iterable[Finding]:
    """What the operator has opened."""
    try:
        chosen = settings.load(home)
    except RunyardError:
        return  # told above
    for sentence in seccomp.opened(chosen.allow_system_calls):
        yield Finding("not isolated", "note", f"{sentence} (allow_system_calls)")


def _isolation() -> Iterable[Finding]:
    works = tried()
    missing = missing_walls(find_namespaces())
    if not missing:
        yield Finding("isolated", "ok", "each program sees its own processes, files, /dev/shm and GPUs alone")
        if os.geteuid() != 0:
            text = "files that this user may read outside of its home: programs can read them, too"
            yield Finding("not isolated", "note", text)
    else:
        yield Finding("not isolated", "note", "processes: runs of one member see each other's (no PID namespaces)")
        yield Finding("not isolated", "note", "files: runs of one member can read each other's (no mount namespaces)")
        text = "GPUs: they are handed out by CUDA_VISIBLE_DEVICES, which a program can ignore (no mount namespaces)"
        yield Finding("not isolated", "note", text)
        yield from (Finding("not isolated", "note", sentence) for sentence in missing)
    unfiltered = seccomp.missing()
    if unfiltered:
        yield Finding("not isolated", "note", unfiltered[0])
    else:
        yield Finding("isolated", "ok", "programs are refused system calls that no training needs")
    if not scope.is_possible():
        text = "abstract sockets (X11, D-Bus, those of other runs): programs can reach them (Linux 6.12 can part them)"
        yield Finding("not isolated", "note", text)
    if "metadata" in works:
        yield Finding("isolated", "ok", "the cloud's metadata address is closed to programs")
    else:
        why = (
            "the node must run as root, on Linux 4.17 or later" if os.geteuid() != 0 else "the kernel has no such rules"
        )
        yield Finding("not isolated", "note", f"{metadata.OPEN} ({why})")
    yield Finding(
        "not isolated", "note", "the network: programs reach what this machine reaches, but for `network: off`"
    )
