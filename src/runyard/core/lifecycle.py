"""The life of a run: facts in, transitions out.

Every function takes the run as it is, one fact, and the time, and returns the transition that follows, or None when
the fact is stale (a fenced attempt's late word, a second report of the same thing, a wish that came too late).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from runyard.core.events import Event, EventKind
from runyard.core.exits import Exit, judge
from runyard.core.idle import IdleRule, Quiet, Then
from runyard.core.idle import sentence as idle_sentence
from runyard.core.reasons import RULES, Fault, Reason, sentence
from runyard.core.run import (
    BLOCKED,
    GRANT,
    GRANTED,
    HOLDS_SLOT,
    Attempt,
    Ending,
    Finished,
    Run,
    Running,
    Starting,
    State,
    StateName,
    StopCause,
    Stopping,
    Storing,
    Waiting,
)


class Command(StrEnum):
    """What the executor is asked to do after a transition."""

    launch = "launch"
    grant = "grant"
    stop = "stop"
    store = "store"
    stop_storing = "stop_storing"
    release = "release"


_WISHES: Final[Mapping[StopCause, Ending]] = MappingProxyType(
    {
        StopCause.cancel: Ending(StateName.canceled, Reason.canceled),
        StopCause.prune: Ending(StateName.completed, Reason.pruned),
    }
)
"""What becomes of a run that somebody wants to end for good, once nothing of its own decides otherwise."""

_STOPPED_FOR: Final = frozenset({Reason.preempted, Reason.idle_requeued, Reason.idle})
"""Ends of which the wish to stop knows more than the exit record."""

_WEIGHTS: Final = (
    StopCause.fenced,
    StopCause.preempt,
    StopCause.requeue,
    StopCause.time_limit,
    StopCause.disk_limit,
    StopCause.idle,
    StopCause.prune,
    StopCause.cancel,
)
"""A wish to stop overrides those before it: a run that makes room must not come back when it was canceled meanwhile."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A run as it was and as it becomes, with the events to record and the commands to give once that is durable.

    ``settled``: the attempt whose slot was released by this transition, for the ledger.
    """

    before: Run
    after: Run
    events: tuple[Event, ...]
    commands: tuple[Command, ...] = ()
    settled: Attempt | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Budget of new attempts after the platform's own faults, and the back-off before each (doubling, capped)."""

    platform_attempts: int = 3
    first_backoff_ms: int = 1_000
    longest_backoff_ms: int = 300_000

    def backoff_ms(self, failures: int) -> int:
        """Milliseconds to wait after the ``failures``-th fault (from 1)."""
        return min(self.longest_backoff_ms, self.first_backoff_ms * 2 ** min(max(0, failures - 1), 30))


def _event(run: Run, kind: EventKind, now: int, attempt: int | None = None, /, **body: object) -> Event:
    return Event(kind, run.id, run.account_id, now, attempt, body)


def _move(run: Run, state: State, **changes: object) -> Run:
    return replace(run, state=state, version=run.version + 1, **changes)  # pyright: ignore[reportArgumentType]  # replace() is untyped for kwargs


def _with_attempt(run: Run, attempt: Attempt) -> tuple[Attempt, ...]:
    return (*run.attempts[: attempt.number - 1], attempt)


def _current(run: Run, number: int) -> Attempt | None:
    attempt = run.attempt
    return attempt if attempt is not None and attempt.number == number and run.state_name in HOLDS_SLOT else None


def assign(run: Run, node_id: str, slots: tuple[int, ...], now: int) -> Transition | None:
    """A slot is assigned: a new attempt begins. One that was granted ahead can only have it on its node."""
    if not isinstance(run.state, Waiting) or run.state.granted_to not in (None, node_id):
        return None
    attempt = Attempt(len(run.attempts) + 1, node_id, slots, assigned_ms=now)
    after = _move(run, Starting(), attempts=(*run.attempts, attempt))
    event = _event(run, EventKind.assigned, now, attempt.number, node=node_id, slots=list(slots))
    return Transition(run, after, (event,), (Command.launch,))


