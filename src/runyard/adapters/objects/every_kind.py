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


class Stores:
    """An :class:`runyard.ports.objects.ObjectStores` that asks the one for the location's kind.

    ``host_paths``: folders below which volumes may lie. ``ca_bundle``: PEM file of authorities to trust beside the
    system's own.
    """

    def __init__(
        self, embedded: EmbeddedStore, *, host_paths: Sequence[str] = (), ca_bundle: Path | None = None
    ) -> None:
        self._kinds: dict[StoreKind, ObjectStores] = {
            StoreKind.s3: S3Objects(ca_bundle),
            StoreKind.local: EmbeddedObjects(embedded),
            StoreKind.volume: VolumeObjects(host_paths),
        }

    def check(
        self,
        location: Location,
        credentials: Credentials | None,
        *,
        write: bool,
        account_id: str,
    ) -> Checked:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        return self._of(location).check(location, credentials, write=write, account_id=account_id)

    def list(self, location: Location, credentials: Credentials | None, *, account_id: str) -> Listing:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        return self._of(location).list(location, credentials, account_id=account_id)

    def read(
        self, location: Location, credentials: Credentials | None, key: str, *, account_id: str
    ) -> tuple[int, Iterator[bytes]] | None:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        return self._of(location).read(location, credentials, key, account_id=account_id)

    def delete_prefix(
        self, location: Location, credentials: Credentials | None, prefix: str, *, account_id: str
    ) -> int:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        return self._of(location).delete_prefix(location, credentials, prefix, account_id=account_id)

    def _of(self, location: Location) -> ObjectStores:
        return self._kinds[location.kind]
