"""What runs ask for and machines have: GPUs, CPUs and memory, and the named compute configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of GPUs (slots), CPU (milli-CPUs: 1000 is one core) and memory (MiB)."""

    gpus: int = 0
    cpu_millis: int = 0
    memory_mib: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.gpus + other.gpus, self.cpu_millis + other.cpu_millis, self.memory_mib + other.memory_mib)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.gpus - other.gpus, self.cpu_millis - other.cpu_millis, self.memory_mib - other.memory_mib)

    def fits_in(self, room: Resources) -> bool:
        """Tell whether each amount is at most that of ``room``."""
        return self.gpus <= room.gpus and self.cpu_millis <= room.cpu_millis and self.memory_mib <= room.memory_mib

    def floored(self) -> Resources:
        """The same with negative amounts raised to zero."""
        return Resources(max(0, self.gpus), max(0, self.cpu_millis), max(0, self.memory_mib))


@dataclass(frozen=True, slots=True)
class Price:
    """Price in micro-units of money for an hour of one GPU, one CPU and one GB (1024 MiB) of memory."""

    gpu_hour: int = 0
    cpu_hour: int = 0
    gb_hour: int = 0


@dataclass(frozen=True, slots=True)
class ComputeConfiguration:
    """A named size. ``resources`` is for one node (learner) of a run."""

    name: str
    resources: Resources


def _sizes(*rows: tuple[str, int, int, int]) -> Mapping[str, ComputeConfiguration]:
    return MappingProxyType(
        {name: ComputeConfiguration(name, Resources(gpus, cpus * 1000, gb * 1024)) for name, gpus, cpus, gb in rows}
    )


LEAST_CPU_MILLIS: Final = 50
LEAST_MEMORY_MIB: Final = 16
"""Below this none of several learners is scaled: it could not begin."""

DEFAULT_CONFIGURATIONS: Final = _sizes(
    ("small", 1, 6, 12),
    ("medium", 2, 12, 24),
    ("large", 4, 24, 48),
    ("k80", 1, 4, 24),
    ("k80x2", 2, 8, 48),
    ("k80x4", 4, 16, 96),
    ("p100", 1, 8, 24),
    ("p100x2", 2, 16, 48),
    ("v100", 1, 26, 24),
    ("v100x2", 2, 52, 48),
    ("cpu", 0, 1, 2),
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A request made to fit the largest machine there is.

    ``notes`` are sentences for the run's page, one for each amount that was scaled;
    ``refusal`` is set, and the rest void, when the request can never be met.
    """

    resources: Resources
    notes: tuple[str, ...] = ()
    refusal: str | None = None


def fit(request: Resources, machine: Resources, *, logical_gpus: bool, learners: int = 1) -> Fitted:
    """Scale a run of some ``learners``, each of which asks for ``request``, to one ``machine``, or refuse it.

    Too few GPUs is a refusal. CPUs and memory are scaled: to the whole machine, or, where GPUs are only logical
    (a machine without any), to the share of it that the asked slots are. What is fitted is that of all learners, each
    amount a multiple of their number.
    """
    gpus = request.gpus * learners
    if gpus > machine.gpus:
        return Fitted(request, refusal=_too_many_gpus(request.gpus, learners, machine.gpus))
    share_of, share = (machine.gpus, gpus) if logical_gpus and gpus else (1, 1)
    share_of *= learners
    cpus = min(request.cpu_millis, machine.cpu_millis * share // share_of)
    memory = min(request.memory_mib, machine.memory_mib * share // share_of)
    too_little = cpus < min(request.cpu_millis, LEAST_CPU_MILLIS) or memory < min(request.memory_mib, LEAST_MEMORY_MIB)
    if learners > 1 and too_little:
        return Fitted(request, refusal=f"No machine is large enough for {learners} learners: ask for fewer.")
    notes: list[str] = []
    each = f" of each of its {learners} learners" if learners > 1 else ""
    if cpus < request.cpu_millis:
        scaled = f"scaled from {request.cpu_millis / 1000:g} to {cpus / 1000:g}"
        notes.append(f"CPUs{each} {scaled}, what this machine can give.")
    if memory < request.memory_mib:
        notes.append(f"Memory{each} scaled from {request.memory_mib} to {memory} MiB, what this machine can give.")
    return Fitted(Resources(gpus, cpus * learners, memory * learners), tuple(notes))


def _too_many_gpus(each: int, learners: int, there: int) -> str:
    asked = each * learners
    run = f"The run asks for {asked} GPU{'' if asked == 1 else 's'}"
    if learners > 1:
        run += f" ({learners} learners with {each} each)"
    if there == 0:
        return f"{run} and no machine has any: ask for none, or add a machine."
    return f"{run} and the largest machine has {there}: ask for {there} or fewer, or add a machine."
