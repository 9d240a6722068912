"""From the description of a place to a store that reads and writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runyard.stores.errors import StoreError
from runyard.stores.place import EmbeddedAccess, PlaceStore
from runyard.wire.orders import Place


def open_place(
    place: Place,
    *,
    embedded: EmbeddedAccess | None = None,
    volume_roots: Sequence[Path] | None = None,
    ca_bundle: Path | None = None,
) -> PlaceStore:
    """Open a place. Nothing is asked of the network yet.

    ``embedded`` is needed for ``local`` places. ``volume_roots``: folders below which a ``volume`` must lie after
    symbolic links are followed (None: anywhere). ``ca_bundle``: PEM file of authorities to trust beside the system's
    own. Raises :class:`StoreError` (``invalid``) when the place lacks what its kind needs, ``denied`` for a volume
    outside the roots.
    """
    del embedded, volume_roots, ca_bundle
    raise StoreError("invalid", f"Stores of kind {place.kind!r} are not in this version.")
