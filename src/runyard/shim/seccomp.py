"""The system calls that a program is refused: those that no training needs and that an attacker would.

A filter of seccomp(2), assembled here as classic BPF (linux/filter.h, linux/seccomp.h), for x86_64 and aarch64. What is
refused fails with EPERM, as it does for want of a right, so that libraries fall back as in any container; clone3(2),
whose flags a filter cannot read, with ENOSYS, upon which the C library uses clone(2). It holds for all that a program
ever starts, and can only be made narrower.
"""

from __future__ import annotations  # for interpreters of environments, from 3.8 on

import _ctypes
import os
import sys
from errno import EAFNOSUPPORT, EINVAL, ENOSYS, EPERM

from runyard.shim.lean import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Instruction = tuple[int, int, int, int]
    """Code, jump if true, jump if false, constant: struct sock_filter."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_*, linux/audit.h."""
BOTH = (("x86_64", 0), ("aarch64", 1))
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other file systems, and handles that pass by the folders above a file
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "fanotify_init": (300, 262),
    "setns": (308, 268),
    # the kernel itself: its code, its keys, its counters, parts of it that break often
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "syslog": (103, 116),
    "lookup_dcookie": (212, 18),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "modify_ldt": (154, None),
    # the machine
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "acct": (163, 89),
    "vhangup": (153, 58),
    "nfsservctl": (180, 42),
    "iopl": (172, None),
    "ioperm": (173, None),
}
"""Their numbers (asm/unistd_64.h of x86_64, asm-generic/unistd.h)."""
OF_OTHERS: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
}
"""Looks into other processes. In a PID namespace of its own a program has no others: there debuggers, and libraries
that hand memory from process to process, may use them."""
EVERYTHING = "all"
"""In the place of names that an operator leaves open: no filter."""
NAMESPACES, SOCKETS = "unshare", "socket"
"""Names of calls that are refused for some arguments alone: new namespaces, by clone and clone3, too; odd families."""
KEYS = frozenset({"add_key", "request_key", "keyctl"})
CLONE, CLONE3, UNSHARE, SOCKET = (56, 220), (435, 435), (272, 97), (41, 198)
SECCOMP = (317, 277)
NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET (linux/sched.h)."""
CLONE_NEWTIME = 0x80  # of unshare alone: in clone it is a part of the signal's number
FAMILIES = (1, 2, 10, 16, 27, 43)
"""Those of sockets that programs use: unix, inet, inet6, netlink (the list of addresses), ib, smc."""
X32 = 0x40000000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h: LD|W|ABS, JMP|J..|K, RET|K
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; the lower half of the first argument
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
SET_MODE_FILTER, GET_ACTION_AVAIL, SPEC_ALLOW = 1, 2, 4
"""The last: a program is not made slower by measures against speculation that older kernels tie to a filter."""
JOIN_SESSION_KEYRING = 1  # linux/keyctl.h
NO_FILTER = "The program may use every system call: this machine's kernel takes no filter"


def names() -> list[str]:
    """What an operator may leave open."""
    return sorted({*REFUSED, *OF_OTHERS, NAMESPACES, SOCKETS, EVERYTHING})


def opened(calls: Sequence[str]) -> list[str]:
    """A sentence where an operator has left something open."""
    if EVERYTHING in calls:
        return ["The program may use every system call: the operator has turned the filter off."]
    return [f"The operator leaves system calls open: {', '.join(calls)}."] if calls else []


def assemble(machine: str, alone: bool, open_calls: Sequence[str] = ()) -> bytes:
    """The filter for a machine's kind; ``alone``: the program sees its own processes only; ``open_calls``: names that
    are not refused. Raises ``OSError`` for a kind that is not known."""
    if machine not in ARCHITECTURES:
        raise OSError(ENOSYS, f"the system calls of {machine} are not known")
    column = dict(BOTH)[machine]
    tables = (REFUSED,) if alone else (REFUSED, OF_OTHERS)
    rows = {name: row[column] for table in tables for name, row in table.items() if name not in open_calls}
    numbers = sorted(number for number in rows.values() if number is not None)
    answers: dict[int, list[Instruction]] = {number: [(RETURN, 0, 0, ERRNO | EPERM)] for number in numbers}
    if NAMESPACES not in open_calls:
        answers.update(_namespaces(column))
    if SOCKETS not in open_calls:
        answers[SOCKET[column]] = [(LOAD, 0, 0, ARGUMENT), *_among(FAMILIES, ALLOW, ERRNO | EAFNOSUPPORT)]
    if machine == "x86_64":
        answers[X32] = [(RETURN, 0, 0, ERRNO | ENOSYS)]
    code: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, ERRNO | EPERM),  # calls of 32 bits have other numbers
        (LOAD, 0, 0, NUMBER),
        *_chosen(_intervals(answers)),
    ]
    return b"".join(_packed(*each) for each in code)


def _namespaces(column: int) -> dict[int, list[Instruction]]:
    """The calls that make new ones."""
    answers: dict[int, list[Instruction]] = {CLONE3[column]: [(RETURN, 0, 0, ERRNO | ENOSYS)]}
    for number, bits in ((CLONE[column], NEW_NAMESPACES), (UNSHARE[column], NEW_NAMESPACES | CLONE_NEWTIME)):
        refuse = [(LOAD, 0, 0, ARGUMENT), (ANY_BIT, 0, 1, bits), (RETURN, 0, 0, ERRNO | EPERM)]
        answers[number] = [*refuse, (RETURN, 0, 0, ALLOW)]
    return answers


def _intervals(answers: dict[int, list[Instruction]]) -> list[tuple[int, list[Instruction]]]:
    """From which number on which answer holds; beside those given all is allowed, and above X32 all is alike."""
    allow: list[Instruction] = [(RETURN, 0, 0, ALLOW)]
    marks: list[tuple[int, list[Instruction]]] = [(0, allow)]
    for number in sorted(answers):
        marks += [(number, answers[number]), *([(number + 1, allow)] if number != X32 else [])]
    last = dict(marks)  # of two at one number the answer that is given, which comes later
    merged: list[tuple[int, list[Instruction]]] = []
    for number, answer in sorted(last.items(), key=lambda each: each[0]):
        if not merged or merged[-1][1] != answer:
            merged.append((number, answer))
    return merged


def _chosen(intervals: Sequence[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """A binary search among intervals: the kernel walks it for every system call there is when it takes the filter."""
    if len(intervals) == 1:
        return intervals[0][1]
    half = len(intervals) // 2
    left, right = _chosen(intervals[:half]), _chosen(intervals[half:])
    return [(AT_LEAST, len(left), 0, intervals[half][0]), *left, *right]


def _among(values: Sequence[int], answer: int, otherwise: int) -> list[Instruction]:
    """One answer for some values, another for all the others."""
    tests = [(EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [*tests, (RETURN, 0, 0, otherwise), (RETURN, 0, 0, answer)]


def _packed(code: int, true: int, false: int, constant: int) -> bytes:
    order = sys.byteorder
    return code.to_bytes(2, order) + bytes((true, false)) + constant.to_bytes(4, order)


_assembled: dict[tuple[bool, tuple[str, ...]], tuple[object, bytes]] = {}
"""What has been assembled in this process, or in the one that it is a fork of: the filter's memory, and a struct
sock_fprog that points there."""


def ready() -> None:
    """Assemble now what forks of this process will use."""
    try:
        for alone in (True, False):
            _filter(alone)
    except OSError:
        pass  # told when it is to be put into force


class _Byte(_ctypes._SimpleCData):  # pyright: ignore[reportPrivateUsage, reportMissingTypeArgument] - the name in C
    _type_ = "B"


def _filter(alone: bool, open_calls: Sequence[str] = ()) -> bytes:
    kind = alone, tuple(open_calls)
    if kind not in _assembled:
        text = assemble(os.uname().machine, alone, open_calls)
        held: Any = type("Held", (_ctypes.Array,), {"_length_": len(text), "_type_": _Byte})
        memory = held.from_buffer_copy(text)
        words = (len(text) // 8, _ctypes.addressof(memory))
        _assembled[kind] = (memory, b"".join(word.to_bytes(8, sys.byteorder) for word in words))
    return _assembled[kind][1]


def refuse(alone: bool, open_calls: Sequence[str] = ()) -> None:
    """Put the filter into force for the calling process, which has no new privileges to get, and for all that comes of
    it. ``alone``, ``open_calls``: as for :func:`assemble`, and :data:`EVERYTHING`. Raises ``OSError`` where the kernel
    cannot."""
    column = dict(BOTH)[os.uname().machine]
    if EVERYTHING in open_calls or not KEYS.isdisjoint(open_calls):
        _leave_keys(column)
    if EVERYTHING in open_calls:
        return
    program, number = _filter(alone, open_calls), SECCOMP[column]
    try:
        libc("syscall", number, SET_MODE_FILTER, SPEC_ALLOW, program)
    except OSError as error:
        if error.errno != EINVAL:
            raise
        libc("syscall", number, SET_MODE_FILTER, 0, program)  # before Linux 4.17


def _leave_keys(column: int) -> None:
    """Have a session keyring of one's own, not the node's (keyctl(2)). Raises ``OSError``."""
    try:
        libc("syscall", REFUSED["keyctl"][column] or 0, JOIN_SESSION_KEYRING, None)
    except OSError as error:
        if error.errno != ENOSYS:  # this kernel has no keys
            raise


def missing() -> list[str]:
    """A sentence where :func:`refuse` cannot work here, and a program runs without."""
    machine = os.uname().machine
    try:
        if machine not in ARCHITECTURES:
            raise OSError(ENOSYS, f"the system calls of {machine} are not known")
        action = ERRNO.to_bytes(4, sys.byteorder)
        libc("syscall", SECCOMP[dict(BOTH)[machine]], GET_ACTION_AVAIL, 0, action)
    except OSError as error:
        return [f"{NO_FILTER} ({error.strerror})."]
    return []
