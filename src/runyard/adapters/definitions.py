"""Model definitions as files named by their hash."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Protocol


class Digest(Protocol):
    """What of a hash is used here."""

    def update(self, data: bytes, /) -> None:
        """Take bytes in."""
        ...


class DefinitionFiles:
    """A folder of zips, each named by the SHA-256 (hex) of its bytes; a file there is complete and durable."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in root.glob("??/.*.tmp"):  # by a process that was killed
            left.unlink()

    def _path(self, sha256: str) -> Path:
        if len(sha256) != 64 or not all(c in "0123456789abcdef" for c in sha256):
            raise ValueError(f"{sha256!r} is not a SHA-256 in lower-case hexadecimal digits")
        return self._root / sha256[:2] / sha256

    async def put(self, sha256: str, chunks: AsyncIterator[bytes], limit: int) -> int:
        """Keep a file; ``ValueError`` for another hash, ``OverflowError`` for more than ``limit`` bytes."""
        target = self._path(sha256)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        digest, size = hashlib.sha256(), 0
        try:
            with temporary.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise OverflowError(f"the model definition has more than {limit} bytes")
                    await asyncio.to_thread(_add, file, digest, chunk)
                if digest.hexdigest() != sha256:
                    raise ValueError("the bytes that arrived have another SHA-256 than the address says")
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(_move, temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return size

    def open(self, sha256: str) -> BinaryIO | None:
        """The file, or None."""
        try:
            return self._path(sha256).open("rb")
        except (FileNotFoundError, ValueError):
            return None

    def size(self, sha256: str) -> int | None:
        """Its size, or None."""
        try:
            return self._path(sha256).stat().st_size
        except (FileNotFoundError, ValueError):
            return None

    def delete(self, sha256: str) -> None:
        """Remove it, if it is there."""
        self._path(sha256).unlink(missing_ok=True)


def _add(file: BinaryIO, digest: Digest, chunk: bytes) -> None:
    digest.update(chunk)
    file.write(chunk)


def _move(temporary: Path, target: Path) -> None:
    os.replace(temporary, target)
    for folder in (target.parent, target.parent.parent):  # the name is durable too, and that of its folder
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