def begun(run: Run, number: int, at_ms: int, now: int, way: str = "", way_note: str = "") -> Transition | None:
    """The program has begun. ``way`` and ``way_note``: as an attempt keeps them."""
    attempt = _current(run, number)
    if attempt is None or attempt.started_ms is not None:
        return None
    started = min(max(at_ms, attempt.assigned_ms), now)
    state = run.state if isinstance(run.state, Stopping) else Running()
    began = replace(attempt, started_ms=started, way=way, way_note=way_note)
    body: dict[str, object] = {"started_at": started}
    if way:
        body["way"] = way
    after = _move(run, state, attempts=_with_attempt(run, began))
    return Transition(run, after, (_event(run, EventKind.running, now, number, **body),))


def gpu_error(run: Run, number: int, detail: str, now: int) -> Transition | None:
    """A GPU has reported a hardware error while an attempt is on it; the program may go on."""
    attempt = _current(run, number)
    if attempt is None or not isinstance(run.state, Running) or run.state.trouble == detail:
        return None
    after = _move(run, replace(run.state, trouble=detail))
    return Transition(run, after, (_event(run, EventKind.gpu_error, now, number, detail=detail),))


def quiet(run: Run, number: int, kind: Quiet | None, since_ms: int, now: int) -> Transition | None:
    """The program of an attempt does nothing since a moment; None: it does something again."""
    attempt = _current(run, number)
    if attempt is None or not isinstance(run.state, Running) or run.state.quiet == (kind or ""):
        return None
    if kind is None:
        after = _move(run, replace(run.state, quiet="", quiet_since_ms=0))
        return Transition(run, after, (_event(run, EventKind.active, now, number),))
    since = min(max(since_ms, attempt.assigned_ms), now)
    after = _move(run, replace(run.state, quiet=kind.value, quiet_since_ms=since))
    body = {"kind": kind.value, "since": since, "detail": idle_sentence(kind, now - since)}
    return Transition(run, after, (_event(run, EventKind.quiet, now, number, **body),))


def stop_quiet(run: Run, rule: IdleRule, now: int) -> Transition | None:
    """What is to follow for a run that was just found quiet: None where it is only told."""
    state = run.state
    if not isinstance(state, Running) or not state.quiet or rule.then is Then.tell:
        return None
    detail = idle_sentence(Quiet(state.quiet), now - state.quiet_since_ms)
    if rule.then is Then.stop:
        return stop(run, StopCause.idle, now, detail)
    before = sum(1 for each in run.attempts if each.ending and each.ending.reason is Reason.idle_requeued)
    if before < rule.requeues:
        return stop(run, StopCause.requeue, now, detail)
    return stop(run, StopCause.idle, now, f"{detail} It has been put back {before} times before (`idle_requeues`).")


def stop(run: Run, cause: StopCause, now: int, detail: str = "") -> Transition | None:
    """Somebody wants the run to stop; ``detail`` says on whose behalf. A waiting run ends at once (once what earlier
    attempts left is stored), a storing one keeps what is stored.

    Only cancel and prune end a waiting run: the other causes were meant for a program that is gone.
    """
    state = run.state
    if isinstance(state, Waiting) and cause in _WISHES:
        return _stop_granted(run, state, cause, now) if state.granted_to else _stop_waiting(run, cause, now)
    if isinstance(state, Starting | Running):
        return _stop_program(run, Stopping(cause, now, detail), now)
    if isinstance(state, Stopping) and _WEIGHTS.index(cause) > _WEIGHTS.index(state.cause):
        return _stop_program(run, Stopping(cause, state.since_ms, detail), now)
    if isinstance(state, Storing) and cause is StopCause.cancel:
        note = "Canceled while storing: what was stored by then is kept, the rest is not in the bucket."
        ending = replace(state.ending, outcome=StateName.canceled)
        return _finish(run, ending, now, note=note, settled_commands=(Command.stop_storing, Command.release))
    return None


def _stop_waiting(run: Run, cause: StopCause, now: int) -> Transition:
    ending = replace(_WISHES[cause], outcome=StateName.canceled)
    if not run.attempts:
        return _finish(run, ending, now)
    after = _move(run, Storing(ending), finished_ms=now)
    return Transition(run, after, (_event(run, EventKind.storing, now, len(run.attempts)),), (Command.store,))


