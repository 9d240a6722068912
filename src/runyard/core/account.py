"""Who pays and who acts: accounts, plans, quotas, members, roles, principals, and what each may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Final

from runyard.core.errors import Refused


class Scope(StrEnum):
    """What a token may do at the most; its member's role may allow less.

    ``read`` looks, ``submit`` also submits, ``member`` does all that the role allows within the account, ``admin`` also
    what the installation needs, ``node`` what a machine needs.
    """

    read = "read"
    submit = "submit"
    member = "member"
    admin = "admin"
    node = "node"


class Role(StrEnum):
    """What a member may do, each all that the one before it may: look; have runs of their own; the account; the
    installation."""

    viewer = "viewer"
    user = "user"
    manager = "manager"
    admin = "admin"


class Right(StrEnum):
    """What an end-point needs.

    ``read``: look at what the account has. ``tokens``: tokens and a password of one's own. ``submit``: runs, code and
    data. ``change``: stop, move and delete runs of one's own, and delete data. ``manage``: runs of all members,
    connections, secrets, members, the queue and the audit log of the account. ``admin``: the installation.
    """

    read = "read"
    tokens = "tokens"
    submit = "submit"
    change = "change"
    manage = "manage"
    admin = "admin"


_ALL: Final = frozenset(Right)
_OF_SCOPE: Final[Mapping[Scope, frozenset[Right]]] = {
    Scope.read: frozenset({Right.read}),
    Scope.submit: frozenset({Right.read, Right.submit}),
    Scope.member: _ALL - {Right.admin},
    Scope.admin: _ALL,
    Scope.node: frozenset(),
}
_OF_ROLE: Final[Mapping[Role, frozenset[Right]]] = {
    Role.viewer: frozenset({Right.read, Right.tokens}),
    Role.user: frozenset({Right.read, Right.tokens, Right.submit, Right.change}),
    Role.manager: _ALL - {Right.admin},
    Role.admin: _ALL,
}


def rights(scope: Scope, role: Role) -> frozenset[Right]:
    """What a token of this scope may do whose member has this role: what both allow."""
    return _OF_SCOPE[scope] & _OF_ROLE[role]


def may_grant(own: frozenset[Right], role: Role) -> bool:
    """Whether one who may do this may give a role, or change somebody who has it: nobody gives more than they have."""
    return own >= _OF_ROLE[role]


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may have at once; None: no limit of that kind.

    ``gpus``, ``cpu_millis`` and ``memory_mib`` of attempts that hold room, ``waiting``: runs that wait,
    ``storage_bytes``: in the embedded store.
    """

    gpus: int | None = None
    cpu_millis: int | None = None
    memory_mib: int | None = None
    waiting: int | None = None
    storage_bytes: int | None = None


QUOTA_KEYS: Final = tuple(each.name for each in fields(Quota))
OwnQuota = Mapping[str, int | None]
"""What an account has instead of its plan's: by the name of the quota's field; None: no limit."""


def effective(quota: Quota, own: OwnQuota) -> Quota:
    """The plan's quota with what the account has of its own laid over it. Raises ``TypeError`` for an unknown key."""
    return replace(quota, **own)


def refuse_waiting(there: int, count: int, most: int) -> None:
    """Raise :class:`Refused` where so many more would be more than may wait."""
    if there + count > most:
        raise Refused(
            f"{there} runs wait already, {count} more would be beyond the {most} that this account may have waiting: "
            "submit fewer, cancel some (`runyard cancel`), or ask an administrator for more.",
            code="quota_waiting",
        )


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """What accounts are given unless they have something of their own. ``weight``: of their fair share."""

    name: str
    quota: Quota = field(default_factory=Quota)
    weight: float = 1.0


FREE: Final = AccountPlan("free", Quota(gpus=1))
"""One GPU; all further runs wait."""
UNLIMITED: Final = AccountPlan("unlimited")
"""Of the installation's owner."""
BUILT_IN: Final = (FREE, UNLIMITED)


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays. ``paused``: its queue is held. ``quota_gpus``: slots at once, by plan or of its own, None for all that
    there are. ``own``: what it has instead of its plan's quota."""

    id: str
    name: str
    quota_gpus: int | None = None
    paused: bool = False
    plan: str = UNLIMITED.name
    own: OwnQuota = field(default_factory=dict[str, int | None])


@dataclass(frozen=True, slots=True)
class Member:
    """A person of an account. ``number`` (from 1, unique in the installation) gives the user id of their programs."""

    id: str
    account_id: str
    name: str
    number: int
    role: Role = Role.user


def member_id(account_id: str, name: str) -> str:
    """The id of a member that is added: names are unique within an account, accounts within the installation."""
    return f"{account_id}/{name}"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token speaks for. ``node_id`` for tokens of nodes."""

    token_id: str
    scope: Scope
    account_id: str
    member_id: str
    node_id: str | None = None
    role: Role = Role.user

    def may(self, right: Right) -> bool:
        """Whether it may do what needs this right."""
        return right in rights(self.scope, self.role)
