"""A program in namespaces of its own: what it sees and reaches, how it ends, and what it cannot do to its init."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runyard.node.home import AttemptFolder
from runyard.node.shims import end_what_is_left, kill_shim
from runyard.shim import cgroups, isolation, lean, view
from tests.shim.launching import ENV, PATIENCE_S, UID, Launcher, alive, group, needs_root
from tests.shim.test_cgroups import needs
from tests.shim.test_isolation import WORKS
from tests.support.waiting import wait_until

ALL = ["user", "pid", "mount", "ipc"]
needs_namespaces = pytest.mark.skipif(
    not {"pid", "mount", "ipc"} <= set(WORKS), reason="this machine lets nobody make these namespaces"
)
pytestmark = [needs_root, needs_namespaces]
needs_user_namespaces = pytest.mark.skipif("user" not in WORKS, reason="no user namespaces without privileges here")
AS_ROOT = {"uid": UID, "gid": UID}
AS_USER = {"user": UID}
BOTH = pytest.mark.parametrize(
    "how", [AS_ROOT, pytest.param(AS_USER, marks=needs_user_namespaces)], ids=["root", "user"]
)


def python(script: str) -> list[str]:
    return ["/usr/bin/python3", "-I", "-S", "-c", script]


def inside(pid: int) -> list[int]:
    """The processes of the PID namespace that a process is in."""
    own = os.readlink(f"/proc/{pid}/ns/pid")
    found: list[int] = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.readlink(f"/proc/{name}/ns/pid") == own and alive(int(name)):
                found.append(int(name))
        except OSError:
            continue
    return found


@BOTH
def test_a_program_sees_itself_alone_and_its_end_is_told_whole(open_launcher: Launcher, how: dict[str, Any]) -> None:
    command = "ps ax -o pid= | wc -l; ls /dev/shm; touch /dev/shm/x; ipcmk -Q > /dev/null; ipcs -q | grep -c 0x; exit 7"
    attempt = open_launcher.launch(command, namespaces=ALL, **how)
    ended, started = attempt.ended(), attempt.started()
    assert (ended["exit_code"], ended["signal"], ended["killed_leftovers"]) == (7, None, 0)
    assert attempt.logged().split() == ["4", "1"]  # init, bash, ps, wc; and a queue of its own
    assert set(started["namespaces"]) >= {"pid", "mount", "ipc"}
    assert (started["missing"], started["way"], started["way_note"]) == ([], "exec", "")
    assert not os.path.exists("/dev/shm/x")
    assert subprocess.run(["ipcs", "-q"], capture_output=True, check=True, text=True).stdout.count("0x") == 0


def test_a_program_that_spends_time_and_memory_has_them_in_its_record(launcher: Launcher) -> None:
    burn = "x = bytearray(50 << 20)\nfor _ in range(4_000_000): pass"
    ended = launcher.launch(python(burn), namespaces=ALL).ended()
    assert ended["user_cpu_s"] > 0.02
    assert ended["max_rss_kib"] > 50_000


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_signal_is_told_as_such(launcher: Launcher, number: int) -> None:
    ended = launcher.launch(f"kill -{number} $$", namespaces=ALL).ended()
    assert (ended["exit_code"], ended["signal"], ended["cause"]) == (None, number, None)


@pytest.mark.parametrize(
    ("stage", "fields"),
    [("exec", {"argv": ["/no/such/shell"]}), ("cwd", {"cwd": "/no/such"}), ("log", {"log": "/no/such/log"})],
)
def test_a_launch_that_fails_says_where(launcher: Launcher, stage: str, fields: dict[str, Any]) -> None:
    argv = fields.pop("argv", ["/bin/true"])
    ended = launcher.launch(argv, namespaces=ALL, **fields).ended()
    assert (ended["launch_failed"]["stage"], ended["exit_code"], ended["signal"]) == (stage, None, None)


FORGER = r"""
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def trace():
    if libc.ptrace(16, 1, 0, 0) == -1:
        raise OSError(ctypes.get_errno(), "ptrace")
def grab():
    for number in range(3, 20):
        if libc.syscall(438, os.pidfd_open(1), number, 0) >= 0:
            return
    raise OSError(ctypes.get_errno(), "pidfd_getfd")
