"""Which learner failed first, told from records."""

import json
from pathlib import Path
from typing import Any

import pytest

from runyard.node.became import Became
from runyard.node.gang import see
from runyard.node.home import AttemptFolder

RUN = "training-abcdefghi"


def folder(root: Path, learner: int) -> AttemptFolder:
    path = root if learner == 1 else root / f"learner-{learner}"
    path.mkdir(exist_ok=True)
    return AttemptFolder(RUN, 1, str(path), learner)


def end(code: int | None, at: int, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"exit_code": code, "signal": None, "cause": None, "launch_failed": None, "oom_kills": 0}
    fields |= {"started_at_ms": 1000, "boottime_started_ms": 10, "boottime_ended_ms": at, "ended_at_ms": 5000 - at}
    return fields | {"boot_id": "this"} | more


PEER = {"cause": "peer", "boottime_stopped_ms": 60}
UNSTARTED = {"launch_failed": {"message": "no bash"}, "started_at_ms": None, "boottime_started_ms": None}


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([end(0, 50), end(0, 90)], (0, None, None, "")),
        ([end(0, 50), end(3, 90)], (3, None, None, "Learner 2 failed first: exit code 3.")),
        ([end(4, 95), end(3, 90)], (3, None, None, "Learner 2 failed first: exit code 3.")),
        ([end(143, 70, **PEER), end(3, 90)], (3, None, None, "Learner 2 failed first: exit code 3.")),
        # Another start of the machine has another clock.
        ([end(4, 95), end(3, 90, boot_id="other")], (4, None, None, "Learner 1 failed first: exit code 4.")),
        # Told to stop at 20, it took its grace; its peer noticed.
        ([end(0, 95, cause="time_limit", boottime_stopped_ms=20), end(1, 25)], (0, None, "time_limit", "")),
        ([end(143, 70, cause="cancel", boottime_stopped_ms=65), end(3, 60)],
         (3, None, None, "Learner 2 failed first: exit code 3.")),
        ([end(1, 50), end(137, 70, oom_kills=1, **PEER)],
         (137, None, None, "Learner 2 failed first: it went over its memory limit.")),
        ([end(3, 50), end(None, 70, **UNSTARTED)],
         (None, "no bash", None, "Learner 2 could not be started: no bash.")),
        ([end(None, 50, signal=9), end(1, 60)], (None, None, None, "Learner 1 failed first: signal 9 (SIGKILL).")),
    ],
)  # fmt: skip
def test_the_first_cause_decides(tmp_path: Path, records: list[dict[str, Any]], told: tuple[Any, ...]) -> None:
    folders = [folder(tmp_path, number) for number in range(1, len(records) + 1)]
    for each, record in zip(folders, records, strict=True):
        Path(each.exit).write_text(json.dumps(record))
    gang = see(folders)
    exited = gang.exited()
    assert (exited.exit_code, exited.launch_error, exited.cause, exited.detail) == told
    assert exited.at_ms == max(record["ended_at_ms"] for record in records)
    assert gang.became is Became.exited


def test_the_word_of_a_program_on_its_own_failure_must_be_possible(tmp_path: Path) -> None:
    """A learner of several processes says when the first of them failed; it cannot speak of another time."""
    one, two = folder(tmp_path, 1), folder(tmp_path, 2)
    Path(one.exit).write_text(json.dumps(end(3, 50)))
    Path(two.exit).write_text(json.dumps(end(7, 90)))
    Path(two.own).mkdir()
    for text, code in (('{"boottime_ms": 40}', 7), ('{"boottime_ms": 9}', 3), ('{"boottime_ms": 91}', 3), ("[" * 9, 3)):
        Path(two.own, "first-failure.json").write_text(text)
        assert see([one, two]).exited().exit_code == code


def test_a_gang_of_which_some_never_began_is_yet_to_be_ended(tmp_path: Path) -> None:
    one, two = folder(tmp_path, 1), folder(tmp_path, 2)
    assert see([one, two]).became is Became.prepared
    Path(one.started).write_text('{"started_at_ms": 1000}')
    assert see([one, two]).became is Became.running
    assert see([one, two]).began() is None
    Path(two.started).write_text('{"started_at_ms": 1500}')
    assert see([one, two]).became is Became.lost
    Path(two.exit).write_text(json.dumps(end(0, 50)))
    assert see([one, two]).became is Became.lost
    Path(one.exit).write_text(json.dumps(end(0, 50)))
    began = see([one, two]).began()
    assert began is not None
    assert began.at_ms == 1500
