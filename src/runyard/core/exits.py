"""How an attempt ended, read from the exit record that its shim wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from runyard.core.reasons import Reason
from runyard.core.run import Ending, StateName, StopCause

_FAILURES: Final[Mapping[StopCause, Reason]] = MappingProxyType(
    {
        StopCause.preempt: Reason.preempted,
        StopCause.requeue: Reason.idle_requeued,
        StopCause.fenced: Reason.node_lost,
        StopCause.time_limit: Reason.time_limit,
        StopCause.disk_limit: Reason.disk_limit,
        StopCause.idle: Reason.idle,
    }
)
"""How an attempt ended that was stopped for something; whether the run comes back is the reason's."""


@dataclass(frozen=True, slots=True)
class Exit:
    """The exit record of an attempt as its shim wrote it. ``at_ms``: when the program was gone, by the node's clock.

    ``launch_reason``: with a ``launch_error``, whose doing that was. ``detail``: which learner it was, of several.
    ``gpu_error``: what a GPU had reported before the program failed by itself, in a sentence.
    """

    at_ms: int
    exit_code: int | None
    signal: int | None
    cause: StopCause | None = None
    oom_kills: int = 0
    launch_error: str | None = None
    log_bytes: int = 0
    tamper_proof: bool = False
    peak_memory_mib: int | None = None
    launch_reason: Reason = Reason.launch_failed
    detail: str = ""
    gpu_error: str = ""


def judge(record: Exit) -> Ending:
    """Read an exit record: outcome and reason. The first cause decides; out of memory comes from the kernel's count."""
    ending = _judge(record)
    return replace(ending, detail=record.launch_error or _details(ending, record))


def _details(ending: Ending, record: Exit) -> str:
    told = (record.gpu_error if ending.reason is Reason.gpu_failed else "", record.detail)
    return " ".join(filter(None, told))


def _judge(record: Exit) -> Ending:
    code, signal = record.exit_code, record.signal
    if record.launch_error is not None:
        return Ending(StateName.failed, record.launch_reason)
    if record.cause is StopCause.cancel:
        return Ending(StateName.canceled, Reason.canceled, code, signal)
    if record.cause is StopCause.prune:
        return Ending(StateName.completed, Reason.pruned, code, signal)
    if record.cause is not None and record.cause in _FAILURES:
        return Ending(StateName.failed, _FAILURES[record.cause], code, signal)
    if code == 0:
        return Ending(StateName.completed, Reason.finished, 0)
    if record.oom_kills > 0:
        return Ending(StateName.failed, Reason.out_of_memory, code, signal)
    if record.gpu_error:
        return Ending(StateName.failed, Reason.gpu_failed, code, signal)
    return Ending(StateName.failed, *_by_status(code, signal))


def _by_status(code: int | None, signal: int | None) -> tuple[Reason, int | None, int | None]:
    if signal is not None:
        return Reason.killed_by_signal, code, signal
    if code == 127:
        return Reason.command_not_found, code, None
    if code == 126:
        return Reason.not_executable, code, None
    if code is not None and 128 < code < 128 + 65:
        return Reason.killed_by_signal, code, code - 128  # bash reports a child's signal n as 128 + n (bash(1))
    return Reason.nonzero_exit, code, None