attempts = {
    "trace": trace,
    "take a descriptor": grab,
    "memory": lambda: open("/proc/1/mem", "r+b"),
    "descriptors": lambda: os.listdir("/proc/1/fd"),
    "environment": lambda: open("/proc/1/environ", "rb").read(1),
    "root": lambda: os.listdir("/proc/1/root"),
    "uncover": lambda: libc.umount2(os.environ["HIDDEN"].encode(), 0) and os.listdir("/none"),
    "other": lambda: open(os.environ["OTHER"]),
    "list": lambda: os.environ["NAME"] in os.listdir(os.environ["HIDDEN"]) or os.listdir("/none"),
    "write there": lambda: os.mkdir(os.environ["HIDDEN"] + "/new"),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError:
        print("refused", name, flush=True)
    else:
        print("DONE", name, flush=True)
for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV, signal.SIGINT):
    os.kill(1, number)
    try:
        os.kill(-1, number if number != signal.SIGKILL else signal.SIGCONT)
    except ProcessLookupError:
        pass
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
print("still here", flush=True)
os._exit(9)
"""


@BOTH
def test_a_program_can_do_nothing_to_its_init_to_others_or_to_their_folders(
    open_launcher: Launcher, how: dict[str, Any]
) -> None:
    runs = open_launcher.folder / "runs"
    for name in ("mine", "other"):
        (runs / name).mkdir(parents=True)
        (runs / name / "file").write_text(name)
        os.chown(runs / name, UID, UID)
        os.chown(runs / name / "file", UID, UID)
    bystander = subprocess.Popen(["sleep", "60"], user=UID, group=UID)
    try:
        attempt = open_launcher.launch(
            ["/usr/bin/python3", "-c", FORGER],
            namespaces=ALL,
            hide=[str(runs)],
            visible=[str(runs / "mine")],
            env={**ENV, "HIDDEN": str(runs), "OTHER": str(runs / "other" / "file"), "NAME": "other"},
            cwd=str(runs / "mine"),
            **how,
        )
        ended = attempt.ended()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    lines = attempt.logged().splitlines()
    assert (len(lines), lines[-1]) == (11, "still here"), lines
    assert [line for line in lines[:-1] if not line.startswith("refused")] == []
    assert (ended["exit_code"], ended["signal"]) == (9, None)
    assert str(runs) in attempt.started()["view"]


def test_a_stop_reaches_every_process_but_init_and_a_daemon_too(launcher: Launcher) -> None:
    attempt = launcher.launch(
        "setsid bash -c 'trap \"echo daemon heard; exit 0\" TERM; echo daemon ready; while :; do sleep 0.02; done' &"
        "trap 'echo main heard; wait; exit 3' TERM; echo main ready; while :; do sleep 0.02; done",
        namespaces=ALL,
    )
    client = attempt.running()
    attempt.wait_for_line("main ready")
    attempt.wait_for_line("daemon ready")
    client.say(op="stop", cause="cancel", grace_s=20)
    record = client.wait_for("exited")["record"]
    assert (record["exit_code"], record["cause"]) == (3, "cancel")
    assert {"main heard", "daemon heard"} <= set(attempt.logged().splitlines())


@pytest.mark.parametrize("grouped", [False, True])
def test_what_does_not_heed_a_stop_is_killed_with_its_namespace(launcher: Launcher, grouped: bool) -> None:
    attempt = launcher.launch(
        "(trap '' TERM; setsid sleep 600 & setsid sleep 600 & wait) & trap '' TERM; echo ready; sleep 600; sleep 600",
        namespaces=ALL,
        cgroup=group("deaf") if grouped else None,
    )
    client = attempt.running()
    attempt.wait_for_line("ready")
    init = attempt.started()["pid"]
    wait_until(lambda: len(inside(init)) >= 6, "the processes of the program")
    everyone = inside(init)
    client.say(op="stop", cause="cancel", grace_s=0.2)
    record = client.wait_for("exited")["record"]
    assert (record["signal"], record["cause"]) == (signal.SIGKILL, "cancel")
    assert [pid for pid in everyone if alive(pid)] == []


def test_what_runs_on_in_the_background_ends_with_the_program(launcher: Launcher) -> None:
    attempt = launcher.launch(
        "(trap 'echo heard; exit 0' TERM; echo polite; while :; do sleep 0.02 || true; done) &"
        "(trap '' TERM; echo deaf; while :; do sleep 0.02 || true; done) &"
        "until [ $(grep -cE 'polite|deaf' $LOG) = 2 ]; do sleep 0.02; done; exit 6",
        env={"PATH": "/usr/bin:/bin", "LOG": str(launcher.folder / "1" / "training-log.txt")},
        namespaces=ALL,
    )
    ended = attempt.ended()
    assert (ended["exit_code"], ended["signal"], ended["cause"]) == (6, None, None)
    assert 2 <= ended["killed_leftovers"] <= 8
    assert "heard" in attempt.logged().split()
    assert ended["boottime_ended_ms"] - ended["boottime_started_ms"] < PATIENCE_S * 1000


def test_a_stop_does_not_rewrite_an_end(launcher: Launcher) -> None:
    attempt = launcher.launch("trap '' TERM; (sleep 60 || sleep 60) & echo begun; exit 0", namespaces=ALL)
    client = attempt.running()
    attempt.wait_for_line("begun")
    init = attempt.started()["pid"]
    wait_until(lambda: main_is_gone(init) and sleeps(init), "the end of the program, and that its init has told it")
    client.say(op="stop", cause="cancel", grace_s=0)
    record = client.wait_for("exited")["record"]
    assert (record["exit_code"], record["cause"]) == (0, None)


def sleeps(pid: int) -> bool:
    """Whether a process waits for something."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def main_is_gone(init: int) -> bool:
    """Whether process 2 of a namespace, the program itself, was collected."""
    numbers: list[str] = []
    for pid in inside(init):
        with contextlib.suppress(FileNotFoundError):  # it has ended since
            text = Path(f"/proc/{pid}/status").read_text()
            numbers += [line.split()[-1] for line in text.splitlines() if line.startswith("NSpid:")]
    return "2" not in numbers


