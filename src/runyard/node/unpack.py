"""From a model definition's zip to a folder. The zip comes from a user: nothing in it is believed."""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO

from runyard.node.zip_index import ZipRefused, count_entries

CHUNK = 1 << 18
_LONGEST = 1024
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MISLEADING = re.compile("[\x01-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a model definition may be, unpacked."""

    entries: int = 100_000
    size: int = 4 << 30


class CodeInvalid(Exception):
    """The zip cannot be unpacked; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out: number of files and their bytes."""

    files: int
    size: int


def unpack(archive: IO[bytes], target: str, limits: Limits = Limits()) -> Unpacked:
    """Unpack into ``target``, which is made: folders 0755, files 0644, or 0755 where the zip marks them executable.

    Refused with :class:`CodeInvalid`: what is no zip, names that lead outside, are too long or hide what they are,
    links and devices, encrypted entries, methods other than deflate, one name twice, or for a file and a folder,
    entries that share bytes, wrong checksums, and more than the limits: entries are counted before they are read,
    bytes as they come out.
    """
    try:
        if count_entries(archive, limits.entries) > limits.entries:
            raise CodeInvalid(f"It has more than the {limits.entries} entries that are allowed.")
        with zipfile.ZipFile(archive) as zipped:
            entries = zipped.infolist()
            _apart(entries)
            _make(target)
            return _unpack_all(zipped, entries, target, limits)
    except ZipRefused as refused:
        raise CodeInvalid(str(refused)) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CodeInvalid(f"It is damaged, or no zip that can be read ({error}).") from None


def _apart(entries: list[zipfile.ZipInfo]) -> None:
    """Refuse files whose bytes overlap: a small zip with one piece that stands for many files."""
    end = 0
    for entry in sorted(entries, key=lambda each: each.header_offset):
        if entry.header_offset < 0:
            raise CodeInvalid("It is damaged: its beginning is not there. Zip the folder again.")
        if entry.header_offset < end:
            raise CodeInvalid(f"{_shown(entry.filename)} shares its bytes with another entry: zip the folder again.")
        end = entry.header_offset + 30 + entry.compress_size  # the least that a local header has


def _unpack_all(zipped: zipfile.ZipFile, entries: list[zipfile.ZipInfo], target: str, limits: Limits) -> Unpacked:
    files, size = 0, 0
    written: set[str] = set()
    for entry in entries:
        path = os.path.join(target, *parts_of(entry))
        try:
            if _is_folder(entry):
                _make(path)
                continue
            if path in written:
                raise CodeInvalid(f"It holds {_shown(entry.filename)} twice: zip the folder again.")
            written.add(path)
            _make(os.path.dirname(path))
            size = _write(zipped, entry, path, size, limits)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise CodeInvalid(f"It holds {_shown(entry.filename)} both as a file and as a folder.") from None
        files += 1
    return Unpacked(files, size)


def parts_of(entry: zipfile.ZipInfo) -> list[str]:
    """The segments of an entry's path, checked. Raises :class:`CodeInvalid`."""
    name = entry.orig_filename
    if "\0" in name:
        raise CodeInvalid(f"The name {_shown(name)} holds a zero byte.")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise CodeInvalid(f"The name {_shown(name)} is absolute: zip the folder from inside it.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise CodeInvalid(f"The name {_shown(name)} leads out of the folder.")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise CodeInvalid(f"{_shown(name)} is a symbolic link: zip the file itself instead.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise CodeInvalid(f"{_shown(name)} is neither a file nor a folder.")
    if entry.flag_bits & 1:
        raise CodeInvalid(f"{_shown(name)} is encrypted: zip it without a password.")
    if entry.compress_type not in _METHODS and not _is_folder(entry):
        raise CodeInvalid(f"{_shown(name)} is compressed by another method than deflate: zip it in the usual way.")
    if not parts and not _is_folder(entry):
        raise CodeInvalid("It holds a file without a name.")
    _check_name(name, parts)
    return parts


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.orig_filename.endswith("/")  # ZipInfo.is_dir() fails where there is no name at all


def _check_name(name: str, parts: list[str]) -> None:
    if _MISLEADING.search(name):
        raise CodeInvalid(
            f"The name {_shown(name)} holds a control character, or one that turns the direction of text: rename it."
        )
    if len(os.fsencode(name)) > _LONGEST or any(len(os.fsencode(part)) > 255 for part in parts):
        raise CodeInvalid(f"The name {_shown(name)} is too long: a part has at most 255 bytes, all {_LONGEST}.")


def _write(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str, size: int, limits: Limits) -> int:
    mode = 0o755 if (entry.external_attr >> 16) & 0o111 else 0o644
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with zipped.open(entry) as source, open(os.open(path, flags, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > limits.size:
                raise CodeInvalid(f"Unpacked it is larger than the {limits.size >> 20} MiB that are allowed.")
            file.write(chunk)
    return size


def _make(folder: str) -> None:
    os.makedirs(folder, exist_ok=True)


def make_passable(root: str) -> None:
    """Give every folder below (and including) ``root`` mode 0755, whatever the umask was."""
    os.chmod(root, 0o755)
    for place, folders, _ in os.walk(root):
        for name in folders:
            os.chmod(os.path.join(place, name), 0o755)


def _shown(name: str) -> str:
    return repr(name[:100])
