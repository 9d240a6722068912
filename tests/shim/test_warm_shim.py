"""The shim of a warm parent: many runs under one roof, each with its own record, and whoever dies in between."""

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard.node.home import AttemptFolder
from runyard.node.shims import kill_shim, opened, run_script
from tests.shim.launching import ENV, INTERPRETER, PATIENCE_S, SHIM, UID, Client, alive, group, needs_root, order
from tests.shim.test_cgroups import needs
from tests.shim.test_isolation import WORKS
from tests.shim.test_namespaces import FORGER
from tests.support.waiting import wait_until

ALL = ["user", "pid", "mount", "ipc"]
PARENT = SHIM.parent / "warm" / "parent.py"
pytestmark = [
    needs_root,
    pytest.mark.skipif(not set(ALL) <= set(WORKS), reason="this machine lets nobody make these namespaces"),
]
READY = "import os, signal, sys, time\nprint('ready', flush=True)\n"
FOR_EVER = "while True: time.sleep(1)\n"
PROGRAMS = {
    "seven.py": "import os, sys\nprint(os.getpid(), os.getppid(), os.listdir('../..'), flush=True)\nsys.exit(7)\n",
    "wait.py": READY + "while not os.path.exists('go'): time.sleep(0.01)\nsys.exit(5)\n",
    "deaf.py": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY + "os.fork()\n" + FOR_EVER,
    "heeds.py": "import signal\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n" + READY + FOR_EVER,
    "leaves.py": "import os, time\nif os.fork() == 0:\n  os.setsid()\n  while True: time.sleep(1)\nos._exit(6)\n",
    "eats.py": "x = bytearray(300 << 20)\nprint(7 * 191)\n",
    "burns.py": "for _ in range(3_000_000): pass\n",
    "adjusts.py": "print(open('/proc/self/oom_score_adj').read().strip())\n",
    "forges.py": FORGER,
    "asks.py": "import sys, touchy\nprint(touchy.GIVEN, 'json.tool' in sys.modules)\n",
    "opens.py": """
import sys
for path in sys.argv[1:]:
    try:
        open(path).close()
        print('open')
    except OSError as error:
        print(type(error).__name__)
print(open('/proc/self/status').read().partition('Seccomp:')[2].split()[0])
""",
}
SPARE = "with open('/proc/self/oom_score_adj', 'w') as file: file.write('-1000')"


def spared() -> bool:
    """Whether root may keep a process from being killed for want of memory: it may have lost that right."""
    return subprocess.run([sys.executable, "-c", SPARE], capture_output=True, check=False).returncode == 0


class Run:
    """One launched program of a warm parent."""

    def __init__(self, place: Path, number: int) -> None:
        self.place = place
        self.number = number
        self.folder = AttemptFolder(f"training-a1B2c3D4{number}", 1, str(place / "a"))

    def client(self) -> Client:
        return Client(Path(self.folder.socket))

    def started(self) -> dict[str, Any]:
        wait_until(lambda: os.path.exists(self.folder.started), "its start", pause=0.005)
        return json.loads(Path(self.folder.started).read_text())

    def ended(self) -> dict[str, Any]:
        wait_until(lambda: os.path.exists(self.folder.exit), "its end", pause=0.005)
        wait_until(self.lock_is_free, "its lock", pause=0.005)
        return json.loads(Path(self.folder.exit).read_text())

    def lock_is_free(self) -> bool:

        with open(self.folder.lock) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def logged(self) -> str:
        log = self.place / "training-log.txt"
        return log.read_text() if log.exists() else ""

    def wait_for_line(self, line: str) -> None:
        wait_until(lambda: line in self.logged().splitlines(), f"the line {line!r}", pause=0.005)

    def go(self) -> None:
        (self.place / "work" / "go").touch()


