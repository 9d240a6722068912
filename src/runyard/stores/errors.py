"""What goes wrong with an object store, in five words that everybody else decides by."""

from __future__ import annotations

from typing import Literal, TypeAlias

StoreFault: TypeAlias = Literal["not_found", "denied", "unreachable", "changed", "invalid"]
"""``not_found``: no such bucket or object. ``denied``: a definite no (keys, rights). ``unreachable``: try again later.
``changed``: the object is not the one that was listed. ``invalid``: the request itself can never succeed (a key that
cannot be stored, a place that lacks an address)."""


class StoreError(Exception):
    """A store did not do what was asked. ``message`` is a sentence for a person and never holds a secret."""

    def __init__(self, kind: StoreFault, message: str) -> None:
        super().__init__(message)
        self.kind: StoreFault = kind
        self.message = message

    @property
    def definite(self) -> bool:
        """Whether asking again gives the same answer, so that only a person can help."""
        return self.kind != "unreachable"
