"""What a fork has wrong by being one, put right in the child: variables, random numbers, threads, cached places."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from runyard.shim.warm.ground import Ground

PUT_RIGHT = frozenset(("PYTHONPATH", "TZ", "OMP_NUM_THREADS"))
"""Variables that are read at the start, and applied here."""
KEPT_BY_NONE = frozenset(
    ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "TMPDIR", "TEMP", "TMP", "PATH", "PWD", "SHLVL", "_", "COLUMNS")
)
"""Variables that differ in every run. What is remembered of them is forgotten in :func:`take_environment`."""


def take_environment(ground: Ground, env: dict[str, str]) -> None:
    """Have exactly these variables, and those that imports set by themselves; forget what was remembered of others."""
    _set_variables({**env, **{name: value for name, value in ground.added.items() if name not in env}})
    if env.get("TZ") != ground.env.get("TZ"):
        time.tzset()
    modules = sys.modules
    tempfile: Any = modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None
    process: Any = modules.get("multiprocessing.process")
    if process is not None:
        process.ORIGINAL_DIR = os.getcwd()
        process.current_process().authkey = os.urandom(32)
    site: Any = modules.get("site")
    if site is not None and site.ENABLE_USER_SITE:
        _user_site(site)


def _set_variables(env: dict[str, str]) -> None:
    """``os.environ.clear()`` and ``update(env)``, which take ten calls for each variable, whether it changes or not."""
    held: Any = os.environ
    data: dict[bytes, bytes] = held._data
    wanted = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    for name in data.keys() - wanted.keys():
        os.unsetenv(name)
    for name, value in wanted.items():
        if data.get(name) != value:
            os.putenv(name, value)
    data.clear()
    data.update(wanted)


def _user_site(site: Any) -> None:
    """Packages that the program's own user has installed."""
    before: str | None = site.USER_SITE
    site.USER_BASE = site.USER_SITE = None
    now: str = site.getusersitepackages()
    if now != before:
        sys.path[:] = [entry for entry in sys.path if entry != before]
        if os.path.isdir(now):
            site.addsitedir(now)


def have_forked(ground: Ground) -> None:
    """What imports have asked for at forks, once for the two that lead here; it is asked for again, for those that the
    program makes."""
    for named in reversed(ground.forks):
        _call(named.get("before"))
    for named in ground.forks:
        _call(named.get("after_in_child"))
    for named in ground.forks:
        os.register_at_fork(**named)


def _call(function: Callable[[], object] | None) -> None:
    try:
        if function is not None:
            function()
    except BaseException:
        pass  # in a fresh interpreter there would have been none


def put_right(ground: Ground, env: dict[str, str]) -> None:
    """Random numbers and threads as in a fresh interpreter."""
    modules = sys.modules
    numpy: Any = modules.get("numpy.random.mtrand")
    if numpy is not None:
        numpy.seed()
    torch: Any = modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()
    if ground.pools is not None:
        ground.pools.set(int(env["OMP_NUM_THREADS"]), torch)
    threading: Any = modules.get("threading")
    if threading is not None and hasattr(threading.main_thread(), "_set_native_id"):
        threading.main_thread()._set_native_id()
