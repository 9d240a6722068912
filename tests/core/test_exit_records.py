"""Reading exit records: outcome and reason, by table. The first cause decides."""

from __future__ import annotations

import pytest

from runyard.core.lifecycle import Exit, judge, sentence_of
from runyard.core.run import StopCause
from tests.core.builders import T0

CANCEL, LIMIT = StopCause.cancel, StopCause.time_limit
PREEMPT, PRUNE, FENCED = StopCause.preempt, StopCause.prune, StopCause.fenced
DISK = StopCause.disk_limit
RECORDS: list[tuple[str, dict[str, object], tuple[str, str, int | None, int | None]]] = [
    ("success", {"exit_code": 0}, ("completed", "finished", 0, None)),
    ("success though a child ran out of memory", {"exit_code": 0, "oom_kills": 1}, ("completed", "finished", 0, None)),
    ("failure", {"exit_code": 1}, ("failed", "nonzero_exit", 1, None)),
    ("the largest exit code", {"exit_code": 255}, ("failed", "nonzero_exit", 255, None)),
    ("not executable", {"exit_code": 126}, ("failed", "not_executable", 126, None)),
    ("not found", {"exit_code": 127}, ("failed", "command_not_found", 127, None)),
    ("128 is no signal", {"exit_code": 128}, ("failed", "nonzero_exit", 128, None)),
    ("bash's word for SIGHUP", {"exit_code": 129}, ("failed", "killed_by_signal", 129, 1)),
    ("bash's word for SIGKILL", {"exit_code": 137}, ("failed", "killed_by_signal", 137, 9)),
    ("bash's word for SIGSEGV", {"exit_code": 139}, ("failed", "killed_by_signal", 139, 11)),
    ("bash's word for the last signal", {"exit_code": 192}, ("failed", "killed_by_signal", 192, 64)),
    ("past the last signal", {"exit_code": 193}, ("failed", "nonzero_exit", 193, None)),
    ("a signal", {"signal": 11}, ("failed", "killed_by_signal", None, 11)),
    ("137 alone is no proof of memory", {"signal": 9}, ("failed", "killed_by_signal", None, 9)),
    ("out of memory, killed", {"signal": 9, "oom_kills": 1}, ("failed", "out_of_memory", None, 9)),
    ("out of memory in a child", {"exit_code": 1, "oom_kills": 2}, ("failed", "out_of_memory", 1, None)),
    ("out of memory, not found", {"exit_code": 127, "oom_kills": 1}, ("failed", "out_of_memory", 127, None)),
    ("time limit", {"exit_code": 143, "cause": LIMIT}, ("failed", "time_limit", 143, None)),
    ("time limit, left politely", {"exit_code": 0, "cause": LIMIT}, ("failed", "time_limit", 0, None)),
    ("time limit, then killed", {"signal": 9, "cause": LIMIT}, ("failed", "time_limit", None, 9)),
    ("time limit before memory", {"signal": 9, "cause": LIMIT, "oom_kills": 1}, ("failed", "time_limit", None, 9)),
    ("disk limit", {"exit_code": 0, "cause": DISK}, ("failed", "disk_limit", 0, None)),
    ("idle", {"exit_code": 0, "cause": StopCause.idle}, ("failed", "idle", 0, None)),
    ("put back", {"exit_code": 0, "cause": StopCause.requeue}, ("failed", "idle_requeued", 0, None)),
    ("canceled", {"signal": 15, "cause": CANCEL}, ("canceled", "canceled", None, 15)),
    ("preempted", {"exit_code": 0, "cause": PREEMPT}, ("failed", "preempted", 0, None)),
    ("pruned", {"exit_code": 143, "cause": PRUNE}, ("completed", "pruned", 143, None)),
    ("fenced", {"signal": 9, "cause": FENCED}, ("failed", "node_lost", None, 9)),
    ("not launched", {"launch_error": "no bash"}, ("failed", "launch_failed", None, None)),
    ("not launched wins", {"launch_error": "no", "cause": CANCEL}, ("failed", "launch_failed", None, None)),
    ("nothing known", {}, ("failed", "nonzero_exit", None, None)),
]


@pytest.mark.parametrize(("record", "expected"), [pytest.param(*r[1:], id=r[0]) for r in RECORDS])
def test_an_exit_record_is_read(record: dict[str, object], expected: tuple[str, str, int | None, int | None]) -> None:
    values: dict[str, object] = {"at_ms": T0, "exit_code": None, "signal": None} | record
    ending = judge(Exit(**values))  # type: ignore[arg-type]  # keyword arguments are not checked one by one
    assert (ending.outcome, ending.reason, ending.exit_code, ending.signal) == expected
    text = sentence_of(ending)
    assert "{" not in text
    assert "None" not in text
    assert ending.detail in text


def test_every_cause_is_read() -> None:
    assert {record["cause"] for _, record, _ in RECORDS if "cause" in record} == set(StopCause)
