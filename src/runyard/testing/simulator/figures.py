"""What a simulation shows: waits by size, use, fairness, and who waited longer than its due share explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runyard.testing.simulator.simulation import Result, Simulation
from runyard.testing.simulator.workloads import HOUR, Coming, Workload, accounts_of, draw

SIZES = ((1, 1), (2, 8), (9, 64))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One simulation in figures. ``waits``: p50, p90, p99 in hours by range of GPUs; ``use``: part of what there was;
    ``late``: runs beyond the bound of :func:`late_by`, ``worst_h``: by how much; ``unfair``: the largest deviation of
    an account's use from its due, as a part of the due."""

    workload: str
    policy: str
    seed: int
    waits: Mapping[tuple[int, int], tuple[float, float, float]]
    use: float
    unfair: float
    late: int
    worst_h: float
    preempted: int
    lost: float
    runs: int


def machines(gpus: int) -> list[int]:
    """Half in machines of 64, for large gangs, half in machines of 8."""
    return [64] * (gpus // 128) + [8] * (gpus // 16)


def simulate(
    workload: Workload,
    policy: str,
    seed: int,
    *,
    gpus: int,
    runs: int,
    load: float = 0.95,
    by_weight: bool = True,
    pause_ms: int = 60_000,
    until_ms: int | None = None,
) -> Outcome:
    """Simulate, and take the figures."""
    weights = accounts_of(workload)
    coming = draw(workload, seed, gpus=gpus, runs=runs, load=load, by_weight=by_weight)
    if until_ms is not None:  # all are there from the beginning: with a load above 1 everybody wants more than is due
        coming = [Coming(0, each.account, each.gpus, each.lasts_ms, each.limit_ms) for each in coming]
    result = Simulation(machines(gpus), weights, policy, pause_ms=pause_ms).work(coming, until_ms=until_ms)
    return figures(workload, seed, result)


def figures(workload: Workload, seed: int, result: Result) -> Outcome:
    """The figures of a result."""
    weights = accounts_of(workload)
    late = [by for by in late_by(result, weights, workload.longest_ms) if by > 0]
    total = sum(result.used.values())
    whole = sum(weights.values())
    unfair = max(abs(result.used[name] / total / (weight / whole) - 1) for name, weight in weights.items())
    return Outcome(
        workload.name,
        result.policy,
        seed,
        {size: _quantiles(result, size) for size in SIZES},
        total / (result.gpus * result.span_ms),
        unfair,
        len(late),
        max(late, default=0) / HOUR,
        result.preempted,
        result.lost / max(1, total),
        len(result.runs),
    )


def late_by(result: Result, weights: Mapping[str, float], longest_ms: int) -> list[float]:
    """By how many ms each run waited longer than it may: what its account had ahead of it (all that was submitted
    before and not computed yet, GPU-ms) over the account's least share of the cluster, and the longest limit."""
    whole = sum(weights.values())
    found: list[float] = []
    for run in result.runs:
        if run.wait_ms is not None:
            due = result.gpus * weights[run.coming.account] / whole
            found.append(run.wait_ms - (run.ahead / due + longest_ms))
    return found


def _quantiles(result: Result, size: tuple[int, int]) -> tuple[float, float, float]:
    waits = sorted(
        run.wait_ms / HOUR for run in result.runs if run.wait_ms is not None and size[0] <= run.coming.gpus <= size[1]
    )
    return _at(waits, 0.5), _at(waits, 0.9), _at(waits, 0.99)


def _at(values: Sequence[float], part: float) -> float:
    return values[min(len(values) - 1, int(part * len(values)))] if values else 0.0
