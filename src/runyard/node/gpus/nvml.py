"""NVIDIA's GPUs by their management library (NVML, https://docs.nvidia.com/deploy/nvml-api)."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from runyard.core.gpus import Holder, Sight
from runyard.node.gpus.seeing import Unseen, Xid


class Nvml:
    """A :class:`runyard.node.gpus.seeing.Gpus`. The library stays loaded, as waiting for its events asks for."""

    def __init__(self, nvml: Any, indices: Sequence[int]) -> None:
        self._nvml = nvml
        self._handles = {index: nvml.nvmlDeviceGetHandleByIndex(index) for index in indices}
        self._by_bus = {_bus(nvml, handle): index for index, handle in self._handles.items()}
        self._events: Any = None
        self._lock = threading.Lock()

    def look(self, index: int) -> Sight:
        """See :class:`runyard.node.gpus.seeing.Gpus`."""
        nvml, handle = self._nvml, self._handles[index]
        try:
            used = int(self._memory(handle).used)
        except nvml.NVMLError_NotSupported:
            used = 0  # its memory is the machine's own
        except nvml.NVMLError as error:
            raise Unseen(str(error)) from None
        _, _, pending, failed = self._asked(lambda: nvml.nvmlDeviceGetRemappedRows(handle), (0, 0, 0, 0))
        retiring = self._asked(lambda: nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle), 0)
        return Sight(
            used,
            self._holders(handle),
            self._asked(lambda: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu), None),
            int(self._asked(lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, *self._uncorrected()), 0)),
            bool(pending or retiring),
            bool(failed),
        )

    def _memory(self, handle: Any) -> Any:
        """The second version tells the driver's own memory apart; old drivers have the first one alone."""
        with suppress(self._nvml.NVMLError):
            return self._nvml.nvmlDeviceGetMemoryInfo(handle, version=self._nvml.nvmlMemory_v2)
        return self._nvml.nvmlDeviceGetMemoryInfo(handle)

    def _uncorrected(self) -> tuple[int, int]:
        return self._nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, self._nvml.NVML_VOLATILE_ECC

    def _holders(self, handle: Any) -> tuple[Holder, ...]:
        nvml = self._nvml
        sizes: dict[int, int | None] = {}
        for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            for each in self._asked(lambda ask=ask: ask(handle), ()):
                sizes[int(each.pid)] = None if each.usedGpuMemory is None else int(each.usedGpuMemory)
        return tuple(Holder(pid, size) for pid, size in sizes.items())

    def _asked(self, ask: Callable[[], Any], otherwise: Any) -> Any:
        """What a GPU answers; not every kind knows every question."""
        try:
            return ask()
        except self._nvml.NVMLError:
            return otherwise

    def wait(self, timeout_s: float) -> Xid | None:
        """See :class:`runyard.node.gpus.seeing.Gpus`."""
        try:
            with self._lock:
                events = self._registered()
            told = self._nvml.nvmlEventSetWait_v2(events, math.ceil(timeout_s * 1000))
            index = self._by_bus.get(_bus(self._nvml, told.device))
        except self._nvml.NVMLError_Timeout:
            return None
        except self._nvml.NVMLError as error:
            raise Unseen(str(error)) from None
        return None if index is None else Xid(index, int(told.eventData))

    def _registered(self) -> Any:
        """The set of events, made once: errors that come between two calls wait in it."""
        if self._events is None:
            nvml, events = self._nvml, self._nvml.nvmlEventSetCreate()
            for handle in self._handles.values():
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
            self._events = events
        return self._events


def _bus(nvml: Any, handle: Any) -> str:
    found = nvml.nvmlDeviceGetPciInfo(handle).busId
    return found.decode() if isinstance(found, bytes) else str(found)


def open_nvml(indices: Sequence[int]) -> Nvml | None:
    """The library over some GPUs, kept open; None where there is none, or it does not answer."""
    try:
        import pynvml  # noqa: PLC0415 - start-up time and memory where there is no GPU  # pyright: ignore[reportMissingTypeStubs] - it has none
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return Nvml(pynvml, indices)
    except pynvml.NVMLError:
        return None
