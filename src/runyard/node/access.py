"""How a node gets into object stores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runyard.core.house import Root
from runyard.node.users import Mapping
from runyard.stores.errors import StoreError
from runyard.stores.opening import open_place
from runyard.stores.place import EmbeddedAccess, PlaceStore
from runyard.wire.orders import Place


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """The embedded store, folders of the machine below ``roots``, and S3; ``ca_bundle``: further authorities;
    ``mapping``: with whose rights folders of the machine are used (None: the node's own)."""

    embedded: EmbeddedAccess | None
    roots: tuple[Root, ...]
    ca_bundle: Path | None = None
    mapping: Mapping | None = None

    def open(self, place: Place) -> PlaceStore:
        """Open a place. Raises :class:`runyard.stores.errors.StoreError`."""
        user = None
        if place.kind == "volume" and self.mapping is not None and place.member:
            try:
                user = self.mapping.user(place.member, place.login)
            except PermissionError as error:
                raise StoreError("denied", f"The folder {place.path} is not used: {error.strerror}.") from None
        return open_place(place, embedded=self.embedded, volume_roots=self.roots, ca_bundle=self.ca_bundle, user=user)
