"""From the description of a place to a store that reads and writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runyard.core.house import Root, User
from runyard.stores.embedded import EmbeddedPlace
from runyard.stores.errors import StoreError
from runyard.stores.place import EmbeddedAccess, PlaceStore
from runyard.stores.s3 import S3Place
from runyard.stores.volume import VolumePlace
from runyard.wire.orders import Place


def open_place(
    place: Place,
    *,
    embedded: EmbeddedAccess | None = None,
    volume_roots: Sequence[Root] | None = None,
    user: User | None = None,
    ca_bundle: Path | None = None,
) -> PlaceStore:
    """Open a place. Nothing is asked of the network yet.

    ``embedded`` is needed for ``local`` places. ``volume_roots``: folders below which a ``volume`` must lie after
    symbolic links are followed (None: anywhere). ``user``: whose rights hold there.
    ``ca_bundle``: PEM file of authorities to trust beside the system's
    own. Raises :class:`StoreError` (``invalid``) when the place lacks what its kind needs, ``denied`` for a volume
    outside the roots.
    """
    if place.kind == "s3":
        return S3Place(place, ca_bundle)
    if place.kind == "volume":
        return VolumePlace(place, volume_roots, user)
    if place.kind == "local":
        if embedded is None:
            raise StoreError("invalid", "The embedded store cannot be reached from here: no server was named.")
        return EmbeddedPlace(place, embedded, ca_bundle)
    raise StoreError("invalid", f"There is no kind of store called {place.kind!r}: use s3, local or volume.")