def test_orphans_are_collected_while_the_program_runs(launcher: Launcher) -> None:
    attempt = launcher.launch(
        "for n in 1 2 3; do (sh -c 'exit 0' &); done; until ! ps -o stat= --ppid 1 | grep -q Z; do sleep 0.02; done",
        namespaces=ALL,
    )
    assert attempt.ended()["exit_code"] == 0


def test_the_time_limit_holds(launcher: Launcher) -> None:
    attempt = launcher.launch(
        "trap '' TERM; while :; do sleep 9 || true; done", max_runtime_s=0.2, grace_s=0.2, namespaces=ALL
    )
    ended = attempt.ended()
    assert (ended["signal"], ended["cause"]) == (signal.SIGKILL, "time_limit")


@pytest.mark.parametrize("uid", [None, UID])
def test_a_killed_shim_takes_all_of_the_namespace_with_it(launcher: Launcher, uid: int | None) -> None:
    attempt = launcher.launch("setsid sleep 600 & trap '' TERM HUP; echo ready; wait", uid=uid, gid=uid, namespaces=ALL)
    attempt.wait_for_line("ready")
    started = attempt.started()
    everyone = inside(started["pid"])
    attempt.process.kill()
    attempt.process.wait(PATIENCE_S)
    wait_until(lambda: not any(alive(pid) for pid in everyone), "the end of the namespace", pause=0.002)
    wait_until(attempt.lock_is_free, "the lock", pause=0.002)
    assert not (attempt.folder / "exit.json").exists()
    folder = AttemptFolder("training-a1B2c3D4e", 1, str(attempt.folder))
    assert end_what_is_left(folder, "runyard/none", started) == set()


def test_killing_init_is_the_end_of_everything(launcher: Launcher) -> None:
    attempt = launcher.launch("setsid sleep 600 & echo ready; wait", namespaces=ALL)
    attempt.wait_for_line("ready")
    init = attempt.started()["pid"]
    everyone = inside(init)
    os.kill(init, signal.SIGKILL)
    ended = attempt.ended()
    assert (ended["signal"], ended["exit_code"], ended["cause"]) == (signal.SIGKILL, None, None)
    assert not any(alive(pid) for pid in everyone)


