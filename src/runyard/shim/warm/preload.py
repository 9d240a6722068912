"""The imports of a warm parent, and the test whether it may fork: one thread, no GPU in use, threads that work in a
child. What it has by then its forks share as it lies in memory, which is put in order."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import time

from runyard.shim.warm.ground import Ground, Watch
from runyard.shim.warm.memory import fill_holes, join_pages
from runyard.shim.warm.rehearsal import Learnt, rehearse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALONE = {"OPENBLAS_NUM_THREADS": "1"}
"""What starts threads when it is imported is told not to."""
UNTOUCHED = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""PyTorch is told to ask for GPUs without taking hold of them, which a fork would not survive."""


class Unfit(Exception):
    """Why a warm parent may not fork, in a sentence."""


class Spoilt(Exception):
    """``failed``: why, by name, of modules whose import broke off halfway. What they did before is left behind, and a
    program's own import of them might fail for that: no program may be forked from here."""

    def __init__(self, failed: dict[str, str]) -> None:
        super().__init__(failed)
        self.failed = failed


def preload(ground: Ground, modules: list[str]) -> tuple[int, dict[str, str]]:
    """Import modules; returns the milliseconds and, by module that is not there, why. Raises :class:`Unfit` and
    :class:`Spoilt`."""
    began = time.monotonic()
    gc.disable()
    os.environ.update({**ALONE, **UNTOUCHED})
    with Watch(ground):
        failed = _import(modules)
        torch: Any = sys.modules.get("torch")
        learnt = None if torch is None else _rehearsed(torch, modules)
    for name in (*ALONE, *UNTOUCHED):
        os.environ.pop(name)
        if name in ground.env:
            os.environ[name] = ground.env[name]
    ground.read -= {*ALONE, *UNTOUCHED}
    _keep_few_exits(ground)
    if torch is not None:
        _forget_gpus(torch)
    _must_be_alone(modules)
    if learnt is not None:
        learnt.get_ready()
    gc.collect()
    ground.kept = fill_holes()
    gc.freeze()
    if learnt is not None:
        join_pages()
    gc.enable()
    return int((time.monotonic() - began) * 1000), failed


def _import(modules: list[str]) -> dict[str, str]:
    """Import modules; returns, by module that is not there, why. Raises :class:`Spoilt`."""
    failed: dict[str, str] = {}
    spoilt: dict[str, str] = {}
    for name in modules:
        try:
            __import__(name)
        except BaseException as error:  # whatever an import does, the others may still work
            (failed if _is_not_there(error, name) else spoilt)[name] = f"{type(error).__name__}: {error}"[:300]
    if spoilt:
        raise Spoilt(spoilt)
    return failed


def _rehearsed(torch: Any, modules: list[str]) -> Learnt:
    """Import what a child had to import that computed; returns what else it had to get. Raises :class:`Unfit`."""
    _must_be_alone(modules)
    learnt = rehearse(torch)
    if learnt is None:
        raise Unfit("A forked child could not compute with two threads.")
    try:
        _import(learnt.modules)
    except Spoilt as spoilt:  # though the child could: begun again, it would be the same
        raise Unfit(f"A part of PyTorch could not be imported: {spoilt.failed}.") from None
    return learnt


def _must_be_alone(modules: list[str]) -> None:
    if threads() != 1:
        raise Unfit(f"The imports have started {threads() - 1} more threads: {', '.join(modules)} cannot be forked.")


def _is_not_there(error: BaseException, name: str) -> bool:
    """Whether a module, or a package that it would be in, is not installed: then nothing of it has run."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return missing is not None and (name == missing or name.startswith(missing + "."))


def threads() -> int:
    """How many threads this process has."""
    return len(os.listdir("/proc/self/task"))


def _keep_few_exits(ground: Ground) -> None:
    """What imports left to do at the end is done in every child, but for their finalizers, whose walk costs a child
    the pages that they lie on."""
    weak: Any = sys.modules.get("weakref")
    exits = [item for item in ground.exits if getattr(item[0], "__module__", None) != "weakref"]
    register: Any = atexit
    register._clear()
    for function, args, named in exits:
        register.register(function, *args, **named)
    if weak is not None:
        weak.finalize._registry.clear()
        weak.finalize._registered_with_atexit = False


def _forget_gpus(torch: Any) -> None:
    if torch.cuda.is_initialized():
        raise Unfit("The imports have initialised CUDA: no fork could use a GPU.")
    if getattr(torch.cuda, "_cached_device_count", None) is not None:
        torch.cuda._cached_device_count = None  # counted without the run's CUDA_VISIBLE_DEVICES