class Warm:
    """A warm parent under its shim, and the node's end of the line to it."""

    def __init__(self, base: Path, **fields: Any) -> None:
        self.runs = base / "runs"
        self.runs.mkdir(mode=0o711)
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line.settimeout(PATIENCE_S)
        wanted = {
            "argv": [sys.executable, str(PARENT), "--fd", "3"],
            "env": ENV,
            "uid": UID,
            "gid": UID,
            "cgroup": None,
            "visible": [*INTERPRETER, str(SHIM.parent)],
            "hide": [str(self.runs)],
            "preload": ["json.tool"],
            "namespaces": ALL,
            **fields,
        }
        ordered = os.memfd_create("order")
        os.write(ordered, json.dumps(wanted).encode())
        os.lseek(ordered, 0, os.SEEK_SET)
        arguments = ["--warm", "--control-fd", str(theirs.fileno()), "--order-fd", str(ordered)]
        self.process = run_script(arguments, (theirs.fileno(), ordered), 2)
        os.close(ordered)
        theirs.close()
        self.number = 0

    def hear(self) -> dict[str, Any]:
        return json.loads(self.line.recv(1 << 16))

    def parent(self) -> int:
        """The process id of the warm parent: the one child of its shim that is no init."""
        for name in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            if os.readlink(f"/proc/{name}/ns/pid") == os.readlink("/proc/self/ns/pid"):
                return int(name)
        raise AssertionError("there is no warm parent")

    def prepare(self, script: str, **fields: Any) -> tuple[Run, dict[str, Any]]:
        self.number += 1
        place = self.runs / str(self.number)
        (place / "work").mkdir(parents=True)
        (place / "a").mkdir(mode=0o700)
        (place / "work" / script).write_text(PROGRAMS[script])
        os.chown(place / "work", UID, UID)
        given = {
            "uid": UID,
            "gid": UID,
            "cwd": str(place / "work"),
            "visible": [*INTERPRETER, str(place / "work")],
            "hide": [str(self.runs)],
            "namespaces": ALL,
            "program": {"script": script, "module": None, "args": [], "argv0": script},
            "way_note": "It saves a second.",
            **fields,
        }
        return Run(place, self.number), order(place, ["/bin/false"], **given)

    def send(self, run: Run, ordered: dict[str, Any]) -> dict[str, Any]:
        with opened(run.folder, ordered) as descriptors:
            message = json.dumps({"op": "launch", "number": run.number, "name": run.folder.name}).encode()
            socket.send_fds(self.line, [message], descriptors)
        return self.hear()

    def launch(self, script: str, **fields: Any) -> Run:
        run, ordered = self.prepare(script, **fields)
        assert self.send(run, ordered) == {"number": run.number, "shim_pid": self.process.pid}
        return run

    def close(self) -> None:
        self.line.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)


@pytest.fixture
def base() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def warm(base: Path) -> Iterator[Warm]:
    made = Warm(base)
    try:
        assert made.hear()["event"] == "ready"
        yield made
    finally:
        made.close()


def test_a_run_has_its_own_records_and_sees_itself_alone(warm: Warm) -> None:
    other = warm.launch("wait.py")
    other.wait_for_line("ready")
    run = warm.launch("seven.py")
    ended, started = run.ended(), run.started()
    assert (ended["exit_code"], ended["signal"], ended["cause"], ended["launch_failed"]) == (7, None, None, None)
    assert run.logged() == "2 1 ['2']\n"
    assert (started["way"], started["way_note"]) == ("warm", "It saves a second.")
    assert (started["namespaces"], started["missing"], started["tamper_proof"]) == (ALL, [], True)
    assert (started["shim_pid"], str(warm.runs) in started["view"]) == (warm.process.pid, True)
    assert not other.lock_is_free()
    other.go()
    assert other.ended()["exit_code"] == 5


