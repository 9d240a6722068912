"""Values to columns and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from runyard.core.events import Event, EventKind, Recorded
from runyard.core.resources import Resources
from runyard.core.run import (
    FINAL,
    Attempt,
    Ending,
    Finished,
    Run,
    Running,
    Starting,
    State,
    StateName,
    Stopping,
    Storing,
    Waiting,
)
from runyard.core.spec import EnvironmentRequest, RunSpec

T = TypeVar("T")

_STATES: Final[Mapping[str, type[State]]] = {
    StateName.waiting: Waiting,
    StateName.starting: Starting,
    StateName.running: Running,
    StateName.stopping: Stopping,
    StateName.storing: Storing,
    **dict.fromkeys(FINAL, Finished),
}
_encoder: Final = msgspec.json.Encoder()
_state_decoders: Final = {name: msgspec.json.Decoder(kind) for name, kind in _STATES.items()}
_ending_decoder: Final = msgspec.json.Decoder(Ending)
_numbers_decoder: Final = msgspec.json.Decoder(tuple[int, ...])
_words_decoder: Final = msgspec.json.Decoder(tuple[str, ...])
_texts_decoder: Final = msgspec.json.Decoder(dict[str, str])
_environment_decoder: Final = msgspec.json.Decoder(EnvironmentRequest)
_body_decoder: Final = msgspec.json.Decoder(dict[str, object])


def to_json(value: object) -> str:
    """JSON text of a value. Half characters (surrogates, of file names that are not UTF-8) become question marks."""
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


def texts(text: str) -> dict[str, str]:
    """Texts by name from JSON."""
    return _texts_decoder.decode(text)


def environment_from_json(text: str) -> EnvironmentRequest:
    """Undo :func:`to_json` for what an interpreter must offer."""
    return _environment_decoder.decode(text)


def words(text: str) -> tuple[str, ...]:
    """A tuple of texts from JSON."""
    return _words_decoder.decode(text)


def numbers(text: str) -> tuple[int, ...]:
    """A tuple of integers from JSON."""
    return _numbers_decoder.decode(text)


def state_of(name: str, detail: str) -> State:
    """A state from its name and its fields."""
    return _state_decoders[name].decode(detail)


def spec_to_json(spec: RunSpec) -> str:
    """JSON text of a spec. Hyper-parameters may be infinite, not a number, or longer than 64 bits."""
    return json.dumps(msgspec.to_builtins(spec), separators=(",", ":"))


def spec_of(text: str) -> RunSpec:
    """A spec from JSON."""
    return from_json(text, RunSpec)


def from_json(text: str, kind: type[T]) -> T:
    """A value of a dataclass from JSON."""
    return msgspec.convert(json.loads(text), kind)


def body_of(text: str) -> dict[str, object]:
    """An event's body, or provenance, from JSON."""
    return _body_decoder.decode(text)


RUN_COLUMNS: Final = (
    "r.id, r.seq, r.account_id, r.member_id, r.name, r.spec_id, r.parameters, r.class_id, c.gpus, c.cpu_millis, "
    "c.memory_mib, r.priority, r.rank, r.state, r.detail, r.version, r.created_ms, r.max_retries, r.ready_on, "
    "r.staged_ms, r.finished_ms, r.stored_ms, r.notes"
)
RUN_TABLES: Final = "runs r JOIN queue_classes c ON c.id = r.class_id"


def run_of(row: Sequence[Any], attempts: Iterable[Attempt], tags: Iterable[str]) -> Run:
    """A run from a row of ``RUN_COLUMNS``."""
    return Run(
        id=row[0],
        seq=row[1],
        account_id=row[2],
        member_id=row[3],
        name=row[4],
        spec_id=row[5],
        parameters=row[6],
        class_id=row[7],
        resources=Resources(row[8], row[9], row[10]),
        priority=row[11],
        rank=row[12],
        state=state_of(row[13], row[14]),
        version=row[15],
        created_ms=row[16],
        max_retries=row[17],
        attempts=tuple(attempts),
        ready_on=row[18],
        staged_ms=row[19],
        finished_ms=row[20],
        stored_ms=row[21],
        tags=tuple(tags),
        notes=words(row[22]),
    )


def columns_of(run: Run) -> dict[str, object]:
    """What a transition may change of a run's row. ``rank`` is not among it: that is the queue's."""
    state = run.state
    return {
        "id": run.id,
        "state": run.state_name.value,
        "detail": to_json(state),
        "version": run.version,
        "attempt": run.attempts[-1].number if run.attempts else 0,
        "not_before_ms": state.not_before_ms if isinstance(state, Waiting) else 0,
        "ready_on": run.ready_on,
        "staged_ms": run.staged_ms,
        "finished_ms": run.finished_ms,
        "stored_ms": run.stored_ms,
        "notes": to_json(run.notes),
    }


ATTEMPT_COLUMNS: Final = (
    "number, node_id, slots, assigned_ms, started_ms, released_ms, ending, log_bytes, tamper_proof, peak_memory_mib, "
    "way, way_note"
)


def attempt_of(row: Sequence[Any]) -> Attempt:
    """An attempt from a row of ``ATTEMPT_COLUMNS``."""
    number, node_id, slots, assigned_ms, started_ms, released_ms, ending, log_bytes, tamper_proof, peak, way, note = row
    return Attempt(
        number=number,
        node_id=node_id,
        slots=numbers(slots),
        assigned_ms=assigned_ms,
        started_ms=started_ms,
        released_ms=released_ms,
        ending=None if ending is None else _ending_decoder.decode(ending),
        log_bytes=log_bytes,
        tamper_proof=None if tamper_proof is None else bool(tamper_proof),
        peak_memory_mib=peak,
        way=way,
        way_note=note,
    )


def columns_of_attempt(run: Run, attempt: Attempt) -> dict[str, object]:
    """The row of an attempt."""
    return {
        "run_id": run.id,
        "number": attempt.number,
        "spec_id": run.spec_id,
        "account_id": run.account_id,
        "node_id": attempt.node_id,
        "slots": to_json(attempt.slots),
        "assigned_ms": attempt.assigned_ms,
        "started_ms": attempt.started_ms,
        "released_ms": attempt.released_ms,
        "ending": None if attempt.ending is None else to_json(attempt.ending),
        "log_bytes": attempt.log_bytes,
        "tamper_proof": attempt.tamper_proof,
        "peak_memory_mib": attempt.peak_memory_mib,
        "way": attempt.way,
        "way_note": attempt.way_note,
    }


def columns_of_event(seq: int, event: Event) -> dict[str, object]:
    """The row of an event."""
    return {
        "seq": seq,
        "kind": event.kind.value,
        "run_id": event.run_id,
        "account_id": event.account_id,
        "at_ms": event.at_ms,
        "attempt": event.attempt,
        "body": to_json(dict(event.body)),
    }


def recorded_of(row: Sequence[Any]) -> Recorded:
    """An event from its row, in the order of the table's columns."""
    seq, kind, run_id, account_id, at_ms, attempt, body = row
    return Recorded(seq, Event(EventKind(kind), run_id, account_id, at_ms, attempt, body_of(body)))


def insert_into(table: str, columns: Iterable[str]) -> str:
    """The text of an INSERT with named parameters."""
    names = list(columns)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"
