"""The package index, as far as a submission asks it."""

from __future__ import annotations

from typing import Protocol


class Catalog(Protocol):
    """Which versions of a distribution can be installed."""

    def versions(self, distribution: str) -> tuple[str, ...] | None:
        """Its versions for the machines' interpreter, newest first; none when the index has none; None when it cannot
        be asked. May take seconds: never asked inside a transaction."""
        ...


class ClosedCatalog:
    """A :class:`Catalog` of an installation without an index: it cannot be asked."""

    def versions(self, distribution: str) -> tuple[str, ...] | None:  # noqa: ARG002 - the port's signature
        """See :class:`Catalog`."""
        return None
