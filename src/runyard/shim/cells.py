"""The cells of a warm parent, as the shim above it knows them: who is in which, and which are free.

A cell is process 1 of a PID namespace, forked by the parent, in which one program after another runs
(:mod:`runyard.shim.warm.cell`). It belongs to a run until the end of that is on disk, so that the process which a
record names is that run's alone for as long as anybody may act upon the record.
"""

import _socket
import sys

from runyard.shim.control import MESSAGE_LIMIT
from runyard.shim.lean import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from runyard.shim.lean import Record
    from runyard.shim.loop import Loop

    class Tenant(Protocol):
        """What a cell asks of the run in it."""

        number: int

        def adopt(self, pid: int) -> None: ...
        def born(self, program: int) -> None: ...
        def left(self, report: Record) -> None: ...


MOST_PROGRAMS = 1000
"""In one cell: whatever little it gathers with each ends with it."""
MOST_FREE = 8
CREDENTIALS = 12  # struct ucred: three words


class Cell:
    """One of them. ``pid`` is 0 until the parent has told it."""

    __slots__ = ("control", "home", "is_spoilt", "pid", "programs", "spent", "tenant")

    def __init__(self, control: _socket.socket, home: "Cells") -> None:
        self.control = control
        self.home = home
        self.pid = 0
        self.programs = 0
        self.tenant: Tenant | None = None
        self.is_spoilt = False
        """Whether no other program may run in it: the last one has changed it, or it is to end, or has."""
        self.spent = [0.0, 0.0]
        """Seconds of processors that earlier programs have used, for the user and for the system."""

    def give(self, number: int, descriptors: "list[int]") -> bool:
        """Hand it a run; says whether it is there to take it."""
        words = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in descriptors)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, words)
        try:
            self.control.sendmsg([b'{"number": %d}' % number], [rights], _socket.MSG_NOSIGNAL)
        except OSError:
            return False
        self.programs += 1
        return True

    def hear(self) -> None:
        """Take in what it says, or the program that it has forked, before that is one."""
        received = self._receive()
        if received is None:
            self.home.end(self)
            return
        message, sender = received
        tenant = self.tenant
        if tenant is None or message.get("number") != tenant.number:
            return
        if message.get("event") == "born":
            tenant.born(sender)
        elif message.get("event") == "over":
            self.is_spoilt = self.is_spoilt or bool(message["changed"])
            self.spent[0] += message["user_cpu_s"]
            self.spent[1] += message["system_cpu_s"]
            tenant.left(message)

    def _receive(self) -> "tuple[Record, int] | None":
        """The next packet, and the process that sent it, by the kernel's word (unix(7), SCM_CREDENTIALS)."""
        try:
            text, ancillary, _, _ = self.control.recvmsg(MESSAGE_LIMIT, _socket.CMSG_SPACE(CREDENTIALS))
        except BlockingIOError:
            return {}, 0
        except OSError:
            return None
        sender = 0
        for level, kind, content in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_CREDENTIALS:
                sender = int.from_bytes(content[:4], sys.byteorder)
        return (decode(text), sender) if text else None

    def vacate(self) -> None:
        """The end of its run is on disk: it may be another's."""
        self.tenant = None
        if self.is_spoilt or self.programs >= MOST_PROGRAMS or len(self.home.free()) > MOST_FREE:
            self.home.end(self)


class Cells:
    """All of one parent. ``ask``: asks the parent for one more, with its end of the connection; False: it is not there
    to do it."""

    __slots__ = ("_all", "_ask", "_asked", "_loop", "_number", "can_fork")

    def __init__(self, loop: "Loop", ask: "Callable[[Record, list[int]], bool]") -> None:
        self._loop = loop
        self._ask = ask
        self._all: list[Cell] = []
        self._asked: dict[int, Cell] = {}
        self._number = 0
        self.can_fork = True
        """Whether the parent has forked each that it was asked for."""

    def free(self) -> list[Cell]:
        """Those in which another program may run."""
        return [cell for cell in self._all if cell.tenant is None]

    def more(self) -> "Cell | None":
        """Ask the parent for one. None: the parent is not there. Raises ``OSError``."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        ours.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        self._number -= 1  # runs count upwards
        taken = self._ask({"op": "cell", "number": self._number}, [theirs.fileno()])
        theirs.close()
        if not taken:
            ours.close()
            return None
        cell = self._asked[self._number] = Cell(ours, self)
        self._all.append(cell)
        self._loop.others[ours.fileno()] = cell.hear
        return cell

    def is_expecting(self) -> bool:
        """Whether the parent has still to say what became of one."""
        return bool(self._asked)

    def take(self, tenant: "Tenant", descriptors: "list[int]") -> "Cell | None":
        """Hand a run to a free one, or to a new one. None: the parent is not there. Raises ``OSError``."""
        while True:
            cell = next(iter(self.free()), None) or self.more()
            if cell is None:
                return None
            if cell.give(tenant.number, descriptors):
                cell.tenant = tenant
                return cell
            self.end(cell)

    def forked(self, number: int, pid: int) -> "Cell | None":
        """The parent has forked one; None: none was asked for by this number."""
        cell = self._asked.pop(number, None)
        if cell is not None:
            cell.pid = pid
            if cell.tenant is not None:
                cell.tenant.adopt(pid)
        return cell

    def refused(self, number: int) -> "Cell | None":
        """The parent could not fork it; None: none was asked for by this number."""
        cell = self._asked.pop(number, None)
        if cell is not None:
            self.can_fork = False
            self.end(cell)
        return cell

    def ended(self, pid: int) -> None:
        """One in which nothing ran is gone."""
        for cell in self._all:
            if cell.pid == pid and cell.tenant is None:
                self.end(cell)
                return

    def end(self, cell: Cell) -> None:
        """Hang up: it ends as soon as nothing runs in it."""
        cell.is_spoilt = True
        if cell in self._all:
            self._all.remove(cell)
            del self._loop.others[cell.control.fileno()]
            cell.control.close()

    def rest(self) -> None:
        """Nothing runs: have one ready for the next program, and no more. Raises ``OSError``."""
        if not self._all and self.can_fork:
            self.more()
        for cell in self._all[1:]:
            self.end(cell)

    def lose_parent(self) -> None:
        """There is no parent any more: those in use end with their runs."""
        self._asked.clear()
        for cell in list(self._all):
            cell.is_spoilt = True
            if cell.tenant is None or not cell.pid:
                self.end(cell)
