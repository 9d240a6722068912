"""What the service tells of training runs, as values. ``raw`` is always the whole JSON object as it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from runyard.client.decode import (
    Json,
    as_object,
    child,
    children,
    integer,
    integer_or_none,
    integers,
    moment,
    number,
    text,
    text_or_none,
    texts,
    truth,
)
from runyard.client.metric_records import Metric

FINAL: Final = frozenset({"completed", "failed", "canceled"})
"""The states that nothing follows."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a run. ``state`` is empty where the service does not tell it. Memory in MiB. ``way``: ``warm``,
    ``exec`` or ``container``, None before it began, and ``way_note`` why, or what that saved."""

    number: int
    node: str
    slots: tuple[int, ...]
    state: str
    assigned_at: datetime | None
    started_at: datetime | None
    released_at: datetime | None
    reason: str | None
    fault: str | None
    sentence: str
    exit_code: int | None
    signal: int | None
    tamper_proof: bool
    peak_memory_mib: int | None
    way: str | None
    way_note: str
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Attempt:
        """Read one."""
        return Attempt(
            number=integer(raw, "number"),
            node=text(raw, "node"),
            slots=integers(raw, "slots"),
            state=text(raw, "state"),
            assigned_at=moment(raw, "assigned_at"),
            started_at=moment(raw, "started_at"),
            released_at=moment(raw, "released_at"),
            reason=text_or_none(raw, "reason"),
            fault=text_or_none(raw, "fault"),
            sentence=text(raw, "sentence"),
            exit_code=integer_or_none(raw, "exit_code"),
            signal=integer_or_none(raw, "signal"),
            tamper_proof=truth(raw, "tamper_proof"),
            peak_memory_mib=integer_or_none(raw, "peak_memory_mib"),
            way=text_or_none(raw, "way"),
            way_note=text(raw, "way_note"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A training run. ``cost`` is text with six decimals; ``estimate`` the expected start of a waiting run;
    ``resources``, ``results``, ``framework``, ``staging`` and ``provenance`` stand in ``raw``. A run from a list has
    no ``attempts``, ``position`` and ``estimate``."""

    id: str
    name: str
    account: str
    member: str
    state: str
    readiness: str | None
    reason: str | None
    sentence: str
    fault: str | None
    position: int | None
    estimate: datetime | None
    attempts: tuple[Attempt, ...]
    created_at: datetime | None
    staged_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    stored_at: datetime | None
    exit_code: int | None
    gpu_seconds: float
    cost: str
    results: Json
    hyper_parameters: Json
    command: str
    resources: Json
    priority: int
    tags: tuple[str, ...]
    notes: tuple[str, ...]
    definition: str | None
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Run:
        """Read one."""
        return Run(
            id=text(raw, "id"),
            name=text(raw, "name"),
            account=text(raw, "account"),
            member=text(raw, "member"),
            state=text(raw, "state"),
            readiness=text_or_none(raw, "readiness"),
            reason=text_or_none(raw, "reason"),
            sentence=text(raw, "sentence"),
            fault=text_or_none(raw, "fault"),
            position=integer_or_none(raw, "position"),
            estimate=moment(raw, "estimate"),
            attempts=tuple(Attempt.of(each) for each in children(raw, "attempts")),
            created_at=moment(raw, "created_at"),
            staged_at=moment(raw, "staged_at"),
            started_at=moment(raw, "started_at"),
            finished_at=moment(raw, "finished_at"),
            stored_at=moment(raw, "stored_at"),
            exit_code=integer_or_none(raw, "exit_code"),
            gpu_seconds=number(raw, "gpu_seconds"),
            cost=text(raw, "cost"),
            results=child(raw, "results"),
            hyper_parameters=child(raw, "hyper_parameters"),
            command=text(raw, "command"),
            resources=child(raw, "resources"),
            priority=integer(raw, "priority"),
            tags=texts(raw, "tags"),
            notes=texts(raw, "notes"),
            definition=text_or_none(raw, "definition"),
            raw=raw,
        )

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What its metrics come to, by ``group/name``; a run from a list has only those that tell most."""
        return {label: Metric.of(as_object(each)) for label, each in child(self.raw, "metrics").items()}

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a run. ``kind`` is accepted, staged, running, finished and so on; what else it tells
    stands in ``raw``. ``run`` is empty in the history of a single run."""

    seq: int
    at: datetime | None
    kind: str
    run: str
    attempt: int | None
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Event:
        """Read one."""
        return Event(
            seq=integer(raw, "seq"),
            at=moment(raw, "at"),
            kind=text(raw, "kind"),
            run=text(raw, "run"),
            attempt=integer_or_none(raw, "attempt"),
            raw=raw,
        )

    @property
    def state(self) -> str | None:
        """The state that the run is in after it, None when the event does not change it."""
        if self.kind == "finished":
            return text_or_none(self.raw, "state")
        return _STATE_AFTER.get(self.kind)


