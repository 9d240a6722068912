"""The port of object stores over the embedded store."""

# ruff: noqa: ARG002 # the port gives each kind of store what any of them needs

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from runyard.adapters.objects.verdicts import OK
from runyard.core.errors import StoreUnavailable
from runyard.core.spec import Credentials, Location
from runyard.ports.embedded import EmbeddedStore
from runyard.ports.objects import Checked, Listing, ObjectEntry, Verdict
from runyard.stores.keys import join

_PIECE = 1 << 17


class EmbeddedObjects:
    """An :class:`runyard.ports.objects.ObjectStores` for locations of kind ``local``. Credentials are not looked at:
    an account reaches its own buckets and no others."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store

    def check(self, location: Location, credentials: Credentials | None, *, write: bool, account_id: str) -> Checked:
        """See :class:`runyard.ports.objects.ObjectStores`. A bucket that is written is made when it is not there."""
        try:
            found = self._store.list(account_id, location.bucket, limit=1)
        except StoreUnavailable as error:
            return Checked(Verdict.denied, error.message)
        return OK if write or found is not None else _no_bucket(location)

    def list(self, location: Location, credentials: Credentials | None, *, account_id: str) -> Listing:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        below = join(location.prefix, "")
        try:
            found = self._store.list(account_id, location.bucket, prefix=below)
        except StoreUnavailable as error:
            return Listing(Checked(Verdict.denied, error.message))
        if found is None:
            return Listing(_no_bucket(location))
        return Listing(OK, [ObjectEntry(each.key.removeprefix(below), each.size, each.etag) for each in found])

    def read(
        self, location: Location, credentials: Credentials | None, key: str, *, account_id: str
    ) -> tuple[int, Iterator[bytes]] | None:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        found = self._store.open(account_id, location.bucket, join(location.prefix, key))
        return (found[1].size, _pieces(found[0])) if found is not None else None

    def delete_prefix(
        self, location: Location, credentials: Credentials | None, prefix: str, *, account_id: str
    ) -> int:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        return self._store.delete_prefix(account_id, location.bucket, join(location.prefix, prefix))


def _no_bucket(location: Location) -> Checked:
    return Checked(
        Verdict.not_found,
        f"There is no bucket {location.bucket!r} in the embedded store: `runyard data push` makes it.",
    )


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE):
            yield piece
