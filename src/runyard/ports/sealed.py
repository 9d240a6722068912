"""The store of record, as far as sealed texts go, whatever they are: for a change of the installation's key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class SealedKind(StrEnum):
    """Where sealed texts are kept."""

    connection = "connection"
    secret = "secret"
    spec = "spec"


@dataclass(frozen=True, slots=True)
class SealedText:
    """One sealed text. ``name``: of the connection or secret, or the spec's number."""

    kind: SealedKind
    account_id: str
    name: str
    sealed: bytes = field(repr=False)


class SealedTexts(Protocol):
    """All that the vault has sealed."""

    def sealed_texts(self, kind: SealedKind, key: bytes, limit: int) -> Sequence[SealedText]:
        """At most ``limit`` texts whose first bytes are not ``key``: those that the vault sealed with another key."""
        ...

    def reseal(self, old: SealedText, sealed: bytes) -> bool:
        """Put another sealed text in the place of one; False when that has changed or gone meanwhile."""
        ...

    def any_sealed(self) -> bool:
        """Whether there is any sealed text."""
        ...
