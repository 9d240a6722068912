"""Where uploaded model definitions (zips) are kept, by content."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import BinaryIO, Protocol


class Definitions(Protocol):
    """Content-addressed files: the name of each is the SHA-256 (hex) of its bytes."""

    async def put(self, sha256: str, chunks: AsyncIterator[bytes], limit: int) -> int:
        """Keep a file and return its size.

        Raises ``ValueError`` when the bytes have another hash and ``OverflowError`` when there are more than
        ``limit``; then nothing is kept.
        """
        ...

    def open(self, sha256: str) -> BinaryIO | None:
        """The file, at its beginning; None when there is none."""
        ...

    def size(self, sha256: str) -> int | None:
        """Its size in bytes; None when there is none."""
        ...

    def delete(self, sha256: str) -> None:
        """Remove a file, if it is there."""
        ...


class NoDefinitions:
    """A place in which nothing is kept."""

    async def put(self, sha256: str, chunks: AsyncIterator[bytes], limit: int) -> int:  # noqa: ARG002  # the port's
        """Refused."""
        raise ValueError("nothing is kept here")

    def open(self, sha256: str) -> BinaryIO | None:  # noqa: ARG002  # the port's
        """None."""
        return None

    def size(self, sha256: str) -> int | None:  # noqa: ARG002  # the port's
        """None."""
        return None

    def delete(self, sha256: str) -> None:
        """Nothing."""
