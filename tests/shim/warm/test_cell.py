"""What one program could leave to the next one in its cell."""

import os
import signal

import pytest

from tests.shim.warm.parents import Twice, Warm

CHANGES = {
    "a limit": "resource.prlimit(1, resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
    "its niceness": "os.setpriority(os.PRIO_PROCESS, 1, 19)",
    "its policy": "os.sched_setscheduler(1, os.SCHED_BATCH, os.sched_param(0))",
    "its cores": "os.sched_setaffinity(1, {min(os.sched_getaffinity(0))})",
    "a signal that waits": "os.kill(1, 35)",
    "its turn at the disk": "assert ctypes.CDLL(None).syscall(IOPRIO_SET, 1, 1, 3 << 13) == 0",
}
IOPRIO_SET = {"x86_64": 251}.get(os.uname().machine, 30)
SECRET = "xyzzy-{}-plugh"
READS_ITSELF = """
import os, re
found = 0
with open('/proc/self/maps') as maps, open('/proc/self/mem', 'rb', 0) as memory:
    for line in maps:
        start, end = (int(word, 16) for word in line.split()[0].split('-'))
        if line.split()[1].startswith('r') and '[v' not in line:
            memory.seek(start)
            text = memory.read(end - start)
            at = -1
            while (at := text.find(b'-17-plugh', at + 1)) >= 0:
                found += text[at - 5 : at] == b'xyzzy'
print(found > 0, os.getpid())
"""


@pytest.fixture
def own(slim: Twice) -> Twice:
    """With no cell but one that is new."""
    while slim.warm.free:
        slim.warm.free.pop().end()
    return slim


def test_one_program_after_another_is_the_same_process_to_itself(own: Twice) -> None:
    runs = [own.start({"t.py": "import os\nprint(os.getpid(), os.getppid(), os.getsid(0))"}) for _ in range(1)]
    for _ in range(3):
        runs[-1].go()
        assert runs[-1].end().text == "2 1 2\n"
        runs.append(own.start({"t.py": "import os\nprint(os.getpid(), os.getppid(), os.getsid(0))"}))
    assert {run.pid for run in runs} == {runs[0].pid}, "all were in one cell"
    runs[-1].go()
    runs[-1].end()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_cell_that_a_program_has_changed_is_told(own: Twice, change: str) -> None:
    if "sched_setaffinity" in change and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("there is only one core")
    text = f"""
import ctypes, os, resource
IOPRIO_SET = {IOPRIO_SET}
try:
    {change}
except (PermissionError, AssertionError):
    print("refused")
else:
    print("done")
"""
    unchanged = own.start({"t.py": "pass"})
    unchanged.go()
    unchanged.end()
    changed = own.start({"t.py": text})
    changed.go()
    said = changed.end().text
    assert unchanged.over is not None
    assert changed.over is not None
    assert unchanged.over["changed"] is False
    assert changed.over["changed"] is (said == "done\n")
    assert said == "done\n" or not ("RLIMIT" in change or "kill" in change), "these are not kept from it"
    if changed.over["changed"]:
        os.kill(changed.pid, signal.SIGKILL)
        os.waitpid(changed.pid, 0)


def test_no_program_finds_in_its_memory_what_the_one_before_was_given(own: Twice) -> None:
    assert own.forked({"t.py": READS_ITSELF}, TOKEN=SECRET.format(17)).text == "True 2\n", "its own it finds"
    first = own.start({"t.py": "pass"}, TOKEN=SECRET.format(17))
    first.go()
    first.end()
    second = own.start({"t.py": READS_ITSELF})
    second.go()
    assert second.end().text == "False 2\n"
    assert first.pid == second.pid, "they were in one cell"


def test_what_a_program_leaves_in_memory_of_the_machine_goes_with_it(own: Twice) -> None:
    text = """
import ctypes, os
libc = ctypes.CDLL(None)
print(libc.shmget(77, 4096, 0), os.listdir('/dev/shm'))
print(libc.shmget(77, 4096, 0o1600) >= 0)
open('/dev/shm/left', 'w').close()
"""
    assert [own.forked({"t.py": text}).text for _ in range(2)] == ["-1 []\nTrue\n"] * 2


def test_a_program_that_leaves_processes_is_not_over(own: Twice) -> None:
    text = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(0.3)\n    print('late', flush=True)"
    run = own.start({"t.py": text})
    run.go()
    run.wait_for("ended")
    assert "late" not in run.log.read_text()
    assert run.end().text == "late\n"


def test_the_end_of_its_cell_is_that_of_a_program(own: Twice) -> None:
    run = own.start({"t.py": "import signal\nprint('there', flush=True)\nsignal.pause()"})
    run.go()
    run.wait_for_text("there")
    os.kill(run.pid, signal.SIGKILL)
    assert run.end().code == -999
    assert run.over is None


def test_without_a_pid_namespace_there_is_no_cell(own: Twice) -> None:
    warm = Warm(namespaces=["user", "mount"])
    ran = Twice(warm, own.folder).forked({"t.py": "import os\nprint(os.getpid() > 2)"})
    assert (ran.text, warm.free) == ("True\n", [])
    warm.close()