_STATE_AFTER: Final = {
    "accepted": "waiting",
    "assigned": "starting",
    "running": "running",
    "stopping": "stopping",
    "requeued": "waiting",
    "storing": "storing",
}


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of a run's log, cut between two characters; ``offset`` counts the bytes of this attempt's log in front of
    it."""

    run: str
    attempt: int
    offset: int
    data: bytes

    @property
    def text(self) -> str:
        """As text; what is no UTF-8 is U+FFFD."""
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class StateChange:
    """A followed run is in another state; ``sentence`` says why, for people."""

    run: str
    state: str
    reason: str | None
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The ids of the runs that a submission made; ``replayed``: an earlier submission with the same key did."""

    ids: tuple[str, ...]
    replayed: bool
    notes: tuple[str, ...]
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Submitted:
        """Read one."""
        return Submitted(texts(raw, "ids"), truth(raw, "replayed"), texts(raw, "notes"), raw)


@dataclass(frozen=True, slots=True)
class CanceledRun:
    """A run that was asked to stop, or was final before, as it then was."""

    id: str
    state: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Canceled:
    """What became of many that were to be canceled. ``refused``: name, code and sentence of what is not to be."""

    runs: tuple[CanceledRun, ...]
    refused: tuple[tuple[str, str, str], ...]
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Canceled:
        """Read one."""
        return Canceled(
            tuple(CanceledRun(text(e, "id"), text(e, "state"), text(e, "sentence")) for e in children(raw, "items")),
            tuple((text(e, "id"), text(e, "code"), text(e, "message")) for e in children(raw, "refused")),
            raw,
        )

    @property
    def pending(self) -> tuple[str, ...]:
        """Those that are on their way to their end."""
        return tuple(run.id for run in self.runs if run.state not in FINAL)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a dry run looked at. ``verdict`` is a word such as ok, warning or error."""

    what: str
    verdict: str
    message: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What would become of a submission: how many runs, of what size, and what was looked at."""

    name: str
    command: str
    runs: int
    resources: Json
    notes: tuple[str, ...]
    checks: tuple[Check, ...]
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Checked:
        """Read one."""
        checks = tuple(
            Check(text(each, "what"), text(each, "verdict"), text(each, "message")) for each in children(raw, "checks")
        )
        return Checked(
            text(raw, "name"),
            text(raw, "command"),
            integer(raw, "runs"),
            child(raw, "resources"),
            texts(raw, "notes"),
            checks,
            raw,
        )


@dataclass(frozen=True, slots=True)
class Converted:
    """An older manifest brought over: its text (with its secrets), what was changed, and what is left to do."""

    manifest: str = field(repr=False)
    notes: tuple[str, ...]
    left: tuple[str, ...]
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Converted:
        """Read one."""
        return Converted(text(raw, "manifest"), texts(raw, "notes"), texts(raw, "left"), raw)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a run is where it is. ``ahead``: runs in front of it; ``steps``: what was decided, in order."""

    id: str
    state: str
    readiness: str | None
    sentence: str
    position: int | None
    ahead: int | None
    estimate: datetime | None
    steps: tuple[object, ...]
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Explanation:
        """Read one."""
        steps = raw.get("steps")
        return Explanation(
            text(raw, "id"),
            text(raw, "state"),
            text_or_none(raw, "readiness"),
            text(raw, "sentence"),
            integer_or_none(raw, "position"),
            integer_or_none(raw, "ahead"),
            moment(raw, "estimate"),
            tuple(steps) if isinstance(steps, list) else (),  # pyright: ignore[reportUnknownArgumentType]  # any JSON
            raw,
        )


@dataclass(frozen=True, slots=True)
class ResultObject:
    """One object of a run's results; sizes in bytes."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Results:
    """The objects of a run and where they lie."""

    items: tuple[ResultObject, ...]
    location: Json
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Results:
        """Read one."""
        items = tuple(ResultObject(text(each, "key"), integer(each, "size")) for each in children(raw, "items"))
        return Results(items, child(raw, "location"), raw)
