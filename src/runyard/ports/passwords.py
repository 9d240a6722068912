"""Keeping passwords so that nobody can read them."""

from __future__ import annotations

from typing import Protocol


class PasswordHashes(Protocol):
    """A slow hash with a salt. Both calls take tens of milliseconds and megabytes: one at a time is enough."""

    def hash(self, password: str) -> str:
        """The text that is kept of a password."""
        ...

    def matches(self, hashed: str | None, password: str) -> bool:
        """Whether it is the password; with None it is not, and finding that out takes as long."""
        ...