def test_a_hanging_shim_is_ended_by_the_node(launcher: Launcher) -> None:
    attempt = launcher.launch("echo ready; sleep 600", namespaces=ALL)
    attempt.wait_for_line("ready")
    attempt.process.send_signal(signal.SIGSTOP)
    kill_shim(AttemptFolder("training-a1B2c3D4e", 1, str(attempt.folder)))
    assert attempt.process.wait(PATIENCE_S) == -signal.SIGKILL


@needs("memory")
def test_going_over_the_memory_limit_is_told_by_the_kernel_whoever_it_hits(launcher: Launcher) -> None:
    eat = "x = bytearray(300 << 20); print(7 * 191)"
    attempt = launcher.launch(python(eat), cgroup=group("oom", memory_bytes=64 << 20), namespaces=ALL)
    tiny = launcher.launch("echo ran", cgroup=group("tiny", memory_bytes=4096), namespaces=ALL)
    first, second = attempt.ended(), tiny.ended()
    assert (first["signal"], first["exit_code"]) == (signal.SIGKILL, None)
    assert first["oom_kills"] >= 1
    assert "1337" not in attempt.logged()
    assert second["launch_failed"]["stage"] == "launch"
    assert second["oom_kills"] >= 1


MANY = "import os, signal\nfor n in range(30):\n  print(n, flush=True)\n  if os.fork() == 0: signal.pause()"


@needs("pids")
def test_the_init_takes_none_of_the_programs_processes(launcher: Launcher) -> None:
    attempt = launcher.launch(python(MANY), cgroup=group("few", pids=10), namespaces=ALL)
    ended = attempt.ended()
    assert (ended["exit_code"], ended["killed_leftovers"]) == (1, 9)


@needs_user_namespaces
def test_without_a_control_group_a_user_namespace_bounds_the_processes(open_launcher: Launcher) -> None:
    attempts = [
        open_launcher.launch(
            ["/usr/bin/python3", "-c", MANY], namespaces=ALL, cgroup=group("bounded", pids=most), **AS_USER
        )
        for most in (10, 20)
    ]
    for most, attempt in zip((10, 20), attempts, strict=True):
        ended = attempt.ended()
        assert (ended["exit_code"], ended["killed_leftovers"]) == (1, most - 1), attempt.logged()
        assert "BlockingIOError" in attempt.logged()
        assert "pids" not in (ended["cgroup"]["missing"] or "")


@BOTH
def test_terminals_core_dumps_and_what_is_inherited(open_launcher: Launcher, how: dict[str, Any]) -> None:
    master, slave = os.openpty()
    try:
        theirs = os.ttyname(slave)
        os.chown(theirs, UID, UID)
        attempt = open_launcher.launch(
            f"ls /dev/pts; test ! -e {theirs} && echo none; ulimit -c; ulimit -Hc; umask; cat /proc/self/oom_score_adj;"
            "(: < /dev/tty) 2> /dev/null || echo no terminal; script -qc 'echo inside' /dev/null < /dev/null",
            namespaces=ALL,
            **how,
        )
        assert attempt.ended()["exit_code"] == 0, attempt.logged()
    finally:
        os.close(master)
        os.close(slave)
    assert attempt.logged().split() == ["ptmx", "none", "0", "0", "0022", "0", "no", "terminal", "inside"]


