"""The system calls that a program is refused, each of them tried, and what has to go on working."""

import errno
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runyard.shim import seccomp
from runyard.shim.lean import libc, prctl
from tests.shim.launching import INTERPRETER, UID, Launcher, bash, needs_root

MACHINE = platform.machine()
COLUMN = dict(seccomp.BOTH).get(MACHINE, 0)
known = pytest.mark.skipif(MACHINE not in seccomp.ARCHITECTURES, reason="system calls of this machine are not known")
HEADERS = {
    0: ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    1: ("/usr/include/asm-generic/unistd.h",),
}
NO_PRIVILEGES = 38


def in_a_child(
    attempt: Callable[[], object], *, filtered: bool, alone: bool = True, open_calls: Sequence[str] = ()
) -> int:
    """The errno with which an attempt fails in a process of its own, 0 where it succeeds."""
    pid = os.fork()
    if pid == 0:
        try:
            if filtered:
                prctl(NO_PRIVILEGES, 1)
                seccomp.refuse(alone, open_calls)
            attempt()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def call(number: int, *arguments: int) -> Callable[[], object]:
    return lambda: libc("syscall", number, *arguments)


@known
@pytest.mark.parametrize("name", sorted(name for name, row in seccomp.REFUSED.items() if row[COLUMN] is not None))
def test_each_is_refused(name: str) -> None:
    number = seccomp.REFUSED[name][COLUMN]
    assert number is not None
    assert in_a_child(call(number, -1, -1, -1, -1, -1), filtered=True) == errno.EPERM


@known
@pytest.mark.parametrize("name", sorted(seccomp.OF_OTHERS))
def test_looks_into_processes_are_refused_where_there_are_others(name: str) -> None:
    number = seccomp.OF_OTHERS[name][COLUMN]
    assert number is not None
    nowhere = call(number, 0x7FFF, 0x7FFFFF, 0x7FFFFF, 0, 0)
    assert in_a_child(nowhere, filtered=True, alone=False) == errno.EPERM
    assert in_a_child(nowhere, filtered=True) == in_a_child(nowhere, filtered=False) != errno.EPERM


@known
@needs_root
@pytest.mark.parametrize(
    "name", ["mount", "setns", "bpf", "keyctl", "userfaultfd", "clock_settime", "open_by_handle_at", "move_mount"]
)
def test_without_the_filter_the_kernel_would_have_looked_at_the_call(name: str) -> None:
    number = seccomp.REFUSED[name][COLUMN]
    assert number is not None
    assert in_a_child(call(number, -1, -1, -1, -1, -1), filtered=False) not in (0, errno.EPERM)


@known
def test_namespaces_are_refused_however_they_are_asked_for() -> None:
    new_user, files = 0x10000000, 0x400
    unshare = seccomp.UNSHARE[COLUMN]
    assert in_a_child(call(unshare, new_user), filtered=True) == errno.EPERM
    assert in_a_child(call(unshare, seccomp.CLONE_NEWTIME), filtered=True) == errno.EPERM
    assert in_a_child(call(unshare, files), filtered=True) == 0
    assert in_a_child(call(seccomp.CLONE[COLUMN], new_user | 17), filtered=True) == errno.EPERM
    assert in_a_child(call(seccomp.CLONE3[COLUMN], 0, 0), filtered=True) == errno.ENOSYS
    assert in_a_child(call(seccomp.CLONE3[COLUMN], 0, 0), filtered=False) not in (0, errno.ENOSYS, errno.EPERM)


@known
def test_sockets_are_of_the_families_that_programs_use() -> None:
    def attempt(family: int) -> Callable[[], object]:
        return call(seccomp.SOCKET[COLUMN], family, 2, 0)

    hypervisor, crypto = 40, 38
    for family in (1, 2, 16):
        assert in_a_child(attempt(family), filtered=True) == 0
    for family in (hypervisor, crypto):
        assert in_a_child(attempt(family), filtered=True) == errno.EAFNOSUPPORT


@pytest.mark.skipif(MACHINE != "x86_64", reason="of x86_64")
def test_the_same_calls_under_other_numbers_are_refused() -> None:
    getpid = 39
    assert in_a_child(call(getpid), filtered=True) == 0
    assert in_a_child(call(seccomp.X32 | getpid), filtered=True) == errno.ENOSYS


@pytest.mark.parametrize("column", [0, 1])
def test_the_numbers_are_those_of_the_kernels_own_list(column: int) -> None:
    header = next((path for path in map(Path, HEADERS[column]) if path.exists()), None)
    if header is None:
        pytest.skip("the headers of the kernel are not installed")
    found = re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)$", header.read_text(), re.MULTILINE)
    numbers = {name: int(number) for name, number in found}
    tables = seccomp.REFUSED | seccomp.OF_OTHERS | {"clone": seccomp.CLONE, "unshare": seccomp.UNSHARE}
    tables |= {"clone3": seccomp.CLONE3, "socket": seccomp.SOCKET, "seccomp": seccomp.SECCOMP}
    compared = {name: row[column] for name, row in tables.items() if name in numbers}
    assert len(compared) > 45
    assert compared == {name: numbers[name] for name in compared}


