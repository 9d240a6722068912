"""Object stores as the server sees them: listing and checking, never the users' bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from runyard.core.spec import Credentials, Location


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object of a listing: its key below the location's prefix, size in bytes, and etag (empty: has none)."""

    key: str
    size: int
    etag: str = ""


class Verdict(StrEnum):
    """What a store said."""

    ok = "ok"
    not_found = "not_found"
    denied = "denied"
    unreachable = "unreachable"


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer to a check: the verdict and a sentence (without secrets) when it is not ok."""

    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a location, sorted by key, or why they cannot be listed."""

    checked: Checked
    entries: Sequence[ObjectEntry] = ()


class ObjectStores(Protocol):
    """Any object store that a manifest can name. Every call may block on the network.

    ``account_id`` says whose buckets of the embedded store are meant.
    """

    def check(self, location: Location, credentials: Credentials | None, *, write: bool, account_id: str) -> Checked:
        """Ask whether the bucket is there and the credentials let us read (or ``write``) it. Leaves nothing behind."""
        ...

    def list(self, location: Location, credentials: Credentials | None, *, account_id: str) -> Listing:
        """List a location."""
        ...

    def read(
        self, location: Location, credentials: Credentials | None, key: str, *, account_id: str
    ) -> tuple[int, Iterator[bytes]] | None:
        """Size and bytes of one object, to be passed on; None when there is none."""
        ...

    def delete_prefix(
        self, location: Location, credentials: Credentials | None, prefix: str, *, account_id: str
    ) -> int:
        """Delete every object below ``prefix`` (ends with ``/``); returns how many there were."""
        ...
