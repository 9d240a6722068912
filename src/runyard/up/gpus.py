"""``runyard doctor --gpu``: whether the GPUs of this machine do what runs need of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runyard.core.gpus import Sight, broken
from runyard.node.gpus.nvml import Nvml
from runyard.node.gpus.seeing import ERRORS, Unseen
from runyard.up.finding import Finding
from runyard.up.record import boot_id

TRIES = Path(__file__).with_name("gpu_tries.py")
PATIENCE_S = 180.0
FREED_WITHIN_S = 15.0
SLACK_BYTES = 64 << 20
"""Memory of a device goes up and down by so much without us."""
NO_DRIVER = (
    "no NVIDIA driver answers on this machine: install it (`nvidia-smi` must work), or start containers with "
    "the GPUs passed in. Without GPUs slots are logical ones, and `runyard doctor` without --gpu is enough"
)


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU as the driver tells of it. ``index`` is in the order of the PCI bus, memory in bytes; ``holders``:
    processes and what each holds (None: the driver does not say)."""

    index: int
    name: str
    memory: int
    used: int
    holders: tuple[tuple[int, int | None], ...]


def examine_gpus(home: Path | None = None) -> Iterator[Finding]:
    """Look at each device, and try it; ``home``: an installation that may have heard of errors."""
    yield from [] if home is None else kept_back(home)
    nvml = _nvml()
    if nvml is None:
        yield Finding("GPUs", "bad", "nvidia-ml-py is not installed: pip install 'runyard[server]'")
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        yield Finding("GPUs", "bad", NO_DRIVER)
        return
    try:
        count = int(nvml.nvmlDeviceGetCount())
        yield Finding(
            "GPU driver", "ok" if count else "bad", f"{_text(nvml.nvmlSystemGetDriverVersion())}, {count} GPUs"
        )
        for index in range(count):
            yield from _examine(nvml, index)
        if count > 1:
            yield reduced("cuda", (0, 1))
        elif count == 1:
            yield Finding("GPUs together", "note", "there is one: nothing to try between two")
    finally:
        nvml.nvmlShutdown()


def _nvml() -> Any:
    try:
        import pynvml  # noqa: PLC0415 - an optional package, looked for by this very check  # pyright: ignore[reportMissingTypeStubs] - it has none
    except ImportError:
        return None
    return pynvml


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _examine(nvml: Any, index: int) -> Iterator[Finding]:
    try:
        yield described(card_of(nvml, index))
        yield well(index, Nvml(nvml, [index]).look(index))
        tried = multiplied(index, "cuda")
        yield tried
        if tried.level == "ok":
            yield freed(index, "cuda", lambda: card_of(nvml, index).used)
    except (nvml.NVMLError, Unseen) as error:
        yield Finding(f"GPU {index}", "bad", f"the driver does not tell of it: {error}")


def card_of(nvml: Any, index: int) -> Card:
    """What the driver says of a device now."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    holders: list[tuple[int, int | None]] = []
    with suppress(nvml.NVMLError):
        found = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        holders = [(int(each.pid), None if each.usedGpuMemory is None else int(each.usedGpuMemory)) for each in found]
    return Card(index, _text(nvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.used), tuple(holders))


def described(card: Card) -> Finding:
    """A device in words: its name, its memory, and who holds some."""
    text = f"{card.name}, {_gib(card.memory)}, {_gib(card.memory - card.used)} free"
    if not card.holders:
        return Finding(f"GPU {card.index}", "ok", text)
    held = ", ".join(f"{pid} ({'unknown' if size is None else _gib(size)})" for pid, size in card.holders)
    return Finding(f"GPU {card.index}", "note", f"{text}; processes hold memory of it: {held}")


def well(index: int, sight: Sight) -> Finding:
    """Whether the counters of a device's memory speak against it."""
    why, what = broken(sight), f"GPU {index}, errors"
    if why is not None:
        return Finding(what, "bad", f"it {why}: runs are not given it. Reset it (`nvidia-smi --gpu-reset`), or restart")
    return Finding(what, "ok", "its memory counts none that were not corrected, and nothing waits for a reset")


