"""The cells of a warm parent: which run gets which, and when one is used no more."""

import os
import signal

import pytest

from tests.shim.launching import alive, needs_root
from tests.shim.test_isolation import WORKS
from tests.shim.warm_shims import ALL, Run, Warm
from tests.support.waiting import wait_until

pytestmark = [
    needs_root,
    pytest.mark.skipif(not set(ALL) <= set(WORKS), reason="this machine lets nobody make these namespaces"),
]


def ended(run: Run) -> int:
    """The process that its record names, once it is over."""
    assert run.ended()["exit_code"] == 7
    return run.started()["pid"]


def test_one_run_after_another_is_in_the_cell_that_was_there(warm: Warm) -> None:
    wait_until(lambda: len(warm.children()) == 1, "a cell that waits for the first run")
    waiting = warm.children()
    assert [ended(warm.launch("seven.py")) for _ in range(3)] == waiting * 3
    assert warm.children() == waiting


def test_runs_at_once_are_in_a_cell_each_and_one_stays(warm: Warm) -> None:
    runs = [warm.launch("wait.py") for _ in range(4)]
    cells = {run.started()["pid"] for run in runs}
    assert len(cells) == 4
    for run in runs:
        run.go()
    assert [run.ended()["exit_code"] for run in runs] == [5] * 4
    wait_until(lambda: len(warm.children()) == 1, "one cell that is left")
    assert ended(warm.launch("seven.py")) in cells


def test_a_cell_that_was_changed_is_used_no_more(warm: Warm) -> None:
    first = ended(warm.launch("spoils.py"))
    wait_until(lambda: not alive(first), "the end of the cell")
    assert ended(warm.launch("seven.py")) != first


def test_a_run_that_was_stopped_ends_its_cell_and_counts_for_itself_alone(warm: Warm) -> None:
    first = warm.launch("burns.py").ended()
    second = warm.launch("deaf.py")
    second.wait_for_line("ready")
    assert second.started()["pid"] in warm.children()
    client = second.client()
    client.wait_for("started")
    client.say(op="stop", cause="cancel", grace_s=0)
    record = second.ended()
    assert (record["cause"], record["signal"]) == ("cancel", signal.SIGKILL)
    assert 0 <= record["user_cpu_s"] < first["user_cpu_s"]
    assert record["max_rss_kib"] > 4000
    assert not alive(second.started()["pid"])
    ended(warm.launch("seven.py"))


def test_a_free_cell_that_dies_hinders_no_run(warm: Warm) -> None:
    wait_until(lambda: len(warm.children()) == 1, "a cell that waits")
    [cell] = warm.children()
    os.kill(cell, signal.SIGKILL)
    wait_until(lambda: warm.children() not in ([], [cell]), "another one")
    assert ended(warm.launch("seven.py")) != cell


def test_the_cells_of_a_parent_that_died_end_with_their_runs(warm: Warm) -> None:
    run = warm.launch("wait.py")
    run.wait_for_line("ready")
    os.kill(warm.parent(), signal.SIGKILL)
    assert warm.hear()["event"] == "gone"
    run.go()
    assert run.ended()["exit_code"] == 5
    wait_until(lambda: not alive(run.started()["pid"]), "the end of the cell")


def test_what_is_refused_fewer_calls_has_an_init_of_its_own(warm: Warm) -> None:
    wait_until(lambda: len(warm.children()) == 1, "a cell that waits")
    waiting = warm.children()
    run = warm.launch("seven.py", open_calls=["keyctl"])
    assert ended(run) not in waiting
    assert warm.children() == waiting
