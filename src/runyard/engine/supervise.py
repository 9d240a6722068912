"""What nodes report becomes what runs are: many facts in one transaction, folded in the order in which they came."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from runyard.core import lifecycle
from runyard.core.folding import folded
from runyard.core.idle import rule_of
from runyard.core.lifecycle import Command, Exit, Transition, is_granted
from runyard.core.reasons import Reason
from runyard.core.run import FINAL, Attempt, Run, StopCause, Storing
from runyard.engine.bell import DISPATCH, EVENTS, STAGE
from runyard.engine.commit import apply, change
from runyard.engine.ghosts import Ghost, has_begun_unseen
from runyard.engine.orders import any_node
from runyard.engine.told import (
    Began,
    Declined,
    Exited,
    GpuError,
    Lost,
    Stored,
    StoreFailed,
    Then,
    Told,
    WentQuiet,
    runs_in,
)
from runyard.engine.world import World

_TRIES = 20
_NO_WORD = "It began, and nobody told whose room it took."


def take(world: World, node_id: str, told: Sequence[Told]) -> list[bool]:
    """Take what a node tells, in this order. False for what is stale: of a fenced attempt, or of a run that is not the
    node's. All of it is one transaction; where somebody else was faster with one of the runs, each fact is its own."""
    with world.orders:
        answers = _try(world, node_id, told)
        return answers if answers is not None else [_alone(world, node_id, each) for each in told]


def _alone(world: World, node_id: str, told: Told) -> bool:
    for _ in range(_TRIES):
        answers = _try(world, node_id, [told])
        if answers is not None:
            return answers[0]
    raise RuntimeError(f"{told.run_id} changed {_TRIES} times while one fact was taken")


def _try(world: World, node_id: str, told: Sequence[Told]) -> list[bool] | None:
    """The answers; None, and nothing has changed, when a run had changed meanwhile."""
    ids = dict.fromkeys(run_id for each in told for run_id in runs_in(each))
    world.ahead.answered(node_id, ids)
    fold = _Fold(world, node_id, world.store.runs_of(list(ids)))
    answers = [fold.take(each) for each in told]
    moves = [move for steps in fold.moves.values() for move in folded(steps)]
    if moves and not all(apply(world, moves, whole=True)):
        return None
    fold.end_ghosts()
    return answers


