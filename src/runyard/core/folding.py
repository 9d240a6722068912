"""Several steps of one run told at once become one change of its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runyard.core.lifecycle import Command, Transition
from runyard.core.run import FINAL, HOLDS_SLOT, Run, Storing

_AFTER_STORING = frozenset({Command.stop_storing, Command.release})


def folded(moves: Sequence[Transition]) -> tuple[Transition, ...]:
    """The steps of one run, each from where the one before ended, as one: every event, but only the commands that still
    make sense at its end. Steps that settle more than one attempt stay as they are."""
    settled = [move.settled for move in moves if move.settled is not None]
    if len(moves) < 2 or len(settled) > 1:
        return tuple(moves)
    after = moves[-1].after
    commands = dict.fromkeys(command for move in moves for command in move.commands)
    return (
        replace(
            moves[0],
            after=after,
            events=tuple(event for move in moves for event in move.events),
            commands=tuple(command for command in commands if _makes_sense(command, after)),
            settled=settled[0] if settled else None,
        ),
    )


def _makes_sense(command: Command, run: Run) -> bool:
    if command in _AFTER_STORING:
        return run.state_name in FINAL
    if command is Command.store:
        return isinstance(run.state, Storing)
    return run.state_name in HOLDS_SLOT