def _stop_granted(run: Run, state: Waiting, cause: StopCause, now: int) -> Transition:
    """Its node may have begun it meanwhile, and is asked; until it answers there is an attempt without room."""
    number = len(run.attempts) + 1
    attempt = Attempt(number, state.granted_to or "", (), assigned_ms=now, way=GRANT)
    after = _move(run, Stopping(cause, now), attempts=_with_attempt(run, attempt))
    event = _event(run, EventKind.stopping, now, number, cause=cause.value)
    return Transition(run, after, (event,), (Command.stop,))


def _stop_program(run: Run, state: Stopping, now: int) -> Transition:
    number = run.attempts[-1].number
    body: dict[str, object] = {"cause": state.cause.value}
    if state.detail:
        body["detail"] = state.detail
    event = _event(run, EventKind.stopping, now, number, **body)
    return Transition(run, _move(run, state), (event,), (Command.stop,))


def ended(run: Run, number: int, record: Exit, policy: RetryPolicy, now: int) -> Transition | None:
    """The program is gone: the slot is released, and the run stores its results or waits for another attempt."""
    attempt = _current(run, number) or _granted(run, number, now)
    if attempt is None:
        return None
    released = min(max(record.at_ms, attempt.started_ms or attempt.assigned_ms), now)
    released = attempt.assigned_ms if _had_no_room(attempt) else released
    closed = replace(
        attempt,
        released_ms=released,
        ending=judge(record),
        log_bytes=record.log_bytes,
        tamper_proof=record.tamper_proof,
        peak_memory_mib=record.peak_memory_mib,
    )
    return _close(run, closed, policy, now)


def lost(run: Run, number: int, reason: Reason, detail: str, policy: RetryPolicy, now: int) -> Transition | None:
    """The attempt cannot be heard of again (its shim, node or machine died): the platform's fault."""
    attempt = _current(run, number) or _granted(run, number, now)
    if attempt is None:
        return None
    ending = Ending(StateName.failed, reason, detail=detail)
    released = attempt.assigned_ms if _had_no_room(attempt) else now
    return _close(run, replace(attempt, released_ms=released, ending=ending), policy, now)


def _close(run: Run, attempt: Attempt, policy: RetryPolicy, now: int) -> Transition:
    ending = attempt.ending
    assert ending is not None
    if ending.reason in _STOPPED_FOR and isinstance(run.state, Stopping) and run.state.detail:
        ending = replace(ending, detail=run.state.detail)
        attempt = replace(attempt, ending=ending)
    attempts = _with_attempt(run, attempt)
    ended_event = _event(
        run,
        EventKind.attempt_ended,
        now,
        attempt.number,
        reason=ending.reason.value,
        fault=_fault(ending).value,
        exit_code=ending.exit_code,
        signal=ending.signal,
        released_at=attempt.released_ms,
    )
    ending = _with_wish(run, ending)
    if _may_retry(run, attempts, policy):
        failures = sum(1 for a in attempts if a.ending is not None and _fault(a.ending) is Fault.platform)
        not_before = now + (policy.backoff_ms(failures) if _fault(ending) is Fault.platform else 0)
        after = _move(run, Waiting(not_before, ending), attempts=attempts)
        requeued = _event(run, EventKind.requeued, now, attempt.number, not_before=not_before)
        return Transition(run, after, (ended_event, requeued), (), attempt)
    after = _move(run, Storing(ending), attempts=attempts, finished_ms=attempt.released_ms)
    storing = _event(run, EventKind.storing, now, attempt.number)
    return Transition(run, after, (ended_event, storing), (Command.store,), attempt)


def _with_wish(run: Run, ending: Ending) -> Ending:
    """How the run ends whose attempt ended so: as was wished, unless the program's own end came before the stop."""
    wish = _WISHES.get(run.state.cause) if isinstance(run.state, Stopping) else None
    if wish is None or ending.outcome is not StateName.failed or _fault(ending) is Fault.user:
        return ending
    return replace(wish, exit_code=ending.exit_code, signal=ending.signal, detail=ending.detail)


def _fault(ending: Ending) -> Fault:
    return RULES[ending.reason].fault


