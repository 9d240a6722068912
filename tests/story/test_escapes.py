"""A hostile program in the real installation, started both ways: what it tries to reach it does not reach.

Each attempt is made twice by the same text: by the program, and, as a control, from outside with nothing in its way,
where it must work; so no attempt fails for a reason of its own.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runyard.client import Run
from runyard.node.features import tried
from runyard.shim import scope
from tests.support.installation import Installation, manifest, running_installation, write_code
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.story,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="programs have users of their own where the node is root"),
]
ORDINARY = 61_234
"""A user id that nobody has."""
ATTEMPTS = r"""
import ctypes, json, os, signal, socket, sys, time
aims = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

def read(path): return lambda: open(path, "rb").read(1)
def opened(path): return lambda: os.close(os.open(path, os.O_RDONLY))
def write(path): return lambda: os.close(os.open(path, os.O_WRONLY))
def names(path): return lambda: os.listdir(path)[0]

def shows(path, name):
    def attempt():
        if name not in os.listdir(path):
            raise FileNotFoundError(name)
    return attempt

def called(name, *arguments):
    def attempt():
        if getattr(libc, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)
    return attempt

def trace(pid):
    def attempt():
        called("ptrace", 16, pid, 0, 0)()
        os.waitpid(pid, 0x40000000)
        called("ptrace", 17, pid, 0, 0)()
    return attempt

def connect(path):
    def attempt():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    return attempt

def mounted():
    if os.fork() == 0:
        try:
            called("unshare", 0x00020000)()
            called("mount", b"none", b"/", None, 0x4000 | 0x40000, None)()
            called("mount", b"x", b"/mnt", b"tmpfs", 0, None)()
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.wait()[1]:
        raise PermissionError("mount")

def device():
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), "node-%d" % os.getpid())
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    os.unlink(path)

def namespace():
    if os.fork() == 0:
        os._exit(libc.unshare(0x10000000) != 0)
    if os.wait()[1]:
        raise PermissionError("unshare")

def another_user():
    if os.fork() == 0:
        try:
            os.setgroups([]); os.setuid(1)
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.wait()[1]:
        raise PermissionError("setuid")

def group():
    folder = aims["group"]
    with open(folder + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))

attempts = {
    "read the database": read(aims["database"]),
    "write the database": write(aims["database"]),
    "read the owner's token": read(aims["token"]),
    "read the node's token": read(aims["node token"]),
    "list the server's home": names(aims["home"]),
    "list the node's home": shows(aims["node home"], "token"),
    "list the runs": shows(aims["runs"], aims["other run"]),
    "read another run's log": read(aims["other log"]),
    "write another run's log": write(aims["other log"]),
    "read another run's file": read(aims["other file"]),
    "read another run's checkpoint": read(aims["other checkpoint"]),
    "read another run's start record": read(aims["other started"]),
    "forge another run's exit record": write(aims["other started"]),
    "command another run's shim": connect(aims["other control"]),
    "signal another run": lambda: os.kill(aims["other pid"], 0),
    "signal the node": lambda: os.kill(aims["node pid"], 0),
    "read the node's memory": opened("/proc/%d/mem" % aims["node pid"]),
    "read another run's variables": read("/proc/%d/environ" % aims["other pid"]),
    "list another run's descriptors": names("/proc/%d/fd" % aims["other pid"]),
    "trace another run": trace(aims["other pid"]),
    "mount": mounted,
    "make a device node": device,
    "become another user": another_user,
    "leave the control group": group,
    "write the core pattern": write("/proc/sys/kernel/core_pattern"),
    "set the clock": lambda: time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns()),
    "make a user namespace": namespace,
    "read another run's /dev/shm": read(aims["shm"]),
    "read the machine's /tmp": read(aims["tmp"]),
    "read the machine's /var/tmp": read(aims["var tmp"]),
}
told = {}
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, IndexError) as error:
        told[name] = type(error).__name__
    else:
        told[name] = "DONE"