@pytest.mark.parametrize("closed", [True, False])
def test_a_run_opens_the_devices_that_it_was_given_and_is_filtered(warm: Warm, base: Path, closed: bool) -> None:
    nodes = [str(base / f"gpu{number}") for number in (0, 1)]
    for node in nodes:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.chmod(node, 0o666)
    program = {"script": "opens.py", "module": None, "args": nodes, "argv0": "opens.py"}
    run = warm.launch("opens.py", program=program, closed_devices=nodes[1:] if closed else [])
    assert (run.ended()["exit_code"], run.started()["missing"]) == (0, [])
    assert run.logged().split() == ["open", "PermissionError" if closed else "open", "2"]


def test_what_it_used_is_in_its_record(warm: Warm) -> None:
    ended = warm.launch("burns.py").ended()
    assert ended["user_cpu_s"] > 0.02
    assert ended["max_rss_kib"] > 1000


def test_a_module_whose_import_breaks_off_is_left_to_the_programs(base: Path) -> None:
    lib = base / "lib"
    lib.mkdir()
    text = "names = []\ndef enter(name):\n    assert name not in names\n    names.append(name)\n"
    (lib / "register.py").write_text(text)
    (lib / "touchy.py").write_text("import os, register\nregister.enter('touchy')\nGIVEN = os.environ['GIVEN']\n")
    env, visible = {**ENV, "PYTHONPATH": str(lib)}, [*INTERPRETER, str(SHIM.parent), str(lib)]
    warm = Warm(base, env=env, visible=visible, preload=["json.tool", "touchy", "absent", "json.absent"])
    try:
        ready = warm.hear()
        assert ready["event"] == "ready"
        assert set(ready["failed"]) == {"touchy", "absent", "json.absent"}
        run = warm.launch("asks.py", env={**env, "GIVEN": "it"}, visible=[*visible, str(warm.runs / "1" / "work")])
        assert (run.ended()["exit_code"], run.started()["way"], run.logged()) == (0, "warm", "it True\n")
    finally:
        warm.close()


def test_a_stop_is_one_runs_alone(warm: Warm) -> None:
    heeding, deaf, staying = (warm.launch(name) for name in ("heeds.py", "deaf.py", "wait.py"))
    for run in (heeding, deaf, staying):
        run.wait_for_line("ready")
    heeding.client().say(op="stop", cause="cancel", grace_s=20)
    deaf.client().say(op="stop", cause="preempt", grace_s=0.1)
    first, second = heeding.ended(), deaf.ended()
    assert (first["exit_code"], first["cause"]) == (3, "cancel")
    assert (second["signal"], second["cause"]) == (signal.SIGKILL, "preempt")
    staying.go()
    assert (staying.ended()["exit_code"], staying.ended()["cause"]) == (5, None)


def test_a_stop_that_comes_before_the_program_needs_no_grace(warm: Warm) -> None:
    os.kill(warm.parent(), signal.SIGSTOP)
    run = warm.launch("deaf.py")
    client = run.client()
    assert client.hear() == {"event": "starting", "attempt": "training-a1B2c3D4e/1"}
    client.say(op="stop", cause="cancel", grace_s=3600)
    client.wait_for("stopping")
    os.kill(warm.parent(), signal.SIGCONT)
    ended = run.ended()
    assert (ended["cause"], ended["signal"], ended["launch_failed"]) == ("cancel", signal.SIGKILL, None)
    assert run.logged() == ""


def test_twenty_at_once(warm: Warm) -> None:
    runs = [warm.launch("seven.py" if number % 2 else "leaves.py") for number in range(20)]
    ends = [run.ended() for run in runs]
    assert [each["exit_code"] for each in ends] == [6, 7] * 10, ends
    assert [run.ended()["killed_leftovers"] for run in runs] == [1, 0] * 10


def test_the_time_limit_holds(warm: Warm) -> None:
    ended = warm.launch("deaf.py", max_runtime_s=0.2, grace_s=0.2).ended()
    assert (ended["signal"], ended["cause"]) == (signal.SIGKILL, "time_limit")