def kept_back(home: Path) -> list[Finding]:
    """The GPUs that the node of an installation keeps back for an error that it has heard of."""
    try:
        found = json.loads((home / "node" / ERRORS).read_text())
    except OSError:
        return []
    if found["boot_id"] != boot_id():
        return []
    return [Finding("GPU errors", "bad", str(each)) for each in found["gpus"].values()]


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


# ------------------------------------------------------------------------------------------------------------- tries


def multiplied(index: int, device: str) -> Finding:
    """A product computed on one device, which alone is visible."""
    answer = answer_of(start("matmul", device, {"CUDA_VISIBLE_DEVICES": str(index)}))
    what = f"GPU {index}, a product"
    if "error" in answer:
        return Finding(what, "bad", f"{answer['error']} (with {sys.executable})")
    if device == "cuda" and answer["count"] != 1:
        text = f"CUDA_VISIBLE_DEVICES={index} shows {answer['count']} devices to a program instead of one"
        return Finding(what, "bad", text)
    if not answer["right"]:
        return Finding(what, "bad", f"wrong by {answer['difference']:g}: the device or its driver is broken")
    cuda = f", CUDA {answer['cuda']}" if answer["cuda"] else ""
    return Finding(what, "ok", f"right, in {answer['seconds']:.2f} s (PyTorch {answer['torch']}{cuda})")


def freed(index: int, device: str, used: Callable[[], int], within_s: float = FREED_WITHIN_S) -> Finding:
    """Whether the memory of a killed process is there for the next. ``used``: bytes of the device that are taken."""
    what = f"GPU {index}, memory"
    before = used()
    child = start("hold", device, {"CUDA_VISIBLE_DEVICES": str(index)})
    watchdog = threading.Timer(PATIENCE_S, child.kill)
    watchdog.start()
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        answer: Mapping[str, Any] = json.loads(line) if line else {"error": "the process that was to hold it ended"}
        held = used() - before
    finally:
        watchdog.cancel()
        child.kill()
        child.wait()
    if "error" in answer:
        return Finding(what, "bad", str(answer["error"]))
    began = time.monotonic()
    while (left := used() - before) > SLACK_BYTES:
        if time.monotonic() - began > within_s:
            return Finding(what, "bad", f"{_gib(left)} are still taken {within_s:g} s after the process was killed")
        time.sleep(0.05)
    took = time.monotonic() - began
    return Finding(what, "ok", f"{_gib(max(0, held))} held, all free {took:.1f} s after the process was killed")


def reduced(device: str, indices: Sequence[int]) -> Finding:
    """A sum over processes, one a device (nccl; gloo on processors)."""
    what = f"GPUs {' and '.join(map(str, indices))}, a sum"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    children = [
        start(
            "reduce",
            device,
            {
                "CUDA_VISIBLE_DEVICES": str(index),
                "RANK": str(rank),
                "LOCAL_RANK": "0",
                "WORLD_SIZE": str(len(indices)),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank, index in enumerate(indices)
    ]
    answers = [answer_of(child) for child in children]
    errors = [str(answer["error"]) for answer in answers if "error" in answer]
    if errors:
        return Finding(what, "bad", errors[0])
    if not all(answer["right"] for answer in answers):
        return Finding(what, "bad", "it came out wrong: the way between the devices is broken")
    return Finding(what, "ok", f"right, over {'nccl' if device == 'cuda' else 'gloo'} by {len(indices)} processes")


def start(what: str, device: str, variables: Mapping[str, str]) -> subprocess.Popen[str]:
    """Begin a try in a process of its own."""
    environment = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **variables}
    return subprocess.Popen(
        [sys.executable, "-P", str(TRIES), what, device],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def answer_of(child: subprocess.Popen[str], patience_s: float = PATIENCE_S) -> Mapping[str, Any]:
    """What a try says at its end; ``error``: a sentence on what went wrong."""
    try:
        told, _ = child.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return {"error": f"it was not done within {patience_s:g} s, and was killed"}
    lines = told.splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError):
        return {"error": f"the process ended without an answer (status {child.returncode})"}
