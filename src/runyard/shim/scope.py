"""Whom a program may speak to and signal where no namespace parts them: landlock(7), scoped (Linux 6.12).

Abstract sockets (unix(7)) belong to a network, and programs share the machine's: a desktop's X server and D-Bus, and
whatever other runs bind. A program reaches those alone that itself or its own processes have made.
"""

from __future__ import annotations  # for interpreters of environments, from 3.8 on

import os
import sys
from errno import E2BIG, EINVAL, ENOSYS, EOPNOTSUPP

from runyard.shim.lean import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CREATE_RULESET, RESTRICT_SELF = 444, 446  # the same on every architecture
ABSTRACT_SOCKETS, SIGNALS = 1, 2  # LANDLOCK_SCOPE_* of linux/landlock.h
RULESET = b"".join(word.to_bytes(8, sys.byteorder) for word in (0, 0, ABSTRACT_SOCKETS | SIGNALS))
"""struct landlock_ruleset_attr: accesses to files and to the network that rules allow (none is refused), scopes."""
ABSENT = (ENOSYS, EOPNOTSUPP, E2BIG, EINVAL)
"""How kernels answer that have no Landlock, have it turned off, or know no scopes."""
EVERYTHING = "all"


def enclose(open_calls: Sequence[str] = ()) -> None:
    """Keep the calling process, which has no new privileges to get, and all that comes of it from signals to others and
    abstract sockets of others. Nothing where the kernel cannot, or the operator has left all calls open. Raises
    ``OSError``."""
    if EVERYTHING in open_calls:
        return
    try:
        ruleset = libc("syscall", CREATE_RULESET, RULESET, len(RULESET), 0)
    except OSError as error:
        if error.errno in ABSENT:
            return
        raise
    try:
        libc("syscall", RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def is_possible() -> bool:
    """Whether this machine's kernel can."""
    try:
        os.close(libc("syscall", CREATE_RULESET, RULESET, len(RULESET), 0))
    except OSError:
        return False
    return True
