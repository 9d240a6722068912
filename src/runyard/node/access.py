"""How a node gets into object stores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runyard.stores.opening import open_place
from runyard.stores.place import EmbeddedAccess, PlaceStore
from runyard.wire.orders import Place


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """The embedded store, folders of the machine below ``host_paths``, and S3; ``ca_bundle``: further authorities."""

    embedded: EmbeddedAccess | None
    host_paths: tuple[Path, ...]
    ca_bundle: Path | None = None

    def open(self, place: Place) -> PlaceStore:
        """Open a place. Raises :class:`runyard.stores.errors.StoreError`."""
        return open_place(place, embedded=self.embedded, volume_roots=self.host_paths, ca_bundle=self.ca_bundle)
