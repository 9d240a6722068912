"""All measures, in the order of the table."""

from __future__ import annotations

from bench.measures import commands, latency, long_run, memory, others, queue, short_runs, stopping
from bench.values import Measure

MEASURES: tuple[Measure, ...] = (
    latency.MEASURE,
    short_runs.TRAINING,
    short_runs.TRIVIAL,
    queue.DISPATCH,
    queue.BULK,
    others.MEASURES[0],
    stopping.MEASURE,
    memory.MEASURE,
    *others.MEASURES[1:],
    long_run.MEASURE,
    commands.MEASURE,
)
BY_NAME = {measure.name: measure for measure in MEASURES}
