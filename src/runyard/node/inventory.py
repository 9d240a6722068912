"""What a machine has to offer: GPU slots, CPUs, memory, and sentences on what is not isolated here."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runyard.node.features import find_features, find_namespaces, missing_walls
from runyard.shim.cgroups import hierarchies

MEMORY_SHARE = 90
"""Per cent of the memory that runs may have: the rest is for the machine itself and for us."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU as the driver numbers it (in the order of the PCI bus)."""

    index: int
    name: str
    uuid: str = ""
    nodes: tuple[str, ...] = ()
    """Below ``/dev``: what a program opens to use it."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What runs may have. ``devices[slot // slots_per_gpu]`` is the device behind a slot; none when ``logical``.
    ``features``: see :mod:`runyard.node.features`."""

    gpus: tuple[str, ...]
    logical: bool
    cpu_millis: int
    memory_mib: int
    devices: tuple[Device, ...] = ()
    slots_per_gpu: int = 1
    notes: tuple[str, ...] = field(default=())
    features: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    """The device nodes of all the machine's GPUs, those that are not offered among them."""

    def visible_devices(self, slots: Sequence[int]) -> str:
        """``CUDA_VISIBLE_DEVICES`` for some slots: devices, each once; empty when nothing is behind them.

        They are numbers, but where other GPUs are closed to the program, which counts its own from 0 then: there they
        are called by their UUIDs, which hold in either case."""
        given = self._given(slots)
        if self.closed_nodes(slots) and all(device.uuid for device in given):
            return ",".join(device.uuid for device in given)
        return ",".join(str(device.index) for device in given)

    def closed_nodes(self, slots: Sequence[int]) -> list[str]:
        """The device nodes that a program with some slots is not given."""
        given = {node for device in self._given(slots) for node in device.nodes}
        return [node for node in self.nodes if node not in given]

    def devices_of(self, slots: Sequence[int]) -> list[Device]:
        """The devices behind some slots, each once."""
        return self._given(slots)

    def _given(self, slots: Sequence[int]) -> list[Device]:
        devices = {self.devices[slot // self.slots_per_gpu] for slot in slots if self._is_real(slot)}
        return sorted(devices, key=lambda device: device.index)

    def _is_real(self, slot: int) -> bool:
        return 0 <= slot // self.slots_per_gpu < len(self.devices)


def take_inventory(
    *, gpus: str = "all", fake_gpus: int = 0, slots_per_gpu: int = 1, take: Callable[[Device], bool] | None = None
) -> Inventory:
    """Look at the machine.

    ``gpus``: ``all``, ``none``, or numbers such as ``0,2``; ``fake_gpus`` pretends that there are so many, numbered
    from 0. Without any GPU each CPU core is a logical slot. ``take`` says of a GPU
    whether this installation may have it. Raises ``ValueError`` for a device that is not there.
    """
    cpu_millis, memory_mib = cpu_limit_millis(), memory_limit_mib()
    logical = False
    found: tuple[Device, ...] = ()
    if fake_gpus:
        devices = tuple(Device(index, "fake GPU") for index in range(fake_gpus))
    else:
        found = find_devices()
        devices = choose(found if gpus != "none" else (), gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    wanted, devices = devices, tuple(filter(take, devices)) if take is not None else devices
    names = [device.name for device in devices for _ in range(slots_per_gpu)]
    if not wanted:
        logical = True
        names = ["logical slot"] * max(1, cpu_millis // 1000)
    return Inventory(
        gpus=tuple(names),
        logical=logical or bool(fake_gpus),
        cpu_millis=cpu_millis,
        memory_mib=memory_mib,
        devices=devices,
        slots_per_gpu=slots_per_gpu if devices else 1,
        notes=tuple(isolation_notes(os.geteuid())),
        features=find_features(),
        nodes=tuple(node for device in found for node in device.nodes),
    )


def choose(found: Sequence[Device], wanted: str, environment: str | None) -> tuple[Device, ...]:
    """The devices that the operator and the node's own ``CUDA_VISIBLE_DEVICES`` both allow."""
    if environment is not None:
        names = [name.strip() for name in environment.split(",") if name.strip()]
        found = [device for device in found if _is_named(device, names)]
    if wanted in ("all", "none"):
        return tuple(found) if wanted == "all" else ()
    by_index = {str(device.index): device for device in found}
    missing = [number for number in wanted.split(",") if number not in by_index]
    if missing:
        raise ValueError(f"--gpus {wanted}: this machine offers {', '.join(by_index) or 'no GPU'}.")
    return tuple(by_index[number] for number in wanted.split(","))


def _is_named(device: Device, names: Sequence[str]) -> bool:
    return any(name == str(device.index) or (len(name) > 4 and device.uuid.startswith(name)) for name in names)


def find_devices() -> tuple[Device, ...]:
    """The machine's NVIDIA GPUs, by their management library."""
    if not glob.glob("/dev/nvidia[0-9]*") and not os.path.exists("/dev/dxg"):
        return ()
    import pynvml  # noqa: PLC0415 - start-up time and memory where there is no GPU  # pyright: ignore[reportMissingTypeStubs] - it has none

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_device(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def _device(nvml: Any, index: int) -> Device:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    minor, bus = int(nvml.nvmlDeviceGetMinorNumber(handle)), _text(nvml.nvmlDeviceGetPciInfo(handle).busId)
    nodes = (f"/dev/nvidia{minor}", *drawing_nodes(bus))
    return Device(index, _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle)), nodes)


def drawing_nodes(bus: str, below: str = "/sys/bus/pci/devices") -> tuple[str, ...]:
    """The other door to a GPU: ``/dev/dri/card0``, ``/dev/dri/renderD128`` of a PCI address as NVML writes it."""
    domain, _, rest = bus.lower().partition(":")
    folder = f"{below}/{domain[-4:]}:{rest}/drm"
    try:
        return tuple(f"/dev/dri/{name}" for name in sorted(os.listdir(folder)))
    except OSError:
        return ()  # none: a driver without graphics


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


# ------------------------------------------------------------------------------------------------- CPUs and memory


def cpu_limit_millis() -> int:
    """Milli-CPUs that this process may use: its affinity, and the quotas of the control groups around it."""
    limits = [len(os.sched_getaffinity(0)) * 1000]
    for folder, unified in _groups("cpu"):
        if unified:
            quota, _, period = _read(folder + "/cpu.max").partition(" ")
        else:
            quota, period = _read(folder + "/cpu.cfs_quota_us"), _read(folder + "/cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            limits.append(int(quota) * 1000 // int(period))
    return max(100, min(limits))


def memory_limit_mib() -> int:
    """MiB that runs may have: a share of the machine's memory, or of the control groups' limit around this process."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    limits = [int(match[1]) * 1024] if match else []
    for folder, unified in _groups("memory"):
        text = _read(folder + ("/memory.max" if unified else "/memory.limit_in_bytes"))
        if text.isdigit():
            limits.append(int(text))
    return max(64, min(limits, default=1 << 30) * MEMORY_SHARE // 100 // (1 << 20))


def _groups(controller: str) -> list[tuple[str, bool]]:
    """The folders of this process's groups from its own upwards, where one controller's limits stand."""
    found: list[tuple[str, bool]] = []
    for hierarchy in hierarchies():
        if controller in hierarchy.controllers:
            mount = hierarchy.bases[-1]
            folder = hierarchy.bases[0]
            while folder.startswith(mount):
                found.append((folder, hierarchy.unified))
                folder = os.path.dirname(folder)
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


# ------------------------------------------------------------------------------------------------------ isolation


def isolation_notes(
    user: int, controllers: Mapping[str, bool] | None = None, namespaces: Sequence[str] | None = None
) -> list[str]:
    """Sentences on what is not isolated on this machine. ``controllers``: whether a control group gives each limit;
    ``namespaces``: those that programs can be born in."""
    given = find_namespaces() if namespaces is None else namespaces
    held = group_controllers() if controllers is None else controllers
    notes: list[str] = []
    if user != 0:
        walls = "Programs share its user id, and namespaces part them: they may read what it may outside of its home."
        notes.append(" ".join(["The node does not run as root.", *(missing_walls(given, user) or [walls])]))
    missing = [name for name in ("memory", "cpu", "pids") if not held.get(name)]
    if missing:
        notes.append(
            f"No control group limits {' and '.join(missing)} here: a program may take more than it asked for."
        )
    return notes


def group_controllers() -> dict[str, bool]:
    """Which limits control groups can give here."""
    held: dict[str, bool] = {}
    for hierarchy in hierarchies():
        writable = any(os.access(base, os.W_OK) for base in hierarchy.bases)
        for controller in hierarchy.controllers:
            held[controller] = held.get(controller, False) or writable
    return held
