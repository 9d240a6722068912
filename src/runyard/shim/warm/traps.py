"""What a fork has wrong by being one, put right in the child: variables, random numbers, threads, cached places."""

from __future__ import annotations

import _ctypes
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runyard.shim.warm.ground import Ground

PUT_RIGHT = frozenset(("PYTHONPATH", "TZ", "OMP_NUM_THREADS"))
"""Variables that are read at the start, and applied here."""
KEPT_BY_NONE = frozenset(
    ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "TMPDIR", "TEMP", "TMP", "PATH", "PWD", "SHLVL", "_", "COLUMNS")
)
"""Variables that differ in every run. What is remembered of them is forgotten in :func:`take_environment`."""


class _Call(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI


OPENMP = ("libgomp", "libomp", "libiomp")
SET_OPENBLAS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


class Pools:
    """The functions of loaded libraries that say how many threads they use."""

    __slots__ = ("default", "mkl_dynamic", "openblas", "openmp")

    def __init__(self) -> None:
        self.openmp: list[Any] = []
        self.openblas: list[Any] = []
        self.mkl_dynamic: list[Any] = []
        self.default = 0
        """How many threads OpenMP takes where nothing is said: as many as there were cores at the imports."""
        with open("/proc/self/maps") as file:
            paths = {line.split(None, 5)[5].rstrip("\n") for line in file if ".so" in line}
        for path in sorted(paths):
            name = os.path.basename(path)
            if name.startswith(OPENMP):
                self.openmp += _functions(path, "omp_set_num_threads")
                self.default = next((function() for function in _functions(path, "omp_get_max_threads")), 0)
            elif "openblas" in name:
                self.openblas += _functions(path, *SET_OPENBLAS)[:1]
            elif name.startswith("libtorch_cpu"):
                self.mkl_dynamic = _functions(path, "MKL_Set_Dynamic")

    def set(self, count: int, torch: Any) -> None:
        """As a fresh start with ``OMP_NUM_THREADS=count`` on these cores would have it."""
        for function in self.openmp:
            function(count)
        if torch is not None and count != self.default:
            torch.set_num_threads(count)  # for threads to come, which would start with the default
            for function in self.mkl_dynamic:
                function(1)  # which that call has switched off, as a fresh start does not
        if count > 1:  # one is what OpenBLAS was told
            for function in self.openblas:
                function(min(count, len(os.sched_getaffinity(0))))


def _functions(path: str, *names: str) -> list[Any]:
    """Those of a loaded library that it has."""
    found: list[Any] = []
    try:
        library = _ctypes.dlopen(path, os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return found
    for name in names:
        try:
            found.append(_Call(_ctypes.dlsym(library, name)))
        except OSError:
            continue  # another build of it
    return found


def take_environment(ground: Ground, env: dict[str, str]) -> None:
    """Have exactly these variables, and those that imports set by themselves; forget what was remembered of others."""
    os.environ.clear()
    os.environ.update(env)
    for name, value in ground.added.items():
        os.environ.setdefault(name, value)
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


def tempfile_folder() -> str | None:
    """The folder for temporary files that imports have found."""
    tempfile: Any = sys.modules.get("tempfile")
    return None if tempfile is None else tempfile.tempdir


def _user_site(site: Any) -> None:
    """Packages that the program's own user has installed."""
    before: str | None = site.USER_SITE
    site.USER_BASE = site.USER_SITE = None
    now: str = site.getusersitepackages()
    if now != before:
        sys.path[:] = [entry for entry in sys.path if entry != before]
        if os.path.isdir(now):
            site.addsitedir(now)


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
