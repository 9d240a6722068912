"""Metrics of a run: summaries, points as JSON or CSV, and server-sent events that follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel

from runyard.api.context import Ctx, Who, guarded
from runyard.api.files import Closing
from runyard.api.limits import number_of
from runyard.api.metric_texts import columns, csv_lines
from runyard.api.streams import HEADERS, QUIET_S, sse
from runyard.core.errors import Refused
from runyard.core.metrics import Window
from runyard.core.run import FINAL, Run
from runyard.engine import metrics, queries
from runyard.engine.bell import log_topic, metric_topic
from runyard.engine.metrics import Choice, Offsets
from runyard.engine.views import MetricView
from runyard.engine.world import World
from runyard.ports.metrics import Wanted

router = APIRouter(tags=["metrics"])
_FORMATS = ("json", "csv")


class SeriesItem(BaseModel):
    """The points of one metric and learner, in the order they came. ``values`` that are not finite are the texts
    ``NaN``, ``Infinity`` and ``-Infinity``."""

    group: str
    name: str
    learner: int
    steps: list[int | None]
    times_ms: list[int]
    values: list[float | str]


class MetricsAnswer(BaseModel):
    """The metrics of a run; ``series`` with ``points=true``. ``notes``: sentences on how they were found."""

    id: str
    items: list[MetricView]
    notes: list[str]
    series: list[SeriesItem] | None = None


@router.get("/training-runs/{run}/metrics", response_model=MetricsAnswer)
async def show(
    run: str,
    context: Ctx,
    who: Who,
    name: str | None = None,
    group: str | None = None,
    learner: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    after_step: Annotated[int | None, Query(ge=-(2**62), le=2**62)] = None,
    until_step: Annotated[int | None, Query(ge=-(2**62), le=2**62)] = None,
    limit: Annotated[int | None, Query(ge=2, le=10_000_000)] = None,
    points: bool = False,
    format: Annotated[str, Query()] = "json",
    accept: Annotated[str, Header()] = "application/json",
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """A run's metrics: what they come to and, with ``points``, each series (at most ``limit`` points of each, its shape
    kept). ``format=csv`` or ``Accept: text/csv``: a line a point. As an event stream: new points until the run is
    final; it resumes."""
    if format not in _FORMATS:
        raise Refused(f"`format` is json or csv, not {format!r}.", code="invalid_request")
    world = context.world
    found = await asyncio.to_thread(queries.resolve, world, who.account_id, run)
    choice = Choice(Wanted(name, group, learner), Window(after_step, until_step), limit)
    if "text/event-stream" in accept:
        told = _resumed(last_event_id or "")
        return Closing(
            guarded(context, events(world, found, choice, told)), headers=HEADERS, media_type="text/event-stream"
        )
    if format == "csv" or "text/csv" in accept:
        return Closing(_csv(world, found, choice), headers=HEADERS, media_type="text/csv")
    body = await asyncio.to_thread(_answer, world, found, choice, points=points)
    return Response(body, media_type="application/json", headers=HEADERS)


def _answer(world: World, run: Run, choice: Choice, *, points: bool) -> bytes:
    wanted = choice.wanted
    items = [
        each
        for each in metrics.summaries(world, run.id)
        if wanted.name in (None, each.name) and wanted.group in (None, each.group)
    ]
    answer: dict[str, Any] = {"id": run.id, "items": items, "notes": list(world.metrics.notes(run.id))}
    if points:
        answer["series"] = [columns(each) for each in metrics.series(world, run, choice)]
    return msgspec.json.encode(answer)


def _csv(world: World, run: Run, choice: Choice) -> Iterator[bytes]:
    whole = choice.limit is None
    yield from csv_lines(metrics.pieces(world, run, choice) if whole else metrics.series(world, run, choice))


def _resumed(last_event_id: str) -> Offsets:
    """How far a follower was told: ``attempt:learner:offset`` of each stream, a ``,`` between two."""
    sentence = "Last-Event-ID is not one of this stream's."
    told: dict[tuple[int, int], int] = {}
    for words in filter(None, last_event_id.split(",")):
        numbers = [number_of(word, sentence) for word in words.split(":")]
        if len(numbers) != 3:
            raise Refused(sentence, code="invalid_request")
        told[numbers[0], numbers[1]] = numbers[2]
    return told


def _place(told: Offsets) -> str:
    return ",".join(f"{attempt}:{learner}:{offset}" for (attempt, learner), offset in sorted(told.items()))


async def events(world: World, run: Run, choice: Choice, told: Offsets) -> AsyncGenerator[bytes]:
    """New points as they come (``points``), changes of state in between, and ``end`` once the run is final and all is
    told."""
    shown = None
    with world.bell.listen(metric_topic(run.id), log_topic(run.id)) as ear:
        while True:
            current = await asyncio.to_thread(world.store.run, run.id)
            if current is None:
                yield sse("end", {"state": "deleted"})
                return
            more = True
            while more:
                found, told, more = await asyncio.to_thread(metrics.news, world, current, choice, told)
                if found:
                    yield sse("points", {"series": [_news(each) for each in found]}, _place(told))
            state = current.state_name
            if state in FINAL or state is not shown:
                shown = state
                view = await asyncio.to_thread(queries.show, world, current)
                name = "end" if state in FINAL else "state"
                yield sse(name, {"state": view.state, "reason": view.reason, "sentence": view.sentence})
                if state in FINAL:
                    return
            if not await ear.wait(QUIET_S):
                yield b": quiet\n\n"


def _news(series: metrics.Series) -> dict[str, Any]:
    return columns(series) | {"attempt": series.attempt}
