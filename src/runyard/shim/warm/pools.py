"""The pools of threads of loaded libraries: how many threads each will use."""

from __future__ import annotations

import _ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
