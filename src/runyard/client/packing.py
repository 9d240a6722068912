"""A model definition on its way: a folder becomes a zip, the same bytes for the same files; a zip is looked through."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from runyard.client.errors import PackingError
from runyard.client.ignore import OURS, Found, walk
from runyard.client.sizes import human_size

LIMIT: Final = 512 * 1024 * 1024
"""The most bytes of a zip that the service takes by default."""

CONFIG: Final = b"config.json"
CHUNK: Final = 1 << 20
EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold: one for all files, so that equal files give an equal zip."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A zip ready to be sent. ``mentions_config``: a text file in it speaks of ``config.json``; ``notices``: sentences
    about what was left out; ``names``: the files in it."""

    path: Path
    sha256: str
    size: int
    names: tuple[str, ...]
    mentions_config: bool
    notices: tuple[str, ...] = ()


@contextmanager
def packed(model: Path, limit: int = LIMIT) -> Generator[Packed]:
    """Pack a folder into a temporary zip, or look through an existing zip; ``limit`` in bytes of the zip.

    Raises :class:`PackingError`: nothing there, no files, no zip, damaged, too large (naming the largest files).
    """
    if model.is_dir():
        with tempfile.TemporaryDirectory(prefix="runyard-") as folder:
            yield pack_folder(model, Path(folder) / "definition.zip", limit)
    else:
        yield read_zip(model, limit)


def pack_folder(folder: Path, target: Path, limit: int = LIMIT) -> Packed:
    """Write the files of a folder that are not ignored to ``target``, sorted, with fixed times and plain modes."""
    found = walk(folder)
    if not found.files:
        raise PackingError(f"The folder {folder} has no files to send: check its {OURS} or .gitignore.")
    mentions = False
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in found.files:
            mentions = _add(archive, each) or mentions
            if target.stat().st_size > limit:
                raise PackingError(_too_large(folder, found.files, limit))
    size = target.stat().st_size
    if size > limit:
        raise PackingError(_too_large(folder, found.files, limit))
    names = tuple(each.name for each in found.files)
    return Packed(target, _digest(target), size, names, mentions, found.notices)


def _add(archive: zipfile.ZipFile, found: Found) -> bool:
    info = zipfile.ZipInfo(found.name, EPOCH)
    info.create_system = 3  # Unix: the mode is meant
    info.external_attr = (0o100755 if found.executable else 0o100644) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    try:
        with found.path.open("rb") as source, archive.open(info, "w", force_zip64=found.size >= 1 << 31) as sink:
            return _copy(source, sink)
    except (OSError, UnicodeEncodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is not valid text"
        raise PackingError(f"{found.path} cannot be packed: {reason}.") from error


def _copy(source: IO[bytes], sink: IO[bytes] | None) -> bool:
    """Copy and tell whether a text mentions ``config.json``; a file with a zero byte near its start is no text."""
    mentions, is_text, tail = False, True, b""
    first = True
    while chunk := source.read(CHUNK):
        if first:
            is_text, first = b"\0" not in chunk[:8192], False
        mentions = mentions or (is_text and CONFIG in tail + chunk)
        tail = chunk[-len(CONFIG) :]
        if sink is not None:
            sink.write(chunk)
    return mentions


def _digest(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def read_zip(path: Path, limit: int = LIMIT) -> Packed:
    """Look through an existing zip, which is sent as it is."""
    if not path.exists():
        raise PackingError(f"There is no folder or zip {path}: check the path.")
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise PackingError(f"{path} is no zip: give a folder or a zip with the model definition.")
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            _check_zip(path, size, files, limit)
            mentions = False
            for info in files:
                with archive.open(info) as source:
                    mentions = _copy(source, None) or mentions
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise PackingError(f"The zip {path} cannot be read ({error}): zip the folder again.") from error
    return Packed(path, _digest(path), size, tuple(info.filename for info in files), mentions)


def _check_zip(path: Path, size: int, files: Sequence[zipfile.ZipInfo], limit: int) -> None:
    if not files:
        raise PackingError(f"The zip {path} has no files: zip the folder with the model definition again.")
    for info in files:
        name = PurePosixPath(info.filename)
        if name.is_absolute() or ".." in name.parts:
            raise PackingError(f"The zip {path} has a file outside of its folder, {info.filename!r}: zip it again.")
    if size > limit:
        found = [Found(info.filename, path, info.compress_size, False) for info in files]
        raise PackingError(_too_large(path, found, limit))


def _too_large(what: Path, files: Sequence[Found], limit: int) -> str:
    largest = sorted(files, key=lambda found: found.size, reverse=True)[:5]
    listed = ", ".join(f"{found.name} ({human_size(found.size)})" for found in largest)
    return (
        f"{what} is larger than {human_size(limit)} when packed. The largest files: {listed}. "
        f"Name what the run does not need in {OURS}; data belong in a bucket (`runyard data push`)."
    )