def evaluate(program: bytes, architecture: int, number: int, argument: int) -> int:
    """What a filter answers, computed as the kernel documents it (networking/filter, seccomp_filter)."""
    words = {0: number, 4: architecture, 16: argument}
    place, value = 0, 0
    while True:
        code = int.from_bytes(program[place : place + 2], sys.byteorder)
        true, false = program[place + 2], program[place + 3]
        constant = int.from_bytes(program[place + 4 : place + 8], sys.byteorder)
        place += 8
        if code == seccomp.RETURN:
            return constant
        if code == seccomp.LOAD:
            value = words[constant]
            continue
        tests = {
            seccomp.EQUAL: value == constant,
            seccomp.AT_LEAST: value >= constant,
            seccomp.ANY_BIT: bool(value & constant),
        }
        place += 8 * (true if tests[code] else false)


@pytest.mark.parametrize("machine", sorted(seccomp.ARCHITECTURES))
@pytest.mark.parametrize("alone", [True, False])
def test_the_filter_of_each_machine_answers_as_its_table_says(machine: str, alone: bool) -> None:
    column = dict(seccomp.BOTH)[machine]
    program = seccomp.assemble(machine, alone)
    tables = (seccomp.REFUSED,) if alone else (seccomp.REFUSED, seccomp.OF_OTHERS)
    refused = {row[column] for table in tables for row in table.values()}
    special = {seccomp.CLONE[column], seccomp.CLONE3[column], seccomp.UNSHARE[column], seccomp.SOCKET[column]}
    own = seccomp.ARCHITECTURES[machine]
    for number in set(range(600)) - special:
        expected = seccomp.ERRNO | errno.EPERM if number in refused else seccomp.ALLOW
        assert evaluate(program, own, number, 0) == expected, number
    for number in special:
        assert evaluate(program, own, number, 0x10000000) != seccomp.ALLOW
    assert evaluate(program, own, seccomp.CLONE[column], 0x11) == seccomp.ALLOW
    assert evaluate(program, 0x40000003, 1, 0) == seccomp.ERRNO | errno.EPERM  # i386