def test_a_killed_shim_takes_its_runs_with_it_without_a_record(warm: Warm) -> None:
    runs = [warm.launch(name) for name in ("deaf.py", "wait.py")]
    for run in runs:
        run.wait_for_line("ready")
    inits, parent = [run.started()["pid"] for run in runs], warm.parent()
    assert not any(run.lock_is_free() for run in runs)
    warm.process.kill()
    warm.process.wait(PATIENCE_S)
    wait_until(lambda: not any(alive(pid) for pid in (*inits, parent)), "the end of everything")
    wait_until(lambda: all(run.lock_is_free() for run in runs), "the locks")
    assert not any(os.path.exists(run.folder.exit) for run in runs)


def test_the_runs_of_a_parent_that_was_killed_go_on(warm: Warm) -> None:
    run = warm.launch("wait.py")
    run.wait_for_line("ready")
    os.kill(warm.parent(), signal.SIGKILL)
    gone = warm.hear()
    assert (gone["event"], "ended" in gone["message"]) == ("gone", True)
    late, ordered = warm.prepare("seven.py")
    assert "ended" in warm.send(late, ordered)["error"]
    assert late.lock_is_free()
    run.go()
    assert run.ended()["exit_code"] == 5
    warm.line.close()
    assert warm.process.wait(PATIENCE_S) == 0


def test_when_the_node_dies_the_parent_ends_and_the_runs_go_on(warm: Warm) -> None:
    run = warm.launch("wait.py")
    run.wait_for_line("ready")
    parent = warm.parent()
    warm.line.close()
    wait_until(lambda: not alive(parent), "the end of the parent")
    client = run.client()
    assert client.hear() == {"event": "started", **run.started(), "stopping": None}
    run.go()
    assert client.wait_for("exited")["record"]["exit_code"] == 5
    assert run.ended()["exit_code"] == 5
    assert warm.process.wait(PATIENCE_S) == 0


def test_a_launch_on_its_way_when_the_node_dies_is_still_a_run(warm: Warm) -> None:
    run = warm.launch("seven.py")
    warm.line.close()
    assert run.ended()["exit_code"] == 7


def test_ending_a_hanging_run_ends_no_other(warm: Warm) -> None:
    hanging, staying = warm.launch("deaf.py"), warm.launch("wait.py")
    for run in (hanging, staying):
        run.wait_for_line("ready")
    hanging.client().wait_for("started")  # its init has told, too, that it began
    kill_shim(hanging.folder)
    assert hanging.ended()["signal"] == signal.SIGKILL
    assert warm.process.poll() is None
    staying.go()
    assert staying.ended()["exit_code"] == 5


def test_a_record_that_cannot_be_written_holds_no_other_run_up(warm: Warm) -> None:
    run = warm.launch("wait.py")
    run.wait_for_line("ready")
    os.unlink(f"{run.folder.exit}.tmp")
    os.mkdir(f"{run.folder.exit}.tmp")
    run.go()
    for _ in range(3):
        ended = warm.launch("seven.py").ended()
        assert ended["exit_code"] == 7, ended
    assert not run.lock_is_free()
    os.rmdir(f"{run.folder.exit}.tmp")
    assert run.ended()["exit_code"] == 5


@needs("memory")
def test_limits_are_each_runs_own_and_only_the_shim_is_spared(warm: Warm) -> None:
    eater = warm.launch("eats.py", cgroup=group("eats", memory_bytes=128 << 20))
    plain = warm.launch("adjusts.py", cgroup=group("plain", memory_bytes=128 << 20))
    ended = eater.ended()
    assert (ended["signal"], ended["exit_code"]) == (signal.SIGKILL, None)
    assert ended["oom_kills"] >= 1
    assert "1337" not in eater.logged()
    assert (plain.ended()["oom_kills"], plain.logged()) == (0, "0\n")
    assert plain.ended()["cgroup"]["missing"] is None
    assert Path(f"/proc/{warm.process.pid}/oom_score_adj").read_text() == ("-1000\n" if spared() else "0\n")
    assert Path(f"/proc/{warm.parent()}/oom_score_adj").read_text() == "0\n"
    assert [folder for folder in ended["cgroup"]["folders"] if os.path.exists(folder)] == []


