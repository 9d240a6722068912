"""Control groups that one program after another is in: whose they are, and when one is used no more."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.shim import cgroups, processes
from runyard.shim.groups import MOST_FREE, MOST_HELD, Groups, remove_left
from tests.shim.launching import PATIENCE_S, group, needs_root
from tests.shim.test_cgroups import needs
from tests.shim.test_isolation import WORKS
from tests.shim.warm_shims import ALL, Run, Warm
from tests.support.waiting import wait_until

LIMITS = {"name": "", "memory_bytes": 64 << 20, "cpu_millis": 1000, "pids": 50}
pytestmark = [
    needs_root,
    needs("memory", "pids"),
    pytest.mark.skipif(
        any(each.unified and "memory" in each.controllers for each in cgroups.hierarchies()),
        reason="groups of version 2 are used once",
    ),
]


@pytest.fixture
def above(request: pytest.FixtureRequest) -> Iterator[str]:
    """The group above those of a test; nothing is left in it."""
    name = f"runyard/test-{os.getpid()}-{abs(hash(request.node.name))}"
    yield name
    assert below(name) == set()
    cgroups.remove(path for path in places(name) if os.path.isdir(path))


def places(above: str) -> list[str]:
    return [f"{base}/{above}" for each in cgroups.hierarchies() for base in each.bases]


def below(above: str) -> set[str]:
    """The names of the groups that are there."""
    found = [path for path in places(above) if os.path.isdir(path)]
    return {name for path in found for name in os.listdir(path) if os.path.isdir(f"{path}/{name}")}


def test_one_that_is_free_is_taken_again_for_the_same_limits_alone(above: str) -> None:
    groups = Groups()
    first = groups.take(above, LIMITS)
    assert (first.missing, first.controllers >= {"memory", "pids"}) == ([], True)
    second = groups.take(above, LIMITS)
    assert second.name != first.name
    assert groups.is_as_new(first, 0)
    groups.give_back(first)
    other = groups.take(above, {**LIMITS, "memory_bytes": 32 << 20})
    assert other.name not in (first.name, second.name)
    assert groups.take(above, {**LIMITS, "name": "another"}) is first
    for each in (first, second, other):
        assert groups.remove(each) == []
    assert below(above) == set()


def test_its_peak_begins_anew(above: str) -> None:
    groups = Groups()
    made = groups.take(above, LIMITS)
    run_in(made, "x = bytearray(20 << 20)")
    kills, peak = cgroups.evidence(made)
    assert kills == 0
    assert peak is not None
    assert peak > 20 << 20
    assert groups.is_as_new(made, kills)
    assert (cgroups.evidence(made)[1] or 0) <= MOST_HELD
    groups.remove(made)


def run_in(made: cgroups.Group, text: str) -> int:
    """The wait status of a program in a group."""
    pid = os.fork()
    if pid == 0:
        cgroups.join(made.folders)
        os.execv("/usr/bin/env", ["env", "python3", "-c", text])
    return os.waitpid(pid, 0)[1]


def test_one_in_which_something_is_left_is_used_no_more(above: str, tmp_path: Path) -> None:
    groups = Groups()
    made = groups.take(above, LIMITS)
    assert groups.is_as_new(made, 0)
    assert not groups.is_as_new(made, 1), "the kernel counts kills, and never back"
    with subprocess.Popen(["sleep", "60"]) as process:
        cgroups.join(made.folders, process.pid)
        assert not groups.is_as_new(made, 0), "a process"
        process.kill()
    os.mkdir(f"{made.folders[-1]}/below")
    assert not groups.is_as_new(made, 0), "a group"
    os.rmdir(f"{made.folders[-1]}/below")
    assert groups.is_as_new(made, 0)
    run_in(made, f"open({str(tmp_path / 'big')!r}, 'wb').write(bytes({4 * MOST_HELD}))")
    assert not groups.is_as_new(made, 0), "pages of a file"
    groups.remove(made)


def test_no_more_are_kept_than_may_be_needed_soon(above: str) -> None:
    groups = Groups()
    made = [groups.take(above, LIMITS) for _ in range(MOST_FREE + 2)]
    for each in made:
        groups.give_back(each)
    assert len(below(above)) == MOST_FREE
    groups.rest()
    assert below(above) == {made[-1].name.rpartition("/")[2]}
    groups.end()
    assert not any(map(os.path.isdir, places(above)))


def test_those_of_shims_that_are_gone_are_removed(above: str) -> None:
    own = Groups().take(above, LIMITS)
    with subprocess.Popen(["sleep", "60"]) as process:
        theirs = f"{above}/shim-{process.pid}-{processes.start_ticks(process.pid)}-1"
        cgroups.create(theirs, LIMITS)
        remove_left(above)
        assert below(above) == {own.name.rpartition("/")[2], theirs.rpartition("/")[2]}
        process.kill()
    cgroups.create(f"{above}/shim-odd", LIMITS)
    remove_left(above)
    assert below(above) == {own.name.rpartition("/")[2], "shim-odd"}
    remove_left(above, os.getpid())
    assert below(above) == {"shim-odd"}
    cgroups.remove(f"{path}/shim-odd" for path in places(above))


# ------------------------------------------------------------------------------------------------- of a warm shim

works = pytest.mark.skipif(not set(ALL) <= set(WORKS), reason="this machine lets nobody make these namespaces")


def over(run: Run) -> tuple[str, int]:
    """The name of its group, and the most memory that was in use, once it is over."""
    record = run.ended()
    return record["cgroup"]["name"], record["memory_peak_bytes"]


@works
def test_one_program_after_another_is_in_the_same_group(warm: Warm) -> None:
    limits = group("warm", memory_bytes=512 << 20)
    seen = [over(warm.launch(script, cgroup=limits)) for script in ("eats.py", "seven.py", "seven.py")]
    assert len({name for name, _ in seen}) == 1
    assert seen[0][1] > 300 << 20
    assert max(peak for _, peak in seen[1:]) < 50 << 20, "each has a peak of its own"


@works
def test_programs_at_once_have_a_group_each(warm: Warm) -> None:
    runs = [warm.launch("wait.py", cgroup=group("warm", memory_bytes=512 << 20)) for _ in range(3)]
    assert len({run.started()["cgroup"]["name"] for run in runs}) == 3
    for run in runs:
        run.go()
    assert [run.ended()["exit_code"] for run in runs] == [5] * 3


@works
def test_a_group_in_which_something_was_killed_is_used_no_more(warm: Warm) -> None:
    killed = warm.launch("eats.py", cgroup=group("warm", memory_bytes=64 << 20))
    assert killed.ended()["oom_kills"] >= 1
    stopped = warm.launch("deaf.py", cgroup=group("warm", memory_bytes=64 << 20))
    stopped.wait_for_line("ready")
    stopped.client().say(op="stop", cause="cancel", grace_s=0)
    assert stopped.ended()["signal"] == signal.SIGKILL
    last = warm.launch("seven.py", cgroup=group("warm", memory_bytes=64 << 20)).ended()
    assert (last["exit_code"], last["oom_kills"]) == (7, 0)
    names = {run.started()["cgroup"]["name"] for run in (killed, stopped)}
    assert last["cgroup"]["name"] not in names
    assert not [
        folder for run in (killed, stopped) for folder in run.started()["cgroup"]["folders"] if os.path.isdir(folder)
    ]


@works
@pytest.mark.parametrize("dies", [False, True])
def test_no_group_is_left_of_a_shim(warm: Warm, dies: bool) -> None:
    run = warm.launch("seven.py", cgroup=group("warm", memory_bytes=64 << 20))
    run.ended()
    folders = run.started()["cgroup"]["folders"]
    wait_until(lambda: all(map(os.path.isdir, folders)), "the group that is kept")
    if dies:
        warm.process.kill()
        warm.process.wait(PATIENCE_S)
        assert all(map(os.path.isdir, folders))
        remove_left(run.started()["cgroup"]["name"].rpartition("/")[0], warm.process.pid)
    else:
        warm.line.close()
        warm.process.wait(PATIENCE_S)
    assert not any(map(os.path.isdir, folders))
