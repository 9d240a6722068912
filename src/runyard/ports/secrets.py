"""The store of record, as far as stored secrets go. All methods commit before they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """A stored secret of an account; ``sealed`` holds its value encrypted."""

    account_id: str
    name: str
    created_ms: int
    sealed: bytes = field(repr=False)


class Secrets(Protocol):
    """Secrets that manifests ask for by name."""

    def put_secret(self, record: SecretRecord) -> None:
        """Create or replace."""
        ...

    def secret(self, account_id: str, name: str) -> SecretRecord | None:
        """The stored secret of that name."""
        ...

    def secrets(self, account_id: str) -> Sequence[SecretRecord]:
        """All of an account, by name."""
        ...

    def delete_secret(self, account_id: str, name: str) -> bool:
        """Remove one; False when there is none."""
        ...