def _may_retry(run: Run, attempts: tuple[Attempt, ...], policy: RetryPolicy) -> bool:
    ending = attempts[-1].ending
    if ending is None or ending.outcome is not StateName.failed or not RULES[ending.reason].retry:
        return False
    if isinstance(run.state, Stopping) and run.state.cause in _WISHES:
        return False
    fault = _fault(ending)
    if fault is Fault.none:
        return True
    same = sum(1 for a in attempts if a.ending is not None and _fault(a.ending) is fault)
    return same <= (policy.platform_attempts if fault is Fault.platform else run.max_retries)


def staged(run: Run, node_id: str, now: int, fetched: int = 0) -> Transition | None:
    """Code and data are ready on a node, which had to fetch so many bytes for it."""
    if not isinstance(run.state, Waiting) or run.ready_on is not None:
        return None
    after = _move(run, run.state, ready_on=node_id, staged_ms=now)
    return Transition(run, after, (_event(run, EventKind.staged, now, node=node_id, fetched=fetched),))


def first_start(start_after_ms: int | None, now: int) -> int:
    """``not_before_ms`` of a run that may not start before a moment (None: at once)."""
    return start_after_ms if start_after_ms is not None and start_after_ms > now else 0


def is_blocked(run: Run) -> bool:
    """Whether a run waits for other runs (``after``)."""
    return isinstance(run.state, Waiting) and run.state.not_before_ms >= BLOCKED


def unblocked(run: Run, now: int, start_after_ms: int | None = None) -> Transition | None:
    """All runs that it waited for have completed; it may still have to wait for its start window."""
    if not isinstance(run.state, Waiting) or not is_blocked(run):
        return None
    after = _move(run, replace(run.state, not_before_ms=first_start(start_after_ms, now)))
    return Transition(run, after, (_event(run, EventKind.unblocked, now),))


def dependency_failed(run: Run, detail: str, now: int) -> Transition | None:
    """A run that it waited for will never complete. It never began, so nothing of it is to be stored."""
    if not is_blocked(run):
        return None
    return _finish(run, Ending(StateName.canceled, Reason.dependency_failed, detail=detail), now)


def is_granted(run: Run) -> bool:
    """Whether a run was granted ahead to a node."""
    return isinstance(run.state, Waiting) and run.state.granted_to is not None


def granted(run: Run, node_id: str, now: int) -> Transition | None:
    """A run that may start is granted ahead to the node where it is ready. Durable before the node hears of it, so that
    nobody else starts it; nothing to be told of: it waits as before."""
    if not isinstance(run.state, Waiting) or run.ready_on != node_id or run.state.not_before_ms > now:
        return None
    state = replace(run.state, not_before_ms=GRANTED, granted_to=node_id)
    return Transition(run, _move(run, state), (), (Command.grant,))


def declined(run: Run, node_id: str, number: int, now: int) -> Transition | None:
    """The node has not begun what it was granted as this attempt, and will not: it waits for its turn again, or ends as
    it was to."""
    state = run.state
    if isinstance(state, Waiting) and state.granted_to == node_id and number == len(run.attempts) + 1:
        return Transition(run, _move(run, replace(state, not_before_ms=0, granted_to=None)), ())
    attempt = _current(run, number)
    if attempt is None or attempt.node_id != node_id or attempt.way != GRANT or not isinstance(state, Stopping):
        return None
    return ended(run, number, Exit(now, None, None, state.cause), RetryPolicy(), now)


def taken(run: Run, node_id: str, number: int, slots: tuple[int, ...], at_ms: int, now: int) -> Transition | None:
    """The node has begun a run that it was granted, in the room of an attempt that ended at ``at_ms``.

    It may have been asked to stop meanwhile, or been given a slot that had become free: then it goes on in the room
    that it really has.
    """
    free_from = max((a.released_ms or 0 for a in run.attempts[: number - 1]), default=run.created_ms)
    begins = max(free_from, min(at_ms, now))
    attempt = _current(run, number)
    if attempt is None:
        if not isinstance(run.state, Waiting) or is_blocked(run) or number != len(run.attempts) + 1:
            return None
        if node_id != (run.state.granted_to or run.ready_on):
            return None
        attempt = Attempt(number, node_id, slots, begins)
    elif (
        attempt.node_id != node_id
        or attempt.started_ms is not None
        or (attempt.slots == slots and attempt.way != GRANT)
    ):
        return None
    state = run.state if isinstance(run.state, Stopping) else Starting()
    attempts = _with_attempt(run, replace(attempt, slots=slots, assigned_ms=begins, way=""))
    event = _event(run, EventKind.assigned, now, number, node=node_id, slots=list(slots))
    return Transition(run, _move(run, state, attempts=attempts), (event,))


