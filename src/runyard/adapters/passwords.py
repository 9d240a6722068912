"""Hashes of passwords: argon2id (RFC 9106) by argon2-cffi, 19 MiB and two passes for each."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError


class Argon2:
    """A :class:`runyard.ports.passwords.PasswordHashes`."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._nobodys = self._hasher.hash("nobody's")

    def hash(self, password: str) -> str:
        """See :class:`runyard.ports.passwords.PasswordHashes`."""
        return self._hasher.hash(password)

    def matches(self, hashed: str | None, password: str) -> bool:
        """See :class:`runyard.ports.passwords.PasswordHashes`."""
        try:
            return self._hasher.verify(hashed or self._nobodys, password) and hashed is not None
        except (VerificationError, InvalidHashError):
            return False
