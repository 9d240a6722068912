"""The store of record, as far as keeping and letting go is concerned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from runyard.core.retention import Ended, Kept, Part


class Retention(Protocol):
    """Part of the store of record."""

    def retentions(self) -> Mapping[str, Kept]:
        """What accounts have said of their own, by id; the others follow the installation."""
        ...

    def set_retention(self, account_id: str, kept: Kept) -> bool:
        """Set all that an account says of its own (empty: nothing); False when there is no such account."""
        ...

    def ended_runs(self, after_seq: int, limit: int) -> Sequence[Ended]:
        """Final runs with a higher ``seq``, ascending, with what went of each before."""
        ...

    def needed_runs(self) -> frozenset[str]:
        """Runs that others which are not final wait for (``after``) or start from (``start_from``)."""
        ...

    def note_swept(self, run_id: str, parts: frozenset[Part], sentence: str, now_ms: int) -> bool:
        """Parts of a final run are gone: a note on its page and a ``swept`` event (body: ``parts``) with a new version.
        False when the run is absent or not final."""
        ...

    def forget_keys(self, before_ms: int) -> int:
        """Forget the idempotency keys of submissions before a time; returns how many they were."""
        ...

    def forget_tokens(self, before_ms: int) -> int:
        """Forget tokens that had expired or were revoked before a time; returns how many they were."""
        ...

    def unneeded_definitions(self, before_ms: int) -> Sequence[tuple[str, str, int]]:
        """Model definitions (account, SHA-256, size) recorded before a time, with which no recorded run of their
        account was submitted. Reads all runs."""
        ...

    def drop_definition(self, account_id: str, sha256: str) -> bool:
        """Forget an account's model definition; True when no account has it any more, so that its file may go."""
        ...
