"""The imports of a warm parent, and the test whether it may fork: one thread, no GPU in use, threads that work in a
child."""

from __future__ import annotations

import atexit
import gc
import os
import select
import sys
import time

from runyard.shim.lean import signals
from runyard.shim.warm.ground import Ground, Watch
from runyard.shim.warm.memory import join_pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALONE = {"OPENBLAS_NUM_THREADS": "1"}
"""What starts threads when it is imported is told not to."""
UNTOUCHED = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""PyTorch is told to ask for GPUs without taking hold of them, which a fork would not survive."""
TEST_LIMIT_S = 10.0


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
    failed: dict[str, str] = {}
    spoilt: dict[str, str] = {}
    gc.disable()
    os.environ.update({**ALONE, **UNTOUCHED})
    with Watch(ground):
        for name in modules:
            try:
                __import__(name)
            except BaseException as error:  # whatever an import does, the others may still work
                (failed if _is_not_there(error, name) else spoilt)[name] = f"{type(error).__name__}: {error}"[:300]
    if spoilt:
        raise Spoilt(spoilt)
    for name in (*ALONE, *UNTOUCHED):
        os.environ.pop(name)
        if name in ground.env:
            os.environ[name] = ground.env[name]
    ground.read -= {*ALONE, *UNTOUCHED}
    _keep_few_exits(ground)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        _forget_gpus(torch)
    if threads() != 1:
        raise Unfit(f"The imports have started {threads() - 1} more threads: {', '.join(modules)} cannot be forked.")
    gc.collect()
    gc.freeze()
    if torch is not None:
        _test(torch)
        join_pages()
    gc.enable()
    return int((time.monotonic() - began) * 1000), failed


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


def _test(torch: Any) -> None:
    """Whether a child can compute with two threads, forward and backward. Raises :class:`Unfit`."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(2)
            weights = torch.ones((400, 400), requires_grad=True)
            (weights @ weights).sum().backward()
            os.write(told, b"1")
        finally:
            os._exit(0)
    os.close(told)
    ready = select.select([heard], [], [], TEST_LIMIT_S)[0]
    worked = bool(ready) and os.read(heard, 1) == b"1"
    os.close(heard)
    if not worked:
        os.kill(child, signals.SIGKILL)
    os.waitpid(child, 0)
    if not worked:
        raise Unfit("A forked child could not compute with two threads.")