LIVELY = r"""
import asyncio, concurrent.futures, json, multiprocessing, os, pty, socket, subprocess, threading
def square(value): return value * value
def main():
    said = {}
    said["subprocess"] = subprocess.run(["/bin/echo", "a"], capture_output=True, text=True).stdout
    for way in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(way).Pool(2) as pool:
            said[way] = pool.map(square, [3])[0]
    thread = threading.Thread(target=lambda: said.update(thread=1))
    thread.start(); thread.join()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        said["threads"] = pool.submit(square, 4).result()
    async def run():
        child = await asyncio.create_subprocess_exec("/bin/true")
        return await child.wait()
    said["asyncio"] = asyncio.run(run())
    said["addresses"] = len(socket.if_nameindex()) > 0
    said["pty"] = len(pty.openpty())
    said["filter"] = [l.split()[1] for l in open("/proc/self/status") if l.startswith("Seccomp:")][0]
    print(json.dumps(said))
if __name__ == "__main__":
    main()
"""
DEBUGGER = r"""
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
pid = os.fork()
if pid == 0:
    if libc.ptrace(0, 0, 0, 0) != 0:
        os._exit(9)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(7)
_, status = os.waitpid(pid, 0)
assert os.WIFSTOPPED(status), status
assert libc.ptrace(7, pid, 0, 0) == 0
print("traced", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@known
def test_what_the_operator_leaves_open_is_open_and_nothing_else() -> None:
    nowhere = {
        name: call(seccomp.REFUSED[name][COLUMN] or 0, -1, -1, -1, -1, -1) for name in ("bpf", "mount", "keyctl")
    }
    opened = {name: in_a_child(each, filtered=True, open_calls=["bpf"]) for name, each in nowhere.items()}
    unfiltered = {name: in_a_child(each, filtered=False) for name, each in nowhere.items()}
    assert opened == {"bpf": unfiltered["bpf"], "mount": errno.EPERM, "keyctl": errno.EPERM}
    everything = {name: in_a_child(each, filtered=True, open_calls=["all"]) for name, each in nowhere.items()}
    assert everything == unfiltered
    others = call(seccomp.OF_OTHERS["kcmp"][COLUMN] or 0, 0x7FFF, 0x7FFFFF, 0, 0, 0)
    assert in_a_child(others, filtered=True, alone=False) == errno.EPERM
    assert in_a_child(others, filtered=True, alone=False, open_calls=["kcmp"]) != errno.EPERM


@known
def test_namespaces_and_families_of_sockets_can_be_left_open() -> None:
    new_user, hypervisor = 0x10000000, 40
    unshare, make = call(seccomp.UNSHARE[COLUMN], new_user), call(seccomp.SOCKET[COLUMN], hypervisor, 2, 0)
    given = in_a_child(unshare, filtered=False)
    assert in_a_child(unshare, filtered=True, open_calls=["unshare"]) == given
    assert in_a_child(call(seccomp.CLONE3[COLUMN], 0, 0), filtered=True, open_calls=["unshare"]) != errno.ENOSYS
    assert in_a_child(make, filtered=True, open_calls=["socket"]) == in_a_child(make, filtered=False)
    assert in_a_child(make, filtered=True, open_calls=["unshare"]) == errno.EAFNOSUPPORT


@known
def test_who_may_use_keys_has_none_of_the_nodes() -> None:
    session, keyctl = -3, seccomp.REFUSED["keyctl"][COLUMN] or 0
    numbers: list[int] = []
    for open_calls in ((), ("keyctl",)):
        read, write = os.pipe()
        if os.fork() == 0:
            libc("syscall", keyctl, seccomp.JOIN_SESSION_KEYRING, None)
            theirs = libc("syscall", keyctl, 0, session, 0)
            prctl(NO_PRIVILEGES, 1)
            if open_calls:
                seccomp.refuse(True, open_calls)
            os.write(write, f"{theirs} {libc('syscall', keyctl, 0, session, 0)}".encode())
            os._exit(0)
        os.wait()
        theirs, own = map(int, os.read(read, 100).split())
        os.close(read)
        os.close(write)
        numbers.append(theirs == own)
    assert numbers == [True, False]


@known
@needs_root
def test_the_order_says_what_is_open(open_launcher: Launcher) -> None:
    command = "unshare -U true && echo made || echo refused; grep Seccomp: /proc/self/status"
    for open_calls, said in (([], ["refused", "2"]), (["unshare"], ["made", "2"]), (["all"], ["made", "0"])):
        attempt = open_launcher.launch(
            command, uid=UID, gid=UID, namespaces=["pid", "mount", "ipc"], open_calls=open_calls
        )
        assert attempt.ended()["exit_code"] == 0
        lines = attempt.logged().splitlines()[-2:]
        assert [lines[0], lines[1].split()[1]] == said


@known
@needs_root
@pytest.mark.parametrize("namespaces", [["pid", "mount", "ipc"], []])
def test_programs_work_as_before(open_launcher: Launcher, namespaces: list[str]) -> None:
    script = open_launcher.folder / "lively.py"
    script.write_text(LIVELY)
    argv = [sys.executable, str(script)]
    visible = [*INTERPRETER, str(script)]
    attempt = open_launcher.launch(argv, uid=UID, gid=UID, namespaces=namespaces, visible=visible)
    assert attempt.ended()["exit_code"] == 0, attempt.logged()
    said = json.loads(attempt.logged())
    assert said == {
        "subprocess": "a\n",
        **dict.fromkeys(("fork", "spawn", "forkserver"), 9),
        "thread": 1,
        "threads": 16,
        "asyncio": 0,
        "addresses": True,
        "pty": 2,
        "filter": "2",
    }
    assert attempt.started()["missing"] == []


@known
@needs_root
def test_a_debugger_works_where_a_program_sees_itself_alone(open_launcher: Launcher) -> None:
    script = open_launcher.folder / "debug.py"
    script.write_text(DEBUGGER)
    for namespaces, said in ((["pid", "mount", "ipc"], "traced 7\n"), ([], "")):
        attempt = open_launcher.launch(
            [sys.executable, str(script)], uid=UID, gid=UID, namespaces=namespaces, visible=[*INTERPRETER, str(script)]
        )
        assert (attempt.ended()["exit_code"] == 0) == bool(said), attempt.logged()
        assert attempt.logged().endswith(said) if said else "AssertionError" in attempt.logged()


@known
def test_a_program_of_the_nodes_own_user_is_filtered_too(launcher: Launcher) -> None:
    attempt = launcher.launch(bash("unshare -U true || echo refused; grep Seccomp: /proc/self/status"))
    assert attempt.ended()["exit_code"] == 0
    assert attempt.logged().splitlines()[-2:] == ["refused", "Seccomp:\t2"]
    control = subprocess.run(["unshare", "-U", "true"], capture_output=True, check=False)
    if control.returncode != 0:
        pytest.skip("this machine makes user namespaces for nobody: the refusal proves little")


def test_an_unknown_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="riscv64"):
        seccomp.assemble("riscv64", True)
    facts = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*facts[:4], "riscv64")))
    assert seccomp.missing() == [f"{seccomp.NO_FILTER} (the system calls of riscv64 are not known)."]
