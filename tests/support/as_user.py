"""A program of an ordinary user, started by root: ``python as_user.py UID HOME PROGRAM ARGUMENT...``.

With ``--no-namespaces`` before these words the program, and all that it starts, can make no user namespace: they live
in one that root has made for them, and whose limit of further ones (namespaces(7)) is 0.

It gets what a user's service manager would give: control groups of its own where the machine has such (the folder
``DELEGATED`` in each), a home, no group but its own, and a file system in which it can reach the interpreter of the
tests wherever that lies.
"""

import os
import sys
from pathlib import Path

from runyard.shim import cgroups, view
from runyard.shim.isolation import NAMESPACES
from runyard.shim.lean import libc

SOURCES = str(Path(__file__).resolve().parents[2])
DELEGATED = "test-of-user-{0}"


def groups_of(uid: int) -> list[Path]:
    """The folders that are handed to a user, of those hierarchies that give limits."""
    given = [each for each in cgroups.hierarchies() if each.controllers & {*cgroups.LIMITED, "freezer"}]
    return [Path(each.bases[-1], DELEGATED.format(uid)) for each in given]


def delegate(uid: int) -> None:
    """Make these folders, and put the calling process into them."""
    for folder in groups_of(uid):
        leaf = folder / "node" if (folder.parent / "cgroup.controllers").exists() else folder
        leaf.mkdir(parents=True, exist_ok=True)
        for place in (folder, leaf):
            for path in (place, place / "cgroup.procs", place / "tasks", place / "cgroup.subtree_control"):
                if path.exists():
                    os.chown(path, uid, uid)
        cgroups.join([str(leaf)])


def take_back(uid: int) -> None:
    """Remove them, of which nothing is left but empty folders."""
    for folder in groups_of(uid):
        cgroups.remove([str(folder)])


def live_without_namespaces() -> None:
    """Go on in a process whose user namespace has all ids and lets nobody make another; this one waits for it."""
    (asked, ask), (told, tell) = os.pipe(), os.pipe()
    child = os.fork()
    if child:
        os.read(asked, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text("0 0 4294967295")
        os.write(tell, b"1")
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    libc("unshare", NAMESPACES["user"])
    os.write(ask, b"1")
    os.read(told, 1)
    for descriptor in (asked, ask, told, tell):
        os.close(descriptor)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def main() -> None:
    if sys.argv[1] == "--no-namespaces":
        del sys.argv[1]
        live_without_namespaces()
    uid, home = int(sys.argv[1]), sys.argv[2]
    delegate(uid)
    view.make(view.plan([sys.prefix, sys.base_prefix, SOURCES], uid, (uid,)))
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    os.execve(sys.argv[3], sys.argv[3:], {**os.environ, "HOME": home, "USER": str(uid)})


if __name__ == "__main__":
    main()