class _Fold:
    """Some runs, and what facts make of them one after the other."""

    def __init__(self, world: World, node_id: str, runs: Sequence[Run]) -> None:
        self._world = world
        self._node_id = node_id
        self._now = world.clock.now_ms()
        self._runs = {run.id: run for run in runs}
        self.moves: defaultdict[str, list[Transition]] = defaultdict(list)
        self._over: list[tuple[str, int]] = []
        self._strays: list[tuple[Then, tuple[str, int], tuple[int, ...]]] = []
        """Attempts that have begun and should not have, with those whose room they took over, and its slots."""

    def take(self, told: Told) -> bool:
        """Take one fact; False when it is stale."""
        run = self._runs.get(told.run_id)
        if run is None:
            return False
        match told:
            case Began():
                self._move(self._begun(run, told))
                self._look_for_stray(Then(told.run_id, told.attempt), told.run_id, 0)
                return self._is_current(told.run_id, told.attempt)
            case Exited() | Lost():
                ended = self._move(self._ended(run, told))
                self._over.append((told.run_id, told.attempt))
                if told.then is not None:
                    self._take_over(told.then, run, told.attempt if ended else 0)
                    self._look_for_stray(told.then, told.run_id, told.attempt)
                return self._is_current(told.run_id, told.attempt)
            case GpuError():
                if _owns(run, self._node_id, told.attempt):
                    self._move(lifecycle.gpu_error(run, told.attempt, told.detail, self._now))
                return self._is_current(told.run_id, told.attempt)
            case WentQuiet():
                self._went_quiet(run, told)
                return self._is_current(told.run_id, told.attempt)
            case Declined():
                return self._move(lifecycle.declined(run, self._node_id, told.attempt, self._now))
            case Stored():
                stores = _stores(run, self._node_id)
                return self._move(lifecycle.stored(run, self._now, told.objects, told.size) if stores else None)
            case StoreFailed():
                return self._move(self._not_stored(run, told) if _stores(run, self._node_id) else None)

    def _not_stored(self, run: Run, told: StoreFailed) -> Transition | None:
        if told.lost:
            return lifecycle.results_lost(run, told.detail, self._now)
        return lifecycle.store_failed(run, told.detail, self._now, denied=told.denied)

    def _look_for_stray(self, then: Then, before: str, number: int) -> None:
        """An attempt that has begun after one of the run ``before``: maybe it was given up before that was known."""
        run = self._runs.get(then.run_id)
        if run is not None and has_begun_unseen(run, self._node_id, then.attempt):
            room = _attempt_of(self._runs[before], number)
            self._strays.append((then, (before, number), () if room is None else room.slots))

    def end_ghosts(self) -> None:
        """What was told is durable: room of what should have ended is free where it has, and what has begun though it
        should not is ended."""
        world, node_id = self._world, self._node_id
        gone = {each: ghost for each in self._over if (ghost := world.ghosts.gone(node_id, each)) is not None}
        for then, before, slots in self._strays:
            run, key = self._runs[then.run_id], (then.run_id, then.attempt)
            slots = gone[before].slots if before in gone else slots
            if key not in self._over and world.ghosts.found(node_id, Ghost(key, slots, run.resources)):
                world.executor.stop(node_id, *key, StopCause.fenced, 0)
        if gone:
            world.bell.ring(DISPATCH)

    def _move(self, transition: Transition | None) -> bool:
        if transition is None:
            return False
        self._runs[transition.after.id] = transition.after
        self.moves[transition.after.id].append(transition)
        return True

    def _is_current(self, run_id: str, attempt: int) -> bool:
        run = self._runs[run_id]
        return run.state_name not in FINAL and _owns(run, self._node_id, attempt)

    def _begun(self, run: Run, told: Began) -> Transition | None:
        if _is_granted_as(run, self._node_id, told.attempt):
            return lifecycle.lost(run, told.attempt, Reason.node_lost, _NO_WORD, self._world.rules.retry, self._now)
        if not _owns(run, self._node_id, told.attempt):
            return None
        return lifecycle.begun(run, told.attempt, told.at_ms, self._now, told.way, told.way_note)

    def _went_quiet(self, run: Run, told: WentQuiet) -> None:
        """Put down that a run does nothing, and do what is to follow, in one step: neither is forgotten or repeated."""
        if not _owns(run, self._node_id, told.attempt):
            return
        if self._move(lifecycle.quiet(run, told.attempt, told.kind, told.since_ms, self._now)):
            rule = rule_of(self._world.specs.get(run.spec_id).spec.options, self._world.rules.idle)
            self._move(lifecycle.stop_quiet(self._runs[run.id], rule, self._now))

    def _ended(self, run: Run, told: Exited | Lost) -> Transition | None:
        if not _owns(run, self._node_id, told.attempt) and not _is_granted_as(run, self._node_id, told.attempt):
            return None
        policy = self._world.rules.retry
        if isinstance(told, Lost):
            return lifecycle.lost(run, told.attempt, told.reason, told.detail, policy, self._now)
        record = self._handed_back(run, told.record)
        transition = lifecycle.ended(run, told.attempt, record, policy, self._now)
        if transition is None or record.launch_error is None:
            return transition
        self._world.ready.discard(self._node_id, run.spec_id)
        return replace(transition, after=replace(transition.after, ready_on=None))  # what it lacked is fetched again

    def _handed_back(self, run: Run, record: Exit) -> Exit:
        """The record of an attempt that could not begin where its GPU was not free, or code and data were not as ready
        as this server had guessed: nobody's fault, and of no length."""
        if record.launch_error is not None and record.launch_reason is Reason.gpu_taken:
            return replace(record, at_ms=0)
        if record.launch_error is None or not self._world.ready.is_guess(self._node_id, run.spec_id):
            return record
        return replace(record, launch_reason=Reason.not_ready, at_ms=0)

    def _take_over(self, then: Then, before: Run, ended: int) -> None:
        """Give a granted run the room of attempt ``ended`` of a run; 0: that had none any more."""
        run = self._runs.get(then.run_id)
        room = _attempt_of(self._runs[before.id], ended)
        if run is None:
            return
        if room is not None and room.released_ms is not None and _are_alike(run, before):
            slots, at_ms = room.slots, room.released_ms
            self._move(lifecycle.taken(run, self._node_id, then.attempt, slots, at_ms, self._now))
        elif _is_granted_as(run, self._node_id, then.attempt):
            policy = self._world.rules.retry
            self._move(lifecycle.lost(run, then.attempt, Reason.node_lost, _NO_WORD, policy, self._now))