def _granted(run: Run, number: int, now: int) -> Attempt | None:
    """The attempt as which a granted run may have begun without anybody's having seen it."""
    if not isinstance(run.state, Waiting) or run.state.granted_to is None or number != len(run.attempts) + 1:
        return None
    return Attempt(number, run.state.granted_to, (), assigned_ms=now)


def _had_no_room(attempt: Attempt) -> bool:
    """Whether an attempt is nothing but a grant that nobody saw begin: nothing is billed of it."""
    return attempt.way == GRANT and attempt.started_ms is None


def staging_failed(run: Run, reason: Reason, detail: str, now: int) -> Transition | None:
    """Code or data cannot be had: the evidence is stored, no slot was ever held."""
    if not isinstance(run.state, Waiting) or is_granted(run):
        return None
    after = _move(run, Storing(Ending(StateName.failed, reason, detail=detail)), finished_ms=now)
    event = _event(run, EventKind.staging_problem, now, reason=reason.value, detail=detail)
    return Transition(run, after, (event, _event(run, EventKind.storing, now)), (Command.store,))


def stored(run: Run, now: int, objects: int, size: int) -> Transition | None:
    """Everything is in the results bucket, its manifest object last: the run is final."""
    if not isinstance(run.state, Storing):
        return None
    return _finish(run, run.state.ending, now, stored=(objects, size), settled_commands=(Command.release,))


def store_failed(run: Run, detail: str, now: int, *, denied: bool) -> Transition | None:
    """One try at storing failed. Results are tried again for as long as it takes; where no program ever ran and the
    store says no, there is nothing to wait for."""
    if not isinstance(run.state, Storing):
        return None
    if denied and not run.attempts:
        note = f"The evidence could not be stored in the results bucket ({detail}); `logs` shows it."
        return _finish(run, run.state.ending, now, note=note, settled_commands=(Command.release,))
    state = replace(run.state, problem=detail, tries=run.state.tries + 1)
    event = _event(run, EventKind.store_problem, now, detail=detail, tries=state.tries)
    return Transition(run, _move(run, state), (event,))


def results_lost(run: Run, detail: str, now: int) -> Transition | None:
    """What the run left behind is nowhere any more, and not all of it is in the bucket. ``detail`` says in a sentence
    how that is known.

    A run that ended well has failed then; one that ended otherwise ends as it was to. Its program had its slots and is
    not begun again: the bill stands.
    """
    if not isinstance(run.state, Storing):
        return None
    ending, note = run.state.ending, f"What it left behind was lost before all of it was stored: {detail}"
    if ending.outcome is StateName.completed:
        ending, note = replace(ending, outcome=StateName.failed, reason=Reason.results_lost, detail=detail), ""
    return _finish(run, ending, now, note=note, settled_commands=(Command.release,))


def _finish(
    run: Run,
    ending: Ending,
    now: int,
    *,
    note: str = "",
    stored: tuple[int, int] | None = None,
    settled_commands: tuple[Command, ...] = (),
) -> Transition:
    changes: dict[str, object] = {"finished_ms": now if run.finished_ms is None else run.finished_ms}
    if stored is not None:
        changes["stored_ms"] = now
    after = _move(run, Finished(ending, note), **changes)
    body: dict[str, object] = {"state": ending.outcome.value, "reason": ending.reason.value,
                               "fault": _fault(ending).value, "exit_code": ending.exit_code}  # fmt: skip
    if stored is not None:
        body |= {"objects": stored[0], "bytes": stored[1]}
    if note:
        body["note"] = note
    number = len(run.attempts) or None
    return Transition(run, after, (_event(run, EventKind.finished, now, number, **body),), settled_commands)


def sentence_of(ending: Ending) -> str:
    """The sentence for people about an ending."""
    return sentence(ending.reason, exit_code=ending.exit_code, signal=ending.signal, detail=ending.detail)
