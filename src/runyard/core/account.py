"""Who pays and who acts: accounts, members, principals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a token may do: everything a member may, everything on the installation, or what a node needs."""

    member = "member"
    admin = "admin"
    node = "node"


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays. ``quota_gpus``: slots at once, None for all that there are. ``paused``: its queue is held."""

    id: str
    name: str
    quota_gpus: int | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A person of an account. ``number`` (from 1, unique in the installation) gives the user id of their programs."""

    id: str
    account_id: str
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token speaks for. ``node_id`` for tokens of nodes."""

    token_id: str
    scope: Scope
    account_id: str
    member_id: str
    node_id: str | None = None
