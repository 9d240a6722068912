"""Control groups: found in any layout, set, joined, read as evidence, and emptied."""

import os
import signal
import time
from pathlib import Path

import pytest

from runyard.shim import cgroups, lean
from tests.shim.launching import PATIENCE_S, UID, Launcher, alive, bash, group, needs_root
from tests.support.waiting import wait_until

HYBRID = """\
31 23 0:28 / /cg rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /cg/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /cg/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /cg/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /cg/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_OWN = "9:name=systemd:/a\n4:memory:/api/12\n1:cpu,cpuacct:/\n0::/a\n"


def bases(mountinfo: str, membership: str) -> list[tuple[list[str], bool, list[str]]]:
    found = cgroups.hierarchies(mountinfo, membership)
    return [(sorted(each.controllers), each.unified, each.bases) for each in found]


def test_the_hierarchies_of_a_hybrid_machine_with_the_own_group_before_the_root() -> None:
    assert bases(HYBRID, HYBRID_OWN) == [
        (["cpu", "cpuacct"], False, ["/cg/cpu,cpuacct"]),
        (["memory"], False, ["/cg/memory/api/12", "/cg/memory"]),
        (["name=systemd"], False, ["/cg/systemd/a", "/cg/systemd"]),
        ([], True, ["/cg/unified/a", "/cg/unified"]),
    ]


@pytest.mark.parametrize(
    ("root", "own", "expected"),
    [
        ("/", "/a.slice/run/node", ["/cg 2/a.slice/run/node", "/cg 2/a.slice/run", "/cg 2"]),
        ("/", "/", ["/cg 2"]),
        ("/docker/f00", "/docker/f00", ["/cg 2"]),  # a container that sees the machine's paths
        ("/docker/f00", "/docker/f00/init", ["/cg 2/init", "/cg 2"]),
        ("/docker/f00", "/docker/f00d", ["/cg 2"]),
        ("/..", "/", ["/cg 2"]),
    ],
)
def test_the_unified_hierarchy_wherever_it_is_mounted(root: str, own: str, expected: list[str]) -> None:
    assert bases(f"30 23 0:26 {root} /cg\\0402 rw - cgroup2 cgroup2 rw,nsdelegate\n", f"0::{own}\n") == [
        ([], True, expected)
    ]


def test_a_base_hands_down_controllers_that_the_own_group_lacks(tmp_path: Path) -> None:
    own = tmp_path / "a.service"
    own.mkdir()
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (own / "cgroup.controllers").write_text("memory\n")
    mountinfo = f"30 23 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw,nsdelegate\n"
    assert bases(mountinfo, "0::/a.service\n") == [(["cpu", "memory", "pids"], True, [str(own), str(tmp_path)])]


def test_which_files_hold_the_limits() -> None:
    limits = {"memory_bytes": 1 << 30, "cpu_millis": 2500, "pids": 77}
    assert cgroups.settings(limits, unified=False) == {
        "memory": [("memory.limit_in_bytes", "1073741824"), ("memory.memsw.limit_in_bytes", "1073741824")],
        "cpu": [("cpu.cfs_quota_us", "250000")],
        "pids": [("pids.max", "77")],
    }
    assert cgroups.settings(limits, unified=True) == {
        "memory": [("memory.max", "1073741824"), ("memory.swap.max", "0")],
        "cpu": [("cpu.max", "250000 100000")],
        "pids": [("pids.max", "77")],
    }
    assert cgroups.settings({"memory_bytes": None, "cpu_millis": 1}, unified=True) == {
        "cpu": [("cpu.max", "1000 100000")]  # the least that the kernel takes
    }


def test_what_cannot_be_had_is_said_and_refuses_nothing() -> None:
    made = cgroups.create("runyard/none", {"memory_bytes": 1, "cpu_millis": None, "pids": 5}, found=[])
    assert made.record() == {
        "name": "runyard/none",
        "controllers": [],
        "folders": [],
        "missing": "No memory limit: this machine gives no memory control group here. "
        "No pids limit: this machine gives no pids control group here.",
    }


@needs_root
def test_without_privileges_the_program_runs_and_the_records_say_what_is_missing(open_launcher: Launcher) -> None:
    attempt = open_launcher.launch("echo ran", user=UID, cgroup=group("plain", memory_bytes=1 << 26))
    ended = attempt.ended()
    assert (ended["exit_code"], ended["cgroup"]["folders"], attempt.logged()) == (0, [], "ran\n")
    assert "No memory limit" in ended["cgroup"]["missing"]
    assert "No memory limit" in attempt.started()["cgroup"]["missing"]


def needs(*controllers: str) -> pytest.MarkDecorator:
    found = {name for each in cgroups.hierarchies() for name in each.controllers}
    absent = [name for name in controllers if name not in found] or ([] if os.geteuid() == 0 else ["root"])
    return pytest.mark.skipif(bool(absent), reason=f"needs {', '.join(absent)}, which this machine or user has not")


@needs("memory", "pids", "cpu")
def test_a_program_is_in_its_group_from_its_first_instruction_and_the_group_goes_with_it(launcher: Launcher) -> None:
    wanted = group("all", memory_bytes=1 << 27, cpu_millis=1500, pids=64)
    attempt = launcher.launch("cat /proc/self/cgroup; echo ready; read -r _ < /dev/null || sleep 60", cgroup=wanted)
    client = attempt.running()
    attempt.wait_for_line("ready")
    cgroup = attempt.started()["cgroup"]
    assert {"memory", "cpu", "pids"} <= set(cgroup["controllers"])
    assert cgroup["missing"] is None
    texts = [path.read_text().strip() for folder in cgroup["folders"] for path in limit_files(Path(folder))]
    assert str(1 << 27) in texts
    assert "64" in texts
    assert {"150000", "150000 100000"} & set(texts)
    joined = [line.rpartition(":")[2] for line in attempt.logged().splitlines() if wanted["name"] in line]
    assert len(joined) >= len(cgroup["folders"])
    client.say(op="stop", cause="cancel", grace_s=0)
    record = client.wait_for("exited")["record"]
    assert record["memory_peak_bytes"] > 0
    assert [folder for folder in cgroup["folders"] if os.path.exists(folder)] == []


@needs_root
@needs("cpu")
def test_programs_together_weigh_as_a_process_for_each_processor(launcher: Launcher) -> None:
    above = f"{group('weight')['name']}-above"
    attempt = launcher.launch("sleep 60", cgroup={**group("weight", cpu_millis=1000), "name": f"{above}/own"})
    client = attempt.running()
    parents = [Path(folder).parent for folder in attempt.started()["cgroup"]["folders"]]
    files = [parent / file for parent in parents for file in ("cpu.shares", "cpu.weight")]
    weights = {file.name: int(file.read_text()) for file in files if file.exists()}
    client.say(op="stop", cause="cancel", grace_s=0)
    client.wait_for("exited")
    for parent in parents:
        parent.rmdir()
    processors = len(os.sched_getaffinity(0))
    assert weights
    assert weights.items() <= {"cpu.shares": 1024 * processors, "cpu.weight": min(10_000, 100 * processors)}.items()


def limit_files(folder: Path) -> list[Path]:
    names = ("memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max", "pids.max")
    return [folder / name for name in names if (folder / name).exists()]


@needs("memory")
def test_going_over_the_memory_limit_is_told_by_the_kernel(launcher: Launcher) -> None:
    limit = 64 << 20
    eat = "x = bytearray(300 << 20); print(7 * 191)"
    direct = launcher.launch(["/usr/bin/python3", "-I", "-S", "-c", eat], cgroup=group("oom", memory_bytes=limit))
    below = launcher.launch(f'/usr/bin/python3 -I -S -c "{eat}" || exit 3', cgroup=group("oom", memory_bytes=limit))
    first, second = direct.ended(), below.ended()
    assert (first["signal"], first["exit_code"], first["cause"]) == (signal.SIGKILL, None, None)
    assert (second["signal"], second["exit_code"]) == (None, 3)  # the code alone would not tell
    assert first["oom_kills"] >= 1
    assert second["oom_kills"] >= 1
    assert limit // 2 < first["memory_peak_bytes"] <= limit
    assert "1337" not in direct.logged() + below.logged()


@needs("memory")
def test_a_limit_too_small_to_start_in_is_said_as_such(launcher: Launcher) -> None:
    ended = launcher.launch("echo ran", cgroup=group("tiny", memory_bytes=4096)).ended()
    assert ended["launch_failed"]["stage"] == "launch"
    assert "is its memory limit too small?" in ended["launch_failed"]["message"]
    assert ended["oom_kills"] >= 1


@needs("pids")
def test_the_number_of_processes_is_bounded(launcher: Launcher) -> None:
    many = "import os, signal\nfor n in range(30):\n  print(n, flush=True)\n  if os.fork() == 0: signal.pause()"
    attempt = launcher.launch(["/usr/bin/python3", "-I", "-S", "-c", many], cgroup=group("few", pids=10))
    ended = attempt.ended()
    assert (ended["exit_code"], ended["killed_leftovers"]) == (1, 9)
    assert "BlockingIOError: [Errno 11] Resource temporarily unavailable" in attempt.logged()


@needs("memory", "pids", "cpu")
def test_what_lies_above_is_removed_once_nothing_is_in_it() -> None:
    above = f"runyard/test-above-{os.getpid()}"
    limits = {"memory_bytes": 1 << 27, "cpu_millis": 500, "pids": 9}
    first, second = (cgroups.create(f"{above}/{name}", limits) for name in ("first", "second"))
    parents = [os.path.dirname(folder) for folder in first.folders]
    assert cgroups.remove(first.folders) == []
    cgroups.remove_unused(above)
    assert all(os.path.isdir(folder) for folder in [*parents, *second.folders])
    assert cgroups.remove(second.folders) == []
    cgroups.remove_unused(above)
    assert parents
    assert [folder for folder in parents if os.path.exists(folder)] == []
    again = cgroups.create(f"{above}/again", limits)
    assert (len(again.folders), again.missing) == (len(parents), [])
    assert cgroups.remove(again.folders) == []
    cgroups.remove_unused(above)


# ------------------------------------------------------------------------------------- version 2, whatever the machine


@pytest.fixture
def unified() -> list[cgroups.Hierarchy]:
    found = [each for each in cgroups.hierarchies() if each.unified and os.access(each.bases[-1], os.W_OK)]
    if not found:
        pytest.skip("no unified hierarchy that this user may write to")
    return found


def test_a_child_is_born_in_a_unified_group_and_all_of_it_is_killed_at_once(unified: list[cgroups.Hierarchy]) -> None:
    name = group("unified")["name"]
    made = cgroups.create(name, {}, unified)
    assert made.unified is not None
    assert made.folders == [made.unified]
    pid, born_in = lean.fork_into(made.unified)
    if pid == 0:
        os.execv("/bin/bash", bash("sleep 60 & setsid sleep 60 & sleep 60"))
    try:
        assert born_in
        wait_until(lambda: len(cgroups.members(made.folders)) == 4, "the program's processes", pause=0.005)
        everyone = cgroups.members(made.folders)
        assert pid in everyone
        cgroups.kill(made.folders)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        wait_until(lambda: not any(alive(each) for each in everyone), "their end", pause=0.005)
    finally:
        assert cgroups.kill_cgroup(name, made.folders) == set()
    assert not os.path.exists(made.unified)


def test_a_process_can_join_a_unified_group_too(unified: list[cgroups.Hierarchy]) -> None:
    made = cgroups.create(group("join")["name"], {}, unified)
    pid = os.fork()
    if pid == 0:
        os._exit(len(cgroups.join(made.folders)) or (0 if cgroups.members(made.folders) == [os.getpid()] else 9))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert cgroups.remove(made.folders) == []


def test_without_a_group_to_be_born_in_a_child_is_forked_all_the_same() -> None:
    for place in (None, "/no/such/group", "/tmp"):
        pid, born_in = lean.fork_into(place)
        if pid == 0:
            os._exit(5)
        assert (os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), born_in) == (5, False)


def test_a_group_with_groups_below_it_is_emptied_and_removed(unified: list[cgroups.Hierarchy]) -> None:
    made = cgroups.create(group("nest")["name"], {}, unified)
    below = f"{made.folders[0]}/below"
    os.mkdir(below)
    pid, born_in = lean.fork_into(below)
    if pid == 0:
        time.sleep(PATIENCE_S)
        os._exit(0)
    assert born_in
    assert cgroups.members(made.folders) == [pid]
    cgroups.kill(made.folders)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert cgroups.kill_cgroup(made.name, made.folders) == set()
    assert not os.path.exists(made.folders[0])
