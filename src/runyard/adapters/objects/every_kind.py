"""The port of object stores over every kind that a manifest can name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from runyard.adapters.objects.embedded import EmbeddedObjects
from runyard.adapters.objects.s3 import S3Objects
from runyard.adapters.objects.volumes import VolumeObjects
from runyard.core.spec import Credentials, Location, StoreKind
from runyard.ports.embedded import EmbeddedStore
from runyard.ports.objects import Checked, Listing, ObjectStores

DEFAULT_ACCOUNT = "default"


class Stores:
    """An :class:`runyard.ports.objects.ObjectStores` that asks the one for the location's kind.

    ``host_paths``: folders below which volumes may lie. ``ca_bundle``: PEM file of authorities to trust beside the
    system's own. ``account_id`` of a call says whose embedded buckets are meant.
    """

    def __init__(
        self, embedded: EmbeddedStore, *, host_paths: Sequence[str] = (), ca_bundle: Path | None = None
    ) -> None:
        self._embedded = embedded
        self._s3 = S3Objects(ca_bundle)
        self._volumes = VolumeObjects(host_paths)

    def check(
        self,
        location: Location,
        credentials: Credentials | None,
        *,
        write: bool,
        account_id: str = DEFAULT_ACCOUNT,
    ) -> Checked:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        return self._of(location, account_id).check(location, credentials, write=write)

    def list(
        self, location: Location, credentials: Credentials | None, *, account_id: str = DEFAULT_ACCOUNT
    ) -> Listing:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        return self._of(location, account_id).list(location, credentials)

    def read(
        self, location: Location, credentials: Credentials | None, key: str, *, account_id: str = DEFAULT_ACCOUNT
    ) -> tuple[int, Iterator[bytes]] | None:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        return self._of(location, account_id).read(location, credentials, key)

    def delete_prefix(
        self, location: Location, credentials: Credentials | None, prefix: str, *, account_id: str = DEFAULT_ACCOUNT
    ) -> int:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        return self._of(location, account_id).delete_prefix(location, credentials, prefix)

    def _of(self, location: Location, account_id: str) -> ObjectStores:
        if location.kind is StoreKind.s3:
            return self._s3
        if location.kind is StoreKind.volume:
            return self._volumes
        return EmbeddedObjects(self._embedded, account_id)
