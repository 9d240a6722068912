"""What the operator lends of the machine: folders that manifests may name, and the users that members are there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import cast

FIRST_ID = 1000
"""User and group ids below are the system's own (useradd(8), ``UID_MIN``): nobody's programs run under them."""
NOBODY = 65534
MOST_ID = 2**32 - 2
MODES = {":ro": False, ":rw": True}


@dataclass(frozen=True, slots=True)
class Root:
    """A folder of the machine below which manifests may name folders; ``writable``: programs may write there as far as
    their user may, and results may be stored there."""

    path: str
    writable: bool = False

    def __str__(self) -> str:
        return f"{self.path} (read-{'write' if self.writable else 'only'})"


def read_root(text: str) -> Root:
    """A root as the operator writes it: ``/data``, ``/data:ro`` (the same) or ``/scratch:rw``. Raises
    ``ValueError``."""
    path, mode = (text[:-3], text[-3:]) if text[-3:] in MODES else (text, ":ro")
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise ValueError(f"{text!r} is not the absolute path of a folder, with :ro or :rw behind it if you like")
    return Root(str(PurePosixPath(path)), MODES[mode])


def root_of(folder: str, roots: Iterable[Root]) -> Root | None:
    """The innermost root that holds a folder (an absolute path without ``..``); None when none does."""
    path = PurePosixPath(folder)
    holding = [root for root in roots if path.is_relative_to(root.path)]
    return max(holding, key=lambda root: len(root.path), default=None)


def allowed_words(roots: Sequence[Root]) -> str:
    """The roots that there are, in words."""
    return ", ".join(map(str, roots)) or "none"


@dataclass(frozen=True, slots=True)
class User:
    """Whom a program runs as: user id, group id, further groups. Raises ``ValueError`` for ids of the system."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for what, number in (("user", self.uid), *(("group", each) for each in (self.gid, *self.groups))):
            if not is_persons(number):
                words = f"programs run under ids from {FIRST_ID} on, and not {NOBODY}"
                raise ValueError(f"the {what} id {number} is the system's: {words}")


def is_persons(number: int) -> bool:
    """Whether a user or group id is one that people have."""
    return FIRST_ID <= number <= MOST_ID and number != NOBODY


@dataclass(frozen=True, slots=True)
class Users:
    """Whose programs run under which user of the machine. ``table``: by the id of the member; ``system``: the others
    that the machine's user database knows (``lab/mia``: its user ``mia`` in its group ``lab``), too.
    Who is neither gets a user id of their own."""

    table: dict[str, User] = field(default_factory=dict[str, User])
    system: bool = False


NOBODY_MAPPED = Users()


def read_users(value: object) -> Users:
    """``"system"``, or a table of ``{uid = 1001, gid = 1001, groups = [2000]}`` by member (``gid``: as ``uid``;
    ``groups``: none). Raises ``ValueError`` in words that follow the setting's name."""
    if value == "system":
        return Users(system=True)
    if not isinstance(value, dict):
        raise ValueError('is "system" or a table of members: "lab/mia" = {uid = 1001, gid = 1001, groups = [2000]}')
    members = cast(dict[str, object], value)
    return Users({name: _user(name, row) for name, row in members.items()})


def users_words(users: Users) -> str:
    """The same as JSON that :func:`read_users` reads."""
    rows = {name: {"uid": user.uid, "gid": user.gid, "groups": user.groups} for name, user in users.table.items()}
    return json.dumps("system" if users.system else rows)


def _user(name: str, row: object) -> User:
    words = f"{name} has uid, and if you like gid and groups, whole numbers from {FIRST_ID} on"
    if not isinstance(row, dict) or not {"uid"} <= row.keys() <= {"uid", "gid", "groups"}:
        raise ValueError(words)
    fields = cast(dict[str, object], row)
    groups = fields.get("groups", [])
    numbers = [
        fields["uid"],
        fields.get("gid", fields["uid"]),
        *(cast(list[object], groups) if isinstance(groups, list) else [None]),
    ]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise ValueError(words)
    uid, gid, *more = cast(list[int], numbers)
    try:
        return User(uid, gid, tuple(more))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
