"""What the shim needs of json, ctypes and signal, from their C cores; its clocks and its records.

A shim is started for every attempt, so what it imports is start-up time of every run. Beside a bare interpreter of
8 ms, ``json``, ``socket``, ``selectors``, ``ctypes`` and ``signal`` take 14 ms more (regular expressions and enums,
mostly); the C modules that they wrap take 2 ms.
"""

from __future__ import annotations  # for interpreters of environments, from 3.8 on

import _ctypes
import _json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signals
    from typing import Any

    Record = dict[str, Any]
else:
    import _signal as signals

CLOCK_BOOTTIME = time.CLOCK_BOOTTIME
NANO = 1_000_000_000

# ------------------------------------------------------------------------------------------------------------ JSON


class _Grammar:
    """What the C scanner asks of its context: plain JSON into plain values."""

    strict = True
    array_hook = None
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = _json.make_scanner(_Grammar)  # pyright: ignore[reportArgumentType] - the stub asks for a scanner, C for these names


def decode(text: bytes) -> Record:
    """One JSON object as a dict. Raises ``ValueError`` for anything else, in words that quote nothing of it."""
    value: Any = None
    end, length = 0, 0
    try:
        characters = text.decode("utf-8").strip()
        length = len(characters)
        value, end = _scan(characters, 0)
    except (StopIteration, ValueError, RecursionError, SystemError):
        pass  # said below, without the text; the last is how the scanner fails while json.decoder is not imported
    kind = value.__class__
    if kind is not dict or end != length:
        raise ValueError("not one JSON object")
    return value


def _unknown(value: object) -> object:
    raise TypeError(f"a record cannot hold a {value.__class__.__name__}")


_chunks: Any = _json.make_encoder(  # as json.encoder calls it, from 3.8 on
    None, _unknown, _json.encode_basestring_ascii, None, ": ", ", ", False, False, True
)


def encode(value: Any) -> str:
    """JSON of None, booleans, numbers, strings, lists, tuples and dicts with string keys, on one line. Raises
    ``TypeError``."""
    return "".join(_chunks(value, 0))


# ------------------------------------------------------------------------------------------------------------ libc


class _Function(_ctypes.CFuncPtr):
    """A C function that returns int and sets errno."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO


class _HoldingFunction(_ctypes.CFuncPtr):
    """The same, called without letting go of the interpreter's lock: for a call that returns twice."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO | _ctypes.FUNCFLAG_PYTHONAPI


_program = _ctypes.dlopen(None, 0)  # pyright: ignore[reportArgumentType] - None, unknown to the stub: this program


def libc(name: str, *arguments: int | bytes | None, holding: bool = False) -> int:
    """Call a function of the C library; -1 becomes ``OSError`` with errno and the function's name."""
    kind = _HoldingFunction if holding else _Function
    result = kind(_ctypes.dlsym(_program, name))(*arguments)
    if result == -1:
        number = _ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def fork_into(group: str | None, namespaces: int = 0) -> tuple[int, bool]:
    """fork(2), the child being born in a control group of version 2, and in new namespaces (flags of clone(2)); says
    too whether it was born in the group (else: join it). Raises ``OSError`` where the namespaces cannot be had.

    clone3(2) with CLONE_INTO_CGROUP spares the lock over all of the machine's processes that a move takes.
    """
    folder = -1
    try:
        if group is not None:
            folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return _clone3(CLONE_INTO_CGROUP | namespaces, folder), True
    except OSError:
        pass  # without the group, then
    finally:
        if folder >= 0:
            os.close(folder)
    return (_clone3(namespaces, 0) if namespaces else os.fork()), False


class _ProcessId(_ctypes._SimpleCData):  # pyright: ignore - the stub asks for a type, C for this name
    _type_ = "i"


def fork_as(number: int) -> int:
    """fork(2), the child having that process id in its namespace, whose owner the caller must be where that is to work
    (clone3(2), Linux 5.5). Raises ``OSError``."""
    wanted: Any = _ProcessId
    held = wanted(number)
    return _clone3(0, 0, _ctypes.addressof(held))


def _clone3(flags: int, group: int, as_number: int = 0) -> int:
    """fork(2) with flags of clone3(2). ``as_number``: the address of the process id to be had. Raises ``OSError``."""
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack and size, tls, set_tid and size, cgroup
    words = (flags, 0, 0, 0, signals.SIGCHLD, 0, 0, 0, as_number, int(as_number != 0), group)
    arguments = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
    pid = -1
    interpreter("PyOS_BeforeFork")
    try:
        pid = libc("syscall", SYS_CLONE3, arguments, 88, holding=True)
    finally:
        interpreter("PyOS_AfterFork_Parent" if pid else "PyOS_AfterFork_Child")
    return pid


def interpreter(function: str) -> None:
    """One of the three calls that Python asks for around a fork it did not make (C API, Operating System Utilities)."""
    _HoldingFunction(_ctypes.dlsym(_program, function))()


SYS_CLONE3 = 435  # the same on every architecture
CLONE_INTO_CGROUP = 0x2_0000_0000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38  # linux/prctl.h


def prctl(option: int, value: int) -> None:
    """prctl(2) with one value."""
    libc("prctl", option, value, 0, 0, 0)


# ----------------------------------------------------------------------------------------------------------- clocks


def boottime_ns() -> int:
    """Nanoseconds since the machine started, time asleep included."""
    return time.clock_gettime_ns(CLOCK_BOOTTIME)


def epoch_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class Alarm:
    """A timer descriptor on CLOCK_BOOTTIME (timerfd_create(2)); unlike poll's own limit it counts time asleep."""

    __slots__ = ("_at", "fd")

    def __init__(self) -> None:
        self.fd = libc("timerfd_create", CLOCK_BOOTTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        self._at: int | None = None

    def set(self, at_ns: int | None) -> None:
        """Become readable at that time of :func:`boottime_ns`; None: never."""
        if at_ns == self._at:
            return
        self._at = at_ns
        seconds, nanos = divmod(0 if at_ns is None else max(at_ns, 1), NANO)
        # struct itimerspec: interval (none), then value; four 64-bit words
        words = b"".join(word.to_bytes(8, sys.byteorder) for word in (0, 0, seconds, nanos))
        libc("timerfd_settime", self.fd, 1, words, None)  # 1: TFD_TIMER_ABSTIME

    def clear(self) -> None:
        """Take note that it rang."""
        self._at = None
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            pass  # set anew since it rang


# ----------------------------------------------------------------------------------------------------------- records


def grumble(words: str) -> None:
    """Say something on stderr, where that takes it: it is a file, too, on what may be the same full disk."""
    try:
        os.write(2, words.encode() + b"\n")
    except OSError:
        pass


def reserve(folder: int, name: str, size: int = 8192) -> None:
    """Hold room on the disk for a record to come, so that a full disk cannot keep it from being written."""
    descriptor = os.open(name + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        pass  # a file system without the call: the record takes its chance when it is written
    finally:
        os.close(descriptor)


def write_record(folder: int, name: str, record: Record) -> None:
    """Write one JSON object under a name in an open folder: whole and on disk when this returns, or not there."""
    descriptor = os.open(name + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        text = encode(record).encode() + b"\n"
        size = len(text)
        while text:
            text = text[os.write(descriptor, text) :]
        if os.fstat(descriptor).st_size != size:  # there was room reserved, or a try before this one
            os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(name + ".tmp", name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)
