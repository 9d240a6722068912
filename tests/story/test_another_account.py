"""A hostile run of one account against the runs, the records and the service of another, started both ways, on a node
of root's and on an ordinary user's. Each attempt has its control: made where it may be, it works.
"""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from runyard.node.warm.parents import PARENT
from runyard.shim import scope
from tests.story.test_escapes import ATTEMPTS, SEGMENT, Aims, aims, finished, told, yard
from tests.support.installation import Installation, alive, cmdline
from tests.support.waiting import wait_until

__all__ = ["aims", "yard"]
pytestmark = [
    pytest.mark.story,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="programs have users of their own where the node is root"),
]
WAYS = pytest.mark.parametrize("way", ["exec", "warm"])
COMMON = r"""
import ctypes, errno, json, os, signal, socket, subprocess, sys, time, urllib.error, urllib.request
libc = ctypes.CDLL(None, use_errno=True)
def outcome(attempt):
    try:
        return attempt() or "DONE"
    except Exception as error:
        return type(error).__name__
"""


@pytest.fixture(scope="module")
def eve(yard: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The same installation, as a member of another account has it."""
    folder = tmp_path_factory.mktemp("eve")
    yard.cli("accounts", "add", "beta")
    (folder / "token").write_text(yard.cli("members", "add", "eve", "--account", "beta").stdout)
    (folder / "url").write_text(yard.url)
    (folder / "work").mkdir()
    return Installation(folder, folder / "work", yard.url)


@WAYS
def test_nothing_of_another_accounts_run_is_reached(eve: Installation, aims: Aims, way: str) -> None:
    """The attempts of test_escapes.py, whose control is there."""
    run, log = finished(eve, f"attempts-{way}", ATTEMPTS, json.dumps(aims.paths), way=way)
    answers = told(log)
    assert len(answers) == 30
    assert {name for name, answer in answers.items() if answer == "DONE"} == set()
    assert (run.state, run.attempts[-1].tamper_proof) == ("completed", True)


REACHES = (
    COMMON
    + r"""
victim, segment, processes = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
def connect(name):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)
def attach(key):
    if libc.shmget(key, 4096, 0) < 0:
        raise OSError(ctypes.get_errno(), "shmget")
