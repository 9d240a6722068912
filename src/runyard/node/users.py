"""Which user of this machine a member's programs are."""

from __future__ import annotations

import grp
import os
import pwd
import threading
from collections.abc import Callable, Sequence

from runyard.core.house import User, Users, is_persons
from runyard.node.home import say
from runyard.shim import metadata


class Mapping:
    """From members to users: what the operator's table says, else the machine's user database where the operator
    wants it, else ``base`` plus the member's number. ``close``: closes the cloud's metadata address to a user id that
    is none of those from ``base`` on, and returns sentences on what it could not; called once for each."""

    def __init__(self, base: int, users: Users, close: Callable[[int, int], Sequence[str]] = metadata.close) -> None:
        self._base = base
        self._users = users
        self._close = close
        self._seen: set[int] = set()
        self._lock = threading.Lock()

    def user(self, number: int, login: str) -> User:
        """The user of a member, by number and id. Raises ``PermissionError`` for one of the system's own."""
        user = self._users.table.get(login) or (_of_system(login) if self._users.system else None)
        if user is None:
            return User(self._base + number, self._base + number)
        with self._lock:
            is_new = user.uid not in self._seen
            self._seen.add(user.uid)
        if is_new:
            for sentence in self._close(user.uid, user.uid):
                say(f"User id {user.uid}: {sentence}")
        return user


def _of_system(login: str) -> User | None:
    """The user ``mia`` of the machine's database for the member ``lab/mia``, if the machine has a group ``lab`` with
    her in it: whoever may add members to an account cannot take any user of the machine for one. Groups of the system
    (``docker``, ``sudo``) are left out. None: there is no such user."""
    account, _, name = login.rpartition("/")
    try:
        found, group = pwd.getpwnam(name), grp.getgrnam(account)
    except (KeyError, ValueError):
        return None
    groups = os.getgrouplist(name, found.pw_gid)
    if group.gr_gid not in groups:
        return None
    if not is_persons(found.pw_uid) or not is_persons(found.pw_gid):
        words = f"the member {login} is user {found.pw_uid} and group {found.pw_gid} of this machine, which are its own"
        raise PermissionError(1, f"{words}: the operator gives them others in [users]")
    return User(found.pw_uid, found.pw_gid, tuple(each for each in groups if each != found.pw_gid and is_persons(each)))


def identity(user: User | None) -> dict[str, object]:
    """Whom a shim's order names; None: whoever the node is."""
    if user is None:
        return {"uid": None, "gid": None}
    return {"uid": user.uid, "gid": user.gid, "groups": list(user.groups)}