def test_a_program_can_do_nothing_to_its_init_to_others_or_to_their_folders(warm: Warm) -> None:
    other = warm.launch("wait.py")
    other.wait_for_line("ready")
    env = {**ENV, "HIDDEN": str(warm.runs), "OTHER": str(other.place / "work" / "wait.py"), "NAME": "1"}
    run = warm.launch("forges.py", env=env)
    ended = run.ended()
    lines = run.logged().splitlines()
    assert (len(lines), lines[-1]) == (11, "still here"), lines
    assert [line for line in lines[:-1] if not line.startswith("refused")] == []
    assert (ended["exit_code"], ended["signal"]) == (9, None)
    other.go()
    assert other.ended()["exit_code"] == 5


def test_what_was_mounted_where_the_program_does_not_get_hinders_none(warm: Warm, tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "late", str(inner)], check=True)
    try:
        ended = warm.launch("seven.py").ended()
        assert ended["exit_code"] == 7, ended
    finally:
        subprocess.run(["umount", "-l", str(inner)], check=True)


def test_what_was_mounted_after_the_parent_began_is_seen(warm: Warm, base: Path) -> None:
    (base / "data").mkdir(mode=0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "late", str(base / "data")], check=True)
    try:
        (base / "data" / "file").write_text("late\n")
        run, ordered = warm.prepare("seven.py")
        script = run.place / "work" / "seven.py"
        script.write_text(f"print(open('{base}/data/file').read())\n")
        warm.send(run, ordered)
        assert run.ended()["exit_code"] == 0, run.logged()
        assert run.logged().strip() == "late"
    finally:
        subprocess.run(["umount", "-l", str(base / "data")], check=True)


def test_what_is_no_launch_for_a_warm_parent_is_answered(warm: Warm) -> None:
    warm.line.send(b'{"op": "dance", "number": 9}')
    assert "only launches" in warm.hear()["error"].lower()
    run, ordered = warm.prepare("seven.py", program=None)
    assert "`program`" in warm.send(run, ordered)["error"]
    assert run.lock_is_free()
    assert warm.launch("seven.py").ended()["exit_code"] == 7


def test_a_launch_that_fails_says_where(warm: Warm) -> None:
    ended = warm.launch("seven.py", cwd="/no/such/folder").ended()
    assert (ended["launch_failed"]["stage"], ended["exit_code"]) == ("cwd", None)
    ended = warm.launch("seven.py", log="/no/such/log").ended()
    assert (ended["launch_failed"]["stage"], ended["exit_code"]) == ("log", None)


@pytest.mark.parametrize(
    "fields", [{"argv": ["/no/such/python"]}, {"argv": ["/bin/false"]}, {"visible": ["/root/no/such/path"]}]
)
def test_a_parent_that_cannot_be_is_told_as_failed(base: Path, fields: dict[str, Any]) -> None:
    made = Warm(base, **fields)
    try:
        failed = made.hear()
        assert (failed["event"], bool(failed["message"])) == ("failed", True)
        made.line.close()
        assert made.process.wait(PATIENCE_S) == 0
    finally:
        made.close()


def test_what_the_parent_has_mounted_and_is_gone_is_not_seen(base: Path) -> None:
    (base / "data").mkdir(mode=0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "early", str(base / "data")], check=True)
    try:
        (base / "data" / "file").write_text("early\n")
        warm = Warm(base)
        assert warm.hear()["event"] == "ready"
    finally:
        subprocess.run(["umount", "-l", str(base / "data")], check=True)
    try:
        run, ordered = warm.prepare("seven.py")
        (run.place / "work" / "seven.py").write_text(
            f"import os\nprint(os.listdir('{base}/data'), os.listdir('../..'))\n"
        )
        warm.send(run, ordered)
        assert run.ended()["exit_code"] == 0, run.logged()
        assert run.logged() == "[] ['1']\n"
    finally:
        warm.close()