def trace(pid):
    if libc.ptrace(16, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
own = socket.socket(socket.AF_UNIX)
own.bind("\0own-" + os.environ["TRAINING_ID"])
own.listen()
libc.shmget(segment + 1, 4096, 0o1666)
told = {
    "own socket": outcome(lambda: connect("\0own-" + os.environ["TRAINING_ID"])),
    "own segment": outcome(lambda: attach(segment + 1)),
    "own process": outcome(lambda: os.kill(os.getpid(), 0)),
    "their socket": outcome(lambda: connect("\0victim-" + victim)),
    "their segment": outcome(lambda: attach(segment)),
    "processes in sight": sum(name.isdigit() for name in os.listdir("/proc")),
    "tokens in sight": sum("ryd_" in value for value in os.environ.values()),
}
for name, pid in processes.items():
    told["signal " + name] = outcome(lambda: os.kill(pid, 0))
    told["trace " + name] = outcome(lambda: trace(pid))
    told["see " + name] = outcome(lambda: open("/proc/%d/cmdline" % pid).close())
print("TOLD", json.dumps(told), flush=True)
"""
)


def parent_of(pid: int) -> int:
    """The process that started another, by whichever of its threads."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def bystanders(yard: Installation, aims: Aims) -> dict[str, int]:
    """Processes of the service and of the other account's run, by the machine's numbers."""
    node, shim = yard.child("node"), json.loads(Path(aims.paths["other started"]).read_text())["shim_pid"]
    running = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    parents = [pid for pid in running if PARENT in cmdline(pid)]
    found = {"the node": node, "the server": yard.child("server"), "their shim": shim, "their program": aims.pid}
    found |= {"the launcher": next(pid for pid in running if "--launcher" in cmdline(pid) and parent_of(pid) == node)}
    return found | {f"warm parent {number}": pid for number, pid in enumerate(parents)}


@WAYS
def test_sockets_memory_and_processes_of_others_are_out_of_reach(
    yard: Installation, eve: Installation, aims: Aims, way: str
) -> None:
    finished(yard, f"warms-{way}", "print('there is a warm parent of this account, too')", way="warm")
    processes = bystanders(yard, aims)
    assert any(name.startswith("warm parent") for name in processes)
    for pid in processes.values():
        os.kill(pid, 0)  # the control: they are there
    arguments = (aims.run, str(SEGMENT), json.dumps(processes))
    _, log = finished(eve, f"reaches-{way}", REACHES, *arguments, way=way)
    answers = told(log)
    assert [answers.pop(name) for name in ("own socket", "own segment", "own process")] == ["DONE"] * 3
    assert answers.pop("processes in sight") <= 3
    assert answers.pop("tokens in sight") == 0
    if not scope.is_possible():
        answers.pop("their socket")
    assert "DONE" not in answers.values(), answers


ASKS = (
    COMMON
    + r"""
url, run, token = sys.argv[1:4]
def asked(method, path, token=None):
    headers = {"Authorization": "Bearer " + token} if token else {}
    body = b"{}" if method != "GET" else None
    request = urllib.request.Request(url + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
paths = [
    ("GET", "/api/v1/training-runs/" + run),
    ("GET", "/api/v1/training-runs/" + run + "/logs"),
    ("GET", "/api/v1/training-runs/" + run + "/metrics"),
    ("POST", "/api/v1/training-runs/" + run + "/cancel"),
    ("DELETE", "/api/v1/training-runs/" + run),
    ("GET", "/api/v1/node/logs/" + run + "/1/1/training-log/size"),
    ("PUT", "/api/v1/node/logs/" + run + "/1/1/training-log?offset=0"),
    ("POST", "/api/v1/node/facts"),
    ("POST", "/api/v1/node/hello"),
    ("GET", "/api/v1/node/data/default/results"),
]
print("TOLD", json.dumps({
    "health": outcome(lambda: asked("GET", "/healthz")),
    "own": outcome(lambda: asked("GET", "/api/v1/training-runs/" + os.environ["TRAINING_ID"], token)),
    "without": {" ".join(each): outcome(lambda: asked(*each)) for each in paths},
    "with": {" ".join(each): outcome(lambda: asked(*each, token)) for each in paths},
}), flush=True)
"""
)


@WAYS
def test_the_api_tells_a_run_nothing_of_another_account(
    yard: Installation, eve: Installation, aims: Aims, way: str
) -> None:
    """By the machine's loopback, which a run with a network reaches; with a token of its own account, and with none."""
    arguments = (yard.url, aims.run, eve.token)
    _, log = finished(eve, f"asks-{way}", ASKS, *arguments, way=way)
    answers = told(log)
    assert (answers["health"], answers["own"]) == (200, 200)
    assert set(answers["without"].values()) <= {401, 404}, answers["without"]
    assert set(answers["with"].values()) <= {403, 404}, answers["with"]
    assert yard.client().run(aims.run).state == "running"
    _, log = finished(eve, f"asks-offline-{way}", ASKS, *arguments, way=way, extra=", network: off")
    answers = told(log)
    assert {answers["health"], *answers["without"].values(), *answers["with"].values()} == {"URLError"}


FORGES = (
    COMMON
    + r"""
run, theirs, metrics = sys.argv[1:4]
own = os.path.dirname(os.environ["RESULT_DIR"])
attempt = os.path.dirname(own)
def write(path):
    with open(path, "a") as file:
        file.write('{"exit_code": 0}')
def link(source, name):
    os.link(source, os.path.join(os.environ["RESULT_DIR"], name))
line = {"meta": {"training_id": run, "time": 1, "rindex": 1}, "grouplabel": "test", "etimes":
        {"iteration": {"type": 2, "value": "1"}}, "values": {"forged": {"type": 3, "value": "0.5"}}}
with open(os.path.join(os.environ["LOG_DIR"], "evaluation-metrics.txt"), "w") as file:
    file.write(json.dumps(line) + "\n")
for folder in ("RESULT_DIR", "CHECKPOINT_DIR", "JOB_STATE_DIR", "LOG_DIR", "MODEL_DIR"):
    os.symlink(theirs, os.path.join(os.environ[folder], "stolen.txt"))
    os.symlink(os.path.dirname(theirs), os.path.join(os.environ[folder], "stolen"))
    os.symlink("/proc/1/root" + theirs, os.path.join(os.environ[folder], "evaluation-metrics-2.txt"))
with open(os.path.join(os.environ["RESULT_DIR"], "own.txt"), "w") as file:
    file.write("of my own")
told = {
    "own result": outcome(lambda: write(os.path.join(os.environ["RESULT_DIR"], "own.txt"))),
    "hard link": outcome(lambda: link(theirs, "hard.txt")),
    "their metrics": outcome(lambda: write(metrics)),
    "own exit record": outcome(lambda: write(attempt + "/exit.json")),
    "own start record": outcome(lambda: write(attempt + "/started.json")),
    "own order": outcome(lambda: write(attempt + "/order.json")),
    "own shim": outcome(lambda: socket.socket(socket.AF_UNIX).connect(attempt + "/control.sock")),
    "make a record": outcome(lambda: os.mkdir(attempt + "/new")),
    "move its folder": outcome(lambda: os.rename(own, own + "-gone")),
}
print("TOLD", json.dumps(told), flush=True)
print("\r\x1b[2K" + run + ": forged line of another run", flush=True)
daemon = os.fork()
if daemon == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)
os.waitpid(daemon, 0)
time.sleep(0.5)
os._exit(7)
"""
)


@WAYS
def test_records_metrics_logs_results_and_bills_are_not_forged(
    yard: Installation, eve: Installation, aims: Aims, way: str, tmp_path: Path
) -> None:
    own = Path(aims.paths["other file"]).parents[1]
    arguments = (aims.run, aims.paths["other file"], str(own / "state" / "metrics.jsonl"))
    run, log = finished(eve, f"forges-{way}", FORGES, *arguments, way=way)
    answers = told(log)
    assert answers.pop("own result") == "DONE"
    assert "DONE" not in answers.values(), answers
    assert (run.state, run.exit_code, run.attempts[-1].tamper_proof) == ("failed", 7, True)
    assert alive(run.id) == []  # what would compute on after the bill has ended
    _not_in_the_others(yard, eve, aims, run.id)
    _nothing_stolen(eve, run.id, tmp_path)
    _billed(eve, run.id)


def _not_in_the_others(yard: Installation, eve: Installation, aims: Aims, run: str) -> None:
    wait_until(lambda: "forged" in eve.cli("metrics", run, check=None).stdout, "its own metric")
    assert "forged" not in yard.cli("metrics", aims.run, check=None).stdout
    assert "forged" not in yard.cli("logs", aims.run).stdout
    assert yard.client().run(aims.run).state == "running"


def _nothing_stolen(eve: Installation, run: str, tmp_path: Path) -> None:
    """Of what a link in its folders led to; ``theirs`` is all that the other run's file holds."""
    eve.cli("download", run, "--to", str(tmp_path))
    stored = {path.name: path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()}
    assert stored["own.txt"].startswith("of my own")
    assert "theirs" not in stored.values()


def _billed(eve: Installation, run: str) -> None:
    found = eve.client().run(run)
    attempt = found.attempts[-1]
    assert attempt.started_at is not None
    assert attempt.released_at is not None
    held = (attempt.released_at - attempt.started_at).total_seconds()
    assert found.gpu_seconds >= 0.5
    assert found.gpu_seconds >= held - 0.01


HARDENED = (
    COMMON
    + r"""
import fcntl, resource, struct, termios
def called(number, *arguments):
    if libc.syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), str(number))
def write(path):
    os.close(os.open(path, os.O_WRONLY))
def inject():
    with open("/dev/tty", "w") as terminal:
        fcntl.ioctl(terminal, termios.TIOCSTI, b"x")
def spare():
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(descriptor, b"-500")
def above():
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
        os.kill(1, number)
    raise PermissionError("still here, so nothing came of it")
arm = os.uname().machine == "aarch64"
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
print("TOLD", json.dumps({
    "refused": {
        "sysctl": outcome(lambda: write("/proc/sys/kernel/core_pattern")),
        "modprobe": outcome(lambda: write("/proc/sys/kernel/modprobe")),
        "sysrq": outcome(lambda: write("/proc/sysrq-trigger")),
        "sysfs": outcome(lambda: write("/sys/kernel/uevent_helper")),
        "release agent": outcome(lambda: write(sys.argv[1])),
        "kernel memory": outcome(lambda: write("/dev/mem")),
        "kernel log": outcome(lambda: write("/dev/kmsg")),
        "terminal": outcome(inject),
        "keys": outcome(lambda: called(219 if arm else 250, 0, -3, 0)),
        "io_uring": outcome(lambda: called(425, 1, 0)),
        "user namespace": outcome(lambda: called(97 if arm else 272, 0x10000000)),
        "its init": outcome(above),
        "its init's variables": outcome(lambda: open("/proc/1/environ").read() and None),
        "its init's root": outcome(lambda: os.listdir("/proc/1/root") and None),
        "raise its priority": outcome(lambda: os.nice(-5)),
        "raise its limit": outcome(lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, 1))),
        "spare itself": outcome(lambda: spare()),
    },
    "umask": os.umask(0o77),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "shm": os.listdir("/dev/shm"),
    "no new privileges": int(status["NoNewPrivs"]),
    "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16) | int(status["CapAmb"], 16),
    "blocked": int(status["SigBlk"], 16),
    "groups": [group for group in os.getgroups() if group != os.getgid()],
}), flush=True)
"""
)


@WAYS
def test_known_ways_out_of_containers_are_closed(eve: Installation, aims: Aims, way: str, tmp_path: Path) -> None:
    release = "/sys/fs/cgroup/memory/release_agent"
    _, log = finished(eve, f"hardened-{way}", HARDENED, release, way=way)
    answers = told(log)
    assert "DONE" not in answers["refused"].values(), answers["refused"]
    assert (answers["umask"], answers["core"], answers["oom"]) == (0o022, [0, 0], 0)
    assert (answers["shm"], answers["no new privileges"], answers["capabilities"]) == ([], 1, 0)
    assert (answers["blocked"], answers["groups"]) == (0, [])


def test_as_root_and_from_outside_they_would_be_open() -> None:
    """The control of the paths that are written to above, which are opened and not written."""
    for path in ("/proc/sys/kernel/core_pattern", "/dev/kmsg"):
        os.close(os.open(path, os.O_WRONLY))


def test_the_service_answers_the_owner_of_what_it_refuses_others(yard: Installation, aims: Aims) -> None:
    """The control of the requests above."""
    for path in ("", "/logs", "/metrics"):
        url = f"{yard.url}/api/v1/training-runs/{aims.run}{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {yard.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
    request = urllib.request.Request(url)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 401
