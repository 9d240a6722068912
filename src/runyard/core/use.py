"""What accounts have used, decayed: the yardstick of fair shares. One value and one moment an account, folded.

An amount is milliseconds of one GPU. What was used a half-life ago counts half, and so on: with the half-life H,
holding r GPUs from ``a`` to ``b`` counts at ``b`` as the integral of r * 2**(-(b - t) / H), that is
r * H / ln 2 * (1 - 2**(-(b - a) / H)); and any sum of such amounts decays by the same factor from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1, log
from typing import Final

from runyard.core.resources import Resources

_LN2: Final = log(2)


@dataclass(frozen=True, slots=True)
class Use:
    """``value`` (milliseconds of one GPU) is what was used up to ``at_ms``, decayed to then."""

    value: float = 0.0
    at_ms: int = 0


NEVER: Final = Use()


@dataclass(frozen=True, slots=True)
class Held:
    """An account held ``rate`` GPUs (see :func:`rate_of`) from one moment to another, as one attempt of a run."""

    run_id: str
    attempt: int
    account_id: str
    rate: float
    from_ms: int
    to_ms: int


def rate_of(resources: Resources, machine: Resources) -> float:
    """How many GPUs a holding counts as: those it has; without any the larger of the shares of its machine's CPUs and
    memory, in GPUs of that machine (which counts as one where it has none)."""
    if resources.gpus:
        return float(resources.gpus)
    cpu = resources.cpu_millis / machine.cpu_millis if machine.cpu_millis else 0.0
    memory = resources.memory_mib / machine.memory_mib if machine.memory_mib else 0.0
    return min(1.0, max(cpu, memory)) * max(1, machine.gpus)


def decayed(use: Use, now_ms: int, half_life_ms: int) -> float:
    """The value of a use at ``now_ms``; a clock that is behind makes nothing of it grow."""
    return use.value * 2.0 ** (-max(0, now_ms - use.at_ms) / half_life_ms)


def amount(rate: float, from_ms: int, to_ms: int, half_life_ms: int) -> float:
    """What holding ``rate`` GPUs counts at its end."""
    held = max(0, to_ms - from_ms)
    return -rate * half_life_ms / _LN2 * expm1(-held / half_life_ms * _LN2)


def folded(use: Use, held: Held, half_life_ms: int) -> Use:
    """A use with one more holding in it, whichever of the two is later."""
    at = max(use.at_ms, held.to_ms)
    ended = Use(amount(held.rate, held.from_ms, held.to_ms, half_life_ms), held.to_ms)
    return Use(decayed(use, at, half_life_ms) + decayed(ended, at, half_life_ms), at)