print("TOLD", json.dumps(told), flush=True)
"""
SEGMENT = 0x52594152
VICTIM = f"""\
import ctypes, os, socket, sys, time
held = socket.socket(socket.AF_UNIX)
held.bind("\\0victim-" + os.environ["TRAINING_ID"])
held.listen()
assert ctypes.CDLL(None).shmget({SEGMENT}, 4096, 0o1666) >= 0
open("secret.txt", "w").write("theirs")
open("/dev/shm/theirs", "w").write("theirs")
open(os.path.join(os.environ["CHECKPOINT_DIR"], "model.pt"), "w").write("theirs")
print("there", flush=True)
time.sleep(600)
"""


@dataclass(frozen=True, slots=True)
class Aims:
    """What there is to reach, as found from outside; ``pid`` is the other program's, as the machine numbers it."""

    paths: dict[str, Any]
    pid: int
    run: str


def users() -> list[object]:
    """As whom the node runs."""
    allowed = pytest.mark.skipif("user" not in tried(), reason="user namespaces are not allowed here")
    return [pytest.param(None, id="root"), pytest.param(ORDINARY, id="user", marks=allowed)]


@pytest.fixture(scope="module", params=users())
def yard(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """An installation of root's, and one of an ordinary user's, in a folder that each can reach."""
    root = Path(tempfile.mkdtemp(prefix="escape-", dir="/var/lib"))
    root.chmod(0o755)
    try:
        with running_installation(root, "--fake-gpus", "2", user=request.param) as installation:
            installation.wait_connected()
            yield installation
    finally:
        shutil.rmtree(root)


def is_root(yard: Installation) -> bool:
    """Whether the node is root's."""
    return Path(f"/proc/{yard.child('node')}").stat().st_uid == 0


def submit(yard: Installation, name: str, text: str, *arguments: str, extra: str = "", warm: str = "auto") -> str:
    write_code(yard.folder / name, {"train.py": text, "arguments.json": "".join(arguments)})
    extra = f"runyard: {{warm: {warm}, grace: 1s{extra}}}\n"
    command = "python3 train.py" + "".join(f" '{each}'" for each in arguments)
    (yard.folder / f"{name}.yml").write_text(manifest(command, extra=extra))
    return str(yard.json("train", name, f"{name}.yml")["ids"][0])


@pytest.fixture(scope="module")
def aims(yard: Installation) -> Iterator[Aims]:
    """Another run of the same member, which is the nearest that a hostile one can get; and a file in ``/dev/shm``."""
    run = submit(yard, "victim", VICTIM)
    wait_until(lambda: "there" in yard.cli("logs", run, check=None).stdout, "the other run", 60)
    node = yard.home / "node"
    folder = node / "runs" / run / "attempts" / "1"
    started = next(folder.rglob("started.json"))
    record = json.loads(started.read_text())
    init = int(record["pid"])
    pid = next(int(name) for name in Path(f"/proc/{init}/task/{init}/children").read_text().split())
    machines = {"tmp": f"/tmp/escape-{os.getpid()}.txt", "var tmp": f"/var/tmp/escape-{os.getpid()}.txt"}
    for path in machines.values():
        Path(path).write_text("for all")
    group = next(iter(record["cgroup"]["folders"]), None)
    paths = {
        "database": str(next(yard.home.rglob("runyard.db"))),
        "token": str(yard.home / "token"),
        "node token": str(node / "token"),
        "home": str(next(yard.home.rglob("runyard.db")).parent),
        "node home": str(node),
        "runs": str(node / "runs"),
        "other log": str(next(folder.rglob("training-log*"))),
        "other file": str(next(folder.rglob("secret.txt"))),
        "other checkpoint": str(next((node / "runs" / run).rglob("model.pt"))),
        "other started": str(started),
        "other control": str(next(folder.rglob("control.sock"))),
        "other run": run,
        "other pid": pid,
        "node pid": yard.child("node"),
        "group": group or "/sys/fs/cgroup",
        "shm": "/dev/shm/theirs",
        **machines,
    }
    yield Aims(paths, pid, run)
    yard.cli("cancel", run, check=None)
    for path in machines.values():
        Path(path).unlink()


def told(text: str) -> dict[str, Any]:
    return json.loads(next(line for line in text.splitlines() if "TOLD" in line).partition("TOLD ")[2])


def finished(yard: Installation, name: str, text: str, *arguments: str, way: str, extra: str = "") -> tuple[Run, str]:
    """A finished run that was started that way, and its log."""
    note = ""
    for number in range(30):
        run_id = submit(yard, f"{name}{number}", text, *arguments, extra=extra, warm="off" if way == "exec" else "auto")
        run = yard.client().wait([run_id], timeout=100)[0]
        if run.attempts[-1].way == way:
            return run, yard.cli("logs", run_id).stdout
        note = run.attempts[-1].way_note
    raise AssertionError(f"no run was started that way: {note}")


def test_with_nothing_in_its_way_every_attempt_succeeds(yard: Installation, aims: Aims, tmp_path: Path) -> None:
    """The control: as root, beside the other program, in its ``/dev/shm`` and in a control group that is put back."""
    script = tmp_path / "attempts.py"
    script.write_text(ATTEMPTS)
    seen = {**aims.paths, "shm": f"/proc/{aims.pid}/root/dev/shm/theirs"}
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(seen)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    failed = {name: answer for name, answer in told(done.stdout).items() if answer != "DONE"}
    assert failed.keys() <= {"make a user namespace"}, failed


@pytest.mark.parametrize("way", ["exec", "warm"])
def test_a_program_reaches_nothing_of_it(yard: Installation, aims: Aims, way: str) -> None:
    run, log = finished(yard, f"hostile-{way}", ATTEMPTS, json.dumps(aims.paths), way=way)
    answers = told(log)
    assert len(answers) == 30
    assert {name for name, answer in answers.items() if answer == "DONE"} == set()
    assert run.state == "completed", run
    assert "Not isolated" not in run.attempts[-1].way_note, run.attempts[-1].way_note
    assert yard.client().run(aims.run).state == "running"


INHERITED = r"""
import json, os, stat
found = {}
for name in os.listdir("/proc/self/fd"):
    try:
        found[int(name)] = os.readlink("/proc/self/fd/" + name)
    except OSError:
        pass
print("TOLD", json.dumps({str(k): v for k, v in found.items() if not v.startswith("/proc/")}))
"""


@pytest.mark.parametrize("way", ["exec", "warm"])
def test_no_descriptor_is_inherited_but_the_log(yard: Installation, way: str) -> None:
    _, log = finished(yard, f"inherits-{way}", INHERITED, way=way)
    found = told(log)
    assert set(found) == {"0", "1", "2"}
    assert found["0"] == "/dev/null"
    assert found["1"] == found["2"]


OFFLINE = r"""
import json, socket, sys
port, name = int(sys.argv[1]), "\0" + sys.argv[2]
told = {}
for what, family, address in (("loopback", socket.AF_INET, ("127.0.0.1", port)), ("abstract", socket.AF_UNIX, name)):
    with socket.socket(family) as client:
        client.settimeout(5)
        try:
            client.connect(address)
            told[what] = "DONE"
        except OSError as error:
            told[what] = type(error).__name__
print("TOLD", json.dumps(told))
"""


@pytest.mark.parametrize("way", ["exec", "warm"])
def test_without_network_neither_loopback_nor_abstract_sockets_are_reached(yard: Installation, way: str) -> None:
    name = f"runyard-test-{os.getpid()}-{way}"
    with socket.create_server(("127.0.0.1", 0)) as served, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        arguments = (str(served.getsockname()[1]), name)
        _, log = finished(yard, f"online-{way}", OFFLINE, *arguments, way=way)
        parted = "PermissionError" if scope.is_possible() else "DONE"
        assert told(log) == {"loopback": "DONE", "abstract": parted}
        _, log = finished(yard, f"offline-{way}", OFFLINE, *arguments, way=way, extra=", network: off")
        assert set(told(log).values()) == {"ConnectionRefusedError"}


SETUID = r"""
import json, subprocess, sys
print("TOLD", json.dumps({"user": int(subprocess.run([sys.argv[1], "-u"], capture_output=True, text=True).stdout)}))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can pass."""
    folder = Path(tempfile.mkdtemp(prefix="escape-", dir="/var/lib"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("way", ["exec", "warm"])
def test_a_setuid_program_gives_no_rights(yard: Installation, open_folder: Path, way: str) -> None:
    copy = open_folder / "id"
    shutil.copyfile("/usr/bin/id", copy)
    copy.chmod(0o4755)
    control = subprocess.run([copy, "-u"], user=65534, group=65534, capture_output=True, text=True, check=False)
    if control.stdout.strip() != "0":
        pytest.skip("this file system takes no setuid")
    _, log = finished(yard, f"setuid-{way}", SETUID, str(copy), way=way)
    assert int(told(log)["user"]) >= 50_000  # also of an ordinary user's node


BOMB = r"""
import json, os, time
made, failed = [], ""
try:
    while len(made) < 6000:
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        made.append(pid)
except OSError as error:
    failed = type(error).__name__
print("TOLD", json.dumps({"made": len(made), "failed": failed}), flush=True)
os._exit(0)
"""


def test_a_fork_bomb_is_bounded_and_leaves_nothing(yard: Installation) -> None:
    run, log = finished(yard, "bomb", BOMB, way="exec")
    if "No pids limit" in run.attempts[-1].way_note:
        pytest.skip("this machine gives no limit of processes")
    answer = told(log)
    assert (answer["failed"], answer["made"] < 4096) == ("BlockingIOError", True)
    assert run.state == "completed"


FORGES = r"""
import json, os, signal, time
print("TOLD", json.dumps({"clock": time.time()}))
os.kill(os.getppid(), signal.SIGKILL)
os._exit(9)
"""


@pytest.mark.parametrize("way", ["exec", "warm"])
def test_its_end_and_its_bill_are_what_they_were(yard: Installation, way: str) -> None:
    run, _ = finished(yard, f"forges-{way}", FORGES, way=way)
    attempt = run.attempts[-1]
    assert (run.exit_code, attempt.tamper_proof) == (9, True)
    assert attempt.started_at is not None
    assert attempt.released_at is not None
    assert attempt.released_at >= attempt.started_at


TEMPORARY = r"""
import json, os, tempfile
def there(path):
    with open(path + "/left.txt", "a") as file:
        file.write("x")
    return os.path.getsize(path + "/left.txt")
found = {path: there(path) for path in ("/tmp", "/var/tmp")}
print("TOLD", json.dumps({
    "fresh": found["/tmp"] == 1,
    "one": os.path.samefile("/tmp", tempfile.gettempdir()) and os.path.samefile("/var/tmp", tempfile.gettempdir()),
    "folder": os.environ["TMPDIR"],
}))
"""


@pytest.mark.parametrize("way", ["exec", "warm"])
def test_each_run_has_a_tmp_of_its_own_that_goes_with_it(yard: Installation, way: str) -> None:
    before = set(os.listdir("/tmp")), set(os.listdir("/var/tmp"))
    for number in range(2):
        run, log = finished(yard, f"temporary-{way}-{number}-", TEMPORARY, way=way)
        answer = told(log)
        assert (answer["fresh"], answer["one"]) == (True, True)
        assert run.id in answer["folder"]
        wait_until(lambda folder=answer["folder"]: not os.path.exists(folder), "the run's folder to be removed")
    assert "left.txt" not in {*os.listdir("/tmp"), *os.listdir("/var/tmp")} - before[0] - before[1]
