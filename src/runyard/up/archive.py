"""The file of a backup: a tar archive whose last member, ``backup.json``, names every other one with its SHA-256."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import msgspec

from runyard.core.errors import RunyardError

INDEX: Final = "backup.json"
DATABASE: Final = "database/"
SERVER: Final = "server/"
SETTINGS: Final = "settings.toml"
SECRETS: Final = "secrets"
FORMAT: Final = 1
_CHUNK: Final = 1 << 20
Tell = Callable[[str, int], None]
"""Told what is being done, and how much of it is."""


class BrokenBackup(RunyardError):
    """A file that is no whole backup."""

    code = "broken_backup"


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A file: its size in bytes, the SHA-256 of them, and its modification time in nanoseconds (etags and the times of
    short logs are made of it)."""

    size: int
    sha256: str
    mtime_ns: int


class Contents(msgspec.Struct, frozen=True):
    """What ``backup.json`` says. ``secrets``: plain, sealed or absent; ``nodes``: machines that were connected."""

    format: int
    version: str
    revision: str
    created_ms: int
    secrets: str
    nodes: tuple[str, ...]
    tables: dict[str, int]
    members: dict[str, Member]

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self.members.values())


class Writer:
    """Writes an archive under a name of its own; :meth:`finish` gives it the right one. As a context it removes what
    was not finished."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._partial = target.with_name(f".{target.name}.partial")
        descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)
        self.members: dict[str, Member] = {}

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def add(self, name: str, path: Path) -> None:
        """Add a file as long as it is now, however it grows. One that is gone meanwhile is left out."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            status = os.fstat(file.fileno())
            self._add(name, file, status.st_size, status.st_mtime_ns)

    def add_bytes(self, name: str, content: bytes) -> None:
        """Add a member of these bytes."""
        self._add(name, io.BytesIO(content), len(content), 0)

    def _add(self, name: str, file: IO[bytes], size: int, mtime_ns: int) -> None:
        head = tarfile.TarInfo(name)
        head.size, head.mode, head.mtime = size, 0o600, mtime_ns // 1_000_000_000
        hashed = _Hashing(file)
        self._tar.addfile(head, hashed)
        if name != INDEX:
            self.members[name] = Member(size, hashed.digest.hexdigest(), mtime_ns)

    def finish(self, contents: Contents) -> int:
        """Add the index, make the file durable and give it its name; returns its size in bytes."""
        self.add_bytes(INDEX, msgspec.json.encode(contents))
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        self._file.close()
        os.replace(self._partial, self._target)
        folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size


class _Hashing:
    """A reader that takes a digest of what goes by."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """As a file's."""
        chunk = self._file.read(size)
        self.digest.update(chunk)
        return chunk


Sink = Callable[[str], IO[bytes] | None]
"""Where a member's bytes go, by its name; None: nowhere."""


def read(path: Path, sink: Sink, tell: Tell) -> Contents:
    """Read a whole archive, give each member's bytes to its sink, and compare all of it with the index.

    Raises :class:`BrokenBackup`.
    """
    found: dict[str, tuple[int, str]] = {}
    index: bytes | None = None
    done = 0
    try:
        with tarfile.open(path, "r|") as tar:
            for head, file in _files(tar):
                if head.name == INDEX:
                    index = file.read()
                    continue
                found[head.name] = (head.size, _pour(file, sink(_safe(head.name))))
                done += head.size
                tell("bytes", done)
    except (tarfile.TarError, EOFError) as error:
        raise BrokenBackup(f"{path} is no whole backup ({error}): use another one.") from None
    except FileNotFoundError:
        raise BrokenBackup(f"There is no file {path}.") from None
    contents = _index(path, index)
    if wrong := [name for name, each in contents.members.items() if found.get(name) != (each.size, each.sha256)]:
        raise BrokenBackup(f"{path} is damaged: {wrong[0]} is not what was written ({len(wrong)} such files).")
    if set(found) - set(contents.members):
        raise BrokenBackup(f"{path} holds files that it does not name: it is not what was written.")
    return contents


def _files(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    for head in tar:
        file = tar.extractfile(head) if head.isreg() else None
        if file is None:
            raise BrokenBackup(f"{head.name!r} is no plain file: this is no backup of Runyard.")
        yield head, file


def _safe(name: str) -> str:
    if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise BrokenBackup(f"{name!r} would leave the folder: this is no backup of Runyard.")
    return name


def _pour(file: IO[bytes], target: IO[bytes] | None) -> str:
    digest = hashlib.sha256()
    try:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if target is not None:
                target.write(chunk)
    finally:
        if target is not None:
            target.close()
    return digest.hexdigest()


def _index(path: Path, text: bytes | None) -> Contents:
    if text is None:
        raise BrokenBackup(f"{path} has no {INDEX}: it was not finished, or is no backup.")
    try:
        contents = msgspec.json.decode(text, type=Contents)
    except msgspec.DecodeError as error:
        raise BrokenBackup(f"{path}: {INDEX} cannot be read ({error}).") from None
    if contents.format != FORMAT:
        raise BrokenBackup(f"{path} has format {contents.format}, this version reads {FORMAT}: use a newer Runyard.")
    return contents
