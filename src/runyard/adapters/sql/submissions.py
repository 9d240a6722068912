"""Accepting runs: any number of them in one transaction, at the cost of a few statements."""

from __future__ import annotations

from typing import Final

from runyard.adapters.sql.accounts import insist_on_room
from runyard.adapters.sql.bulk import add_runs, add_tags
from runyard.adapters.sql.changes import count_states
from runyard.adapters.sql.codec import insert_into, numbers, spec_to_json, to_json, words
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.dependencies import add_dependencies
from runyard.adapters.sql.places import accepted, count_blocks, forget_empty
from runyard.adapters.sql.ranks import RANK_STEP
from runyard.adapters.sql.renumber import next_id
from runyard.adapters.sql.staging import mark_all
from runyard.core.errors import Conflict
from runyard.core.events import EventKind
from runyard.core.lifecycle import first_start
from runyard.core.resources import Resources
from runyard.core.run import BLOCKED, StateName, Waiting
from runyard.ports.store import Submission

_INSERT_SPEC: Final = insert_into(
    "specs",
    (
        "id",
        "account_id",
        "spec",
        "code_sha256",
        "append_args",
        "provenance",
        "sealed",
        "priority",
        "stage_rank",
        "environment",
        "limit_ms",
    ),
)
_INSERT_CLASS: Final = insert_into(
    "queue_classes", ("id", "account_id", "priority", "gpus", "cpu_millis", "memory_mib", "waiting", "ready")
)
_INSERT_KEY: Final = insert_into("idempotency", ("account_id", "key", "digest", "run_ids", "created_ms"))
_INSERT_ACCEPTED: Final = (
    "INSERT INTO events (seq, kind, run_id, account_id, at_ms, attempt, body) "
    "SELECT seq + :shift, :kind, id, account_id, created_ms, NULL, :body FROM runs WHERE seq BETWEEN :first AND :last"
)

_ACCEPTED_IDS: Final = "SELECT run_id FROM events WHERE seq BETWEEN :first AND :last ORDER BY seq"


class SubmissionTables:
    """The way in."""

    _db: Database

    def submit(self, submission: Submission) -> tuple[tuple[str, ...], bool]:
        count = len(submission.ids)
        if not count or len(submission.names) != count or len(submission.parameters) != count:
            raise ValueError(
                "a submission has at least one run, and one id, one name and one set of parameters for each"
            )
        with self._db.write() as tx:
            key = submission.idempotency_key
            earlier = None if key is None else _earlier(tx, submission.account_id, key, submission.request_digest)
            if earlier is not None:
                return earlier, True
            insist_on_room(tx, submission.account_id, count)
            try:
                _accept(tx, submission)
            except self._db.integrity_error as error:
                raise Conflict("One of the new ids is in use already: submit again, with other ids.") from error
        return submission.ids, False

    def replay(self, account_id: str, idempotency_key: str, request_digest: str) -> tuple[str, ...] | None:
        with self._db.read() as tx:
            return _earlier(tx, account_id, idempotency_key, request_digest)


def _earlier(tx: Transaction, account_id: str, key: str, digest: str) -> tuple[str, ...] | None:
    row = tx.row(
        "SELECT digest, run_ids FROM idempotency WHERE account_id = :account AND key = :key",
        account=account_id,
        key=key,
    )
    if row is None:
        return None
    if row[0] != digest:
        raise Conflict(
            f"The idempotency key {key!r} was used for another request: send the same request again, or use a new key.",
            code="idempotency_conflict",
        )
    # Until revision 0003 the ids themselves were kept; now the numbers of their first events, which outlive them.
    text: str = row[1]
    if text.startswith('["') or text == "[]":
        return words(text)
    first, count = numbers(text)
    return tuple(each[0] for each in tx.rows(_ACCEPTED_IDS, first=first, last=first + count - 1))


def _accept(tx: Transaction, submission: Submission) -> None:
    count = len(submission.ids)
    first = tx.take("run", count)
    spec_id = _add_spec(tx, submission, first * RANK_STEP)
    class_id = class_of(tx, submission.account_id, submission.spec.options.priority, submission.resources, count)
    _add_runs(tx, submission, first, spec_id, class_id)
    first_event = tx.take("event", count)
    tx.change(
        _INSERT_ACCEPTED,
        shift=first_event - first,
        kind=EventKind.accepted.value,
        body=to_json({"member": submission.member_id}),
        first=first,
        last=first + count - 1,
    )
    count_states(tx, {(submission.account_id, StateName.waiting): count})
    if submission.ready_on is not None:
        mark_all(tx, spec_id, submission.ready_on, submission.now_ms)
    if submission.idempotency_key is not None:
        tx.change(
            _INSERT_KEY,
            account_id=submission.account_id,
            key=submission.idempotency_key,
            digest=submission.request_digest,
            run_ids=to_json((first_event, count)),
            created_ms=submission.now_ms,
        )


def _add_spec(tx: Transaction, submission: Submission, rank: int) -> int:
    spec_id = next_id(tx, "specs")
    tx.change(
        _INSERT_SPEC,
        id=spec_id,
        account_id=submission.account_id,
        spec=spec_to_json(submission.spec),
        code_sha256=submission.code_sha256,
        append_args=submission.append_args,
        provenance=to_json(dict(submission.provenance)),
        sealed=submission.sealed,
        priority=submission.spec.options.priority,
        stage_rank=rank,
        environment=to_json(submission.environment),
        limit_ms=submission.spec.options.max_runtime_ms,
    )
    return spec_id


def class_of(tx: Transaction, account_id: str, priority: int, resources: Resources, count: int) -> int:
    """The queue class of runs of this account, priority and shape, with ``count`` more that wait in it."""
    shape = {
        "account_id": account_id,
        "priority": priority,
        "gpus": resources.gpus,
        "cpu_millis": resources.cpu_millis,
        "memory_mib": resources.memory_mib,
    }
    known = tx.value(
        "SELECT id FROM queue_classes WHERE account_id = :account_id AND priority = :priority AND gpus = :gpus "
        "AND cpu_millis = :cpu_millis AND memory_mib = :memory_mib",
        **shape,
    )
    if known is not None:
        tx.change("UPDATE queue_classes SET waiting = waiting + :count WHERE id = :id", count=count, id=known)
        return int(known)
    made = next_id(tx, "queue_classes")
    tx.change(_INSERT_CLASS, id=made, waiting=count, ready=0, **shape)
    return made


def _add_runs(tx: Transaction, submission: Submission, first: int, spec_id: int, class_id: int) -> None:
    options = submission.spec.options
    not_before = BLOCKED if submission.after else first_start(options.start_after_ms, submission.now_ms)
    shared = {
        "account_id": submission.account_id,
        "member_id": submission.member_id,
        "spec_id": spec_id,
        "class_id": class_id,
        "priority": options.priority,
        "state": StateName.waiting.value,
        "detail": to_json(Waiting(not_before)),
        "version": 1,
        "created_ms": submission.now_ms,
        "max_retries": options.max_retries,
        "attempt": 0,
        "not_before_ms": not_before,
        "notes": to_json(submission.notes),
    }
    add_runs(tx, first, shared, submission.ids, submission.names, submission.parameters)
    add_tags(tx, first, len(submission.ids), options.tags)
    add_dependencies(tx, submission.ids, submission.after)
    if not submission.after:
        forget_empty(tx)
        count_blocks(tx, accepted(options.priority, first * RANK_STEP, len(submission.ids)))