def _are_alike(run: Run, other: Run) -> bool:
    """Whether one may have the room of the other: they were of one class when it was granted, whatever the priority
    that it was given since."""
    return run.account_id == other.account_id and run.resources == other.resources


def _attempt_of(run: Run, number: int) -> Attempt | None:
    return run.attempts[number - 1] if 1 <= number <= len(run.attempts) else None


def _owns(run: Run, node_id: str, attempt: int) -> bool:
    latest = run.attempt
    return latest is not None and latest.number == attempt and latest.node_id == node_id


def _is_granted_as(run: Run, node_id: str, attempt: int) -> bool:
    return is_granted(run) and run.ready_on == node_id and attempt == len(run.attempts) + 1


def _stores(run: Run, node_id: str) -> bool:
    """Whether a node is the one that a run's results are stored by."""
    return isinstance(run.state, Storing) and node_id == (
        run.attempt.node_id if run.attempt is not None else run.ready_on or node_id
    )


def began(world: World, node_id: str, run_id: str, attempt: int, at_ms: int, way: str = "", way_note: str = "") -> bool:
    """The program runs. False when the attempt is fenced."""
    return take(world, node_id, [Began(run_id, attempt, at_ms, way, way_note)])[0]


def exited(world: World, node_id: str, run_id: str, attempt: int, record: Exit) -> bool:
    """The program is gone. False when the attempt is fenced."""
    return take(world, node_id, [Exited(run_id, attempt, record)])[0]


def lost(world: World, node_id: str, run_id: str, attempt: int, reason: Reason, detail: str) -> bool:
    """The attempt left no exit record. False when it is fenced."""
    return take(world, node_id, [Lost(run_id, attempt, reason, detail)])[0]


def stored(world: World, node_id: str, run_id: str, objects: int, size: int) -> bool:
    """Everything is in the bucket. False when the run is not this node's to store."""
    return take(world, node_id, [Stored(run_id, objects, size)])[0]


def store_failed(world: World, node_id: str, run_id: str, detail: str, *, denied: bool) -> bool:
    """A try at storing failed; the node goes on trying. False when the run is not this node's to store."""
    return take(world, node_id, [StoreFailed(run_id, detail, denied)])[0]


def is_current(world: World, node_id: str, run_id: str, attempt: int) -> bool:
    """Whether a node still has to care for an attempt: the latest of a run that is not final."""
    run = world.store.run(run_id)
    return run is not None and run.state_name not in FINAL and _owns(run, node_id, attempt)


def node_gone(world: World, node_id: str, detail: str) -> int:
    """A node was not heard of for too long: its attempts are fenced, what it was to make ready is asked of others, and
    evidence that the server has is stored by another node. Returns how many attempts there were.

    A run that was granted to it may have begun there unseen: the attempt as which it would have is fenced as well.
    Results that lie on the node are waited for: nobody else has them.
    """
    now = world.clock.now_ms()
    policy = world.rules.retry
    count = 0
    for run in world.store.granted_runs(node_id):
        number = len(run.attempts) + 1
        change(world, run.id, lambda r, n=number: lifecycle.lost(r, n, Reason.node_lost, detail, policy, now))
    for run in world.store.active_runs(node_id):
        number = run.attempt.number if run.attempt is not None else 0
        if change(world, run.id, lambda r, n=number: lifecycle.lost(r, n, Reason.node_lost, detail, policy, now)):
            count += 1
        change(world, run.id, lambda r: _moved_evidence(world, r, node_id))
    world.ready.gone(node_id)
    world.store.unstage(node_id)
    world.bell.ring(DISPATCH, STAGE, EVENTS)
    return count


def _moved_evidence(world: World, run: Run, node_id: str) -> Transition | None:
    other = any_node(world)
    if other is None or run.attempts or run.ready_on != node_id or not isinstance(run.state, Storing):
        return None
    return Transition(run, replace(run, ready_on=other, version=run.version + 1), (), (Command.store,))