@needs_user_namespaces
def test_under_the_shims_own_user_everything_is_read_only_but_what_is_the_programs(open_launcher: Launcher) -> None:
    runs = open_launcher.folder / "runs"
    mine, beside = runs / "mine", open_launcher.folder / "beside"
    for folder in (runs, mine, beside):
        folder.mkdir()
        os.chown(folder, UID, UID)
    command = (
        f"for f in {mine} {beside} {runs} /dev/shm; do touch $f/x && echo wrote || echo not; done 2> /dev/null;"
        "echo 5 > /proc/self/oom_score_adj && echo wrote"
    )
    fields = {"hide": [str(runs)], "visible": [str(mine)], "writable": [str(runs)], "cwd": str(mine)}
    closed = open_launcher.launch(command, namespaces=ALL, read_only=["/"], **fields, **AS_USER)
    open_ = open_launcher.launch(command, namespaces=ALL, **fields, **AS_USER)
    assert closed.ended()["tamper_proof"] is True, closed.logged()
    assert open_.ended()["tamper_proof"] is False
    assert closed.logged().split() == ["wrote", "not", "not", "wrote", "wrote"]
    assert open_.logged().split() == ["wrote", "wrote", "not", "wrote", "wrote"]
    assert closed.started()["missing"] == []


@needs_user_namespaces
def test_without_root_there_is_a_network_and_a_shm_of_ones_own_too(open_launcher: Launcher) -> None:
    command = "grep -c : /proc/net/dev; df -m --output=size /dev/shm | tail -1"
    attempt = open_launcher.launch(command, namespaces=ALL, network=False, shm_mib=8, **AS_USER)
    assert attempt.ended()["exit_code"] == 0, attempt.logged()
    assert attempt.logged().split() == ["1", "8"]


@pytest.mark.skipif("network_off" not in WORKS, reason="no network namespaces here")
def test_without_network_and_with_a_shm_of_a_size(launcher: Launcher) -> None:
    attempt = launcher.launch(
        "grep -c : /proc/net/dev; df -m --output=size /dev/shm | tail -1",
        namespaces=ALL,
        network=False,
        shm_mib=8,
        **AS_ROOT,
    )
    assert attempt.ended()["exit_code"] == 0, attempt.logged()
    assert attempt.logged().split() == ["1", "8"]


def test_where_no_namespaces_can_be_had_the_program_runs_and_the_record_says_so(open_launcher: Launcher) -> None:
    attempt = open_launcher.launch("echo ran", user=UID, namespaces=["pid", "mount", "ipc"])
    assert (attempt.ended()["exit_code"], attempt.logged()) == (0, "ran\n")
    started = attempt.started()
    assert started["namespaces"] == []
    assert "must run as root" in started["missing"][0]


def ids_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_is_hidden_is_covered_also_below_closed_folders(launcher: Launcher, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("runs/1/own", "runs/2/own", "cache/data"):
        (home / name).mkdir(parents=True)
    home.chmod(0o700)
    mine, data = home / "runs/1/own", home / "cache/data"
    os.chown(mine, UID, UID)
    attempt = launcher.launch(
        f"cd {home} && find . | sort; echo kept > runs/1/own/file",
        namespaces=ALL,
        visible=[str(mine), str(data)],
        hide=[str(home / "runs")],
        **AS_ROOT,
    )
    assert attempt.ended()["exit_code"] == 0, attempt.logged()
    assert attempt.logged().split() == [".", "./cache", "./cache/data", "./runs", "./runs/1", "./runs/1/own"]
    assert ids_below(mine) == ["file"]


def test_the_plan_covers_hidden_folders_within_visible_ones(tmp_path: Path) -> None:
    (tmp_path / "home" / "runs" / "1").mkdir(parents=True)
    home = str(tmp_path / "home")
    assert view.plan([home, f"{home}/runs/1"], None, (0,), [f"{home}/runs"]) == {f"{home}/runs": [f"{home}/runs/1"]}
    assert view.plan([home], None, (0,), [f"{home}/none"]) == {}
    assert view.plan([], None, (0,), [f"{home}/runs"]) == {f"{home}/runs": []}


def test_a_control_group_of_version_2_and_namespaces_at_once() -> None:
    found = [each for each in cgroups.hierarchies() if each.unified and os.access(each.bases[-1], os.W_OK)]
    if not found:
        pytest.skip("no unified hierarchy that this user may write to")
    made = cgroups.create(group("both")["name"], {}, found)
    pid, born_in = lean.fork_into(made.unified, isolation.flags_of(["pid", "ipc"]))
    if pid == 0:
        os._exit(4 if os.getpid() == 1 else 5)
    assert (os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), born_in) == (4, True)
    assert cgroups.remove(made.folders) == []
