"""Runs to come: by chance, in the shapes that published traces of GPU clusters have.

Arrivals are a Poisson process, run times log-normal, both of a seed. No record of a trace is used. The mean durations
of the shapes that are called Philly-like and Helios-like, and the latter's median, are as remembered from Q. Hu et
al., "Characterization and Prediction of Deep Learning Workloads in Large-Scale GPU Datacenters" (SC 2021, arXiv
2109.01313); all else (how many GPUs, the other medians, all of the PAI-like shape) is a rounded guess after it and
after M. Jeon et al., "Analysis of Large-Scale Multi-Tenant GPU Clusters for DNN Training Workloads" (USENIX ATC
2019), and Q. Weng et al., "MLaaS in the Wild" (NSDI 2022). Gangs above 64 GPUs are left out: a run is on one machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE


@dataclass(frozen=True, slots=True)
class Workload:
    """A shape. ``sizes``: GPUs of a run and how often; ``median_s`` and ``mean_s`` of the log-normal run time before it
    is cut at ``longest_ms``; ``weights``: of the accounts, each of which asks for the same."""

    name: str
    sizes: Mapping[int, float]
    median_s: float
    mean_s: float
    longest_ms: int = 24 * HOUR
    weights: tuple[float, ...] = (1.0, 1.0, 2.0, 2.0, 4.0, 4.0)


@dataclass(frozen=True, slots=True)
class Coming:
    """A run to come: when, whose, how many GPUs, how long it takes, and the limit its author gave."""

    at_ms: int
    account: str
    gpus: int
    lasts_ms: int
    limit_ms: int


def _sizes(**counts: float) -> Mapping[int, float]:
    return MappingProxyType({int(name[1:]): count for name, count in counts.items()})


SYNTHETIC: Final = Workload("synthetic", _sizes(g1=50, g2=15, g4=15, g8=14, g16=3, g32=2, g64=1), 1_200, 3_600)
PHILLY: Final = Workload("Philly-like", _sizes(g1=86, g2=5, g4=4, g8=4, g16=1), 800, 28_329)
HELIOS: Final = Workload("Helios-like", _sizes(g1=55, g2=10, g4=10, g8=18, g16=4, g32=2, g64=1), 206, 6_652)
PAI: Final = Workload("PAI-like", _sizes(g1=80, g2=8, g4=6, g8=5, g16=1), 500, 4_000)
WORKLOADS: Final = (SYNTHETIC, PHILLY, HELIOS, PAI)


def accounts_of(workload: Workload) -> dict[str, float]:
    """The accounts and their weights."""
    return {f"account-{n}": weight for n, weight in enumerate(workload.weights)}


def draw(workload: Workload, seed: int, *, gpus: int, runs: int, load: float, by_weight: bool) -> list[Coming]:
    """Some runs in the order of arrival, that ask for ``load`` times what so many GPUs can give.

    ``by_weight``: accounts ask for as much as is due to them, else all for the same.
    """
    chance = random.Random(f"{workload.name} {seed}")
    sizes, counts = list(workload.sizes), list(workload.sizes.values())
    names, weights = list(accounts_of(workload)), list(workload.weights)
    sigma = math.sqrt(2 * math.log(workload.mean_s / workload.median_s))
    found: list[Coming] = []
    for _ in range(runs):
        lasts = int(1_000 * workload.median_s * math.exp(sigma * chance.gauss(0, 1)))
        lasts = min(max(lasts, 1_000), workload.longest_ms - HOUR)
        limit = min(workload.longest_ms, HOUR * math.ceil(lasts * chance.choice((1.0, 1.5, 3.0, 5.0)) / HOUR))
        name = chance.choices(names, weights if by_weight else None)[0]
        found.append(Coming(0, name, chance.choices(sizes, counts)[0], lasts, limit))
    span = sum(each.gpus * each.lasts_ms for each in found) / (gpus * load)
    return [
        Coming(at, each.account, each.gpus, each.lasts_ms, each.limit_ms)
        for at, each in zip(sorted(int(chance.uniform(0, span)) for _ in found), found, strict=True)
    ]
