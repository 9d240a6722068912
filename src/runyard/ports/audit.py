"""The store of record, as far as it keeps who did what. Entries are only ever added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that somebody did or tried: ``action`` such as ``tokens.add``, ``object`` what it was done to,
    ``outcome`` one of done, refused, denied, failed, with the HTTP ``status``. It holds no secret.
    ``address``: of the client."""

    at_ms: int
    account_id: str
    token_id: str
    member_id: str
    address: str
    action: str
    object: str
    outcome: str
    status: int


class AuditLog(Protocol):
    """Who did what."""

    def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries, durably, with consecutive numbers from 1 in the given order."""
        ...

    def audit(
        self, account_id: str | None, *, since_ms: int = 0, before_seq: int | None = None, limit: int = 100
    ) -> Sequence[tuple[int, AuditEntry]]:
        """Entries of an account (None: of all) from a time on, the newest first, with their numbers; below
        ``before_seq`` where that is given (the cursor)."""
        ...
