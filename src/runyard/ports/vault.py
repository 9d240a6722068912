"""Keeping secrets at rest."""

from __future__ import annotations

from typing import Protocol


class Vault(Protocol):
    """Authenticated encryption under the installation's key."""

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt. ``context`` (what it is, whose it is) must be given again to open it."""
        ...

    def mark(self) -> bytes:
        """How all begins that is sealed now: with the newest key."""
        ...

    def renew(self) -> None:
        """Seal with a new key from now on. Where there are several keys already, the newest is that one: nothing
        changes."""
        ...

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt. Raises ``ValueError`` for another context, another key, or a changed text."""
        ...
