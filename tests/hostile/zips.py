"""Hostile zips: the server keeps them as any other bytes; the node refuses to unpack them."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable

from tests.hostile.case import Zip

_END = struct.Struct("<4s4H2LH")


def entry(name: str, mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    """An entry that a Unix made."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    info.compress_type = method
    return info


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], comment: bytes = b"") -> bytes:
    """A zip of these."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in entries:
            archive.writestr(info if isinstance(info, zipfile.ZipInfo) else entry(info), content)
        archive.comment = comment
    return target.getvalue()


def of(
    name: str, mode: int = 0o100644, content: bytes = b"x", method: int = zipfile.ZIP_DEFLATED
) -> Callable[[], bytes]:
    """A good file, and one of this name."""
    return lambda: zipped(("good.py", b"1"), (entry(name, mode, method), content))


def patched(at: int, form: str, *values: int) -> Callable[[], bytes]:
    """A good zip whose end of the directory says something else from this byte on."""

    def make() -> bytes:
        content = bytearray(zipped(("a", b"x" * 100), ("b", b"y" * 100)))
        struct.pack_into(form, content, len(content) - _END.size + at, *values)
        return bytes(content)

    return make


def renamed(old: bytes, new: bytes) -> Callable[[], bytes]:
    """A zip in whose names one text stands in the place of another of the same length."""
    assert len(old) == len(new)
    return lambda: zipped((old.decode(), b"x")).replace(old, new)


def million() -> bytes:
    """10^6 entries in the directory, all of the same empty file: 47 MB."""
    local = zipped(("a", b""))
    at = local.rfind(b"PK\1\2")
    header, end = local[at : local.rfind(b"PK\5\6")], 1_000_000
    size = len(header) * end
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, end, end, size, at)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at + size, 1)
    last = _END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return local[:at] + header * end + end64 + locator + last


def overlapping() -> bytes:
    """Two entries of the directory that point to the same local file."""
    content = zipped(("aa", b"x" * 50))
    at, end = content.rfind(b"PK\1\2"), content.rfind(b"PK\5\6")
    header = content[at:end]
    both = header + header.replace(b"aa", b"bb")
    return content[:at] + both + _END.pack(b"PK\5\6", 0, 0, 2, 2, len(both), at, 0)


def encrypted() -> bytes:
    """An entry marked as encrypted."""
    content = bytearray(zipped(("secret", b"x")))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.rfind(mark) + offset] |= 1
    return bytes(content)


def wrong_checksum() -> bytes:
    """A stored file of which a byte was changed."""
    return zipped((entry("a", method=zipfile.ZIP_STORED), b"content")).replace(b"content", b"CONTENT", 1)


def lying_size() -> bytes:
    """A file that says to have 1 byte and has a megabyte."""
    content = bytearray(zipped(("a", bytes(1 << 20))))
    struct.pack_into("<L", content, content.rfind(b"PK\1\2") + 24, 1)
    struct.pack_into("<L", content, 22, 1)
    return bytes(content)


ZIPS = (
    Zip("no zip at all: text", lambda: b"#!/bin/sh\nrm -rf /\n", "It is no zip"),
    Zip("nothing", lambda: b"", "It is no zip"),
    Zip("a zip cut in half", lambda: (c := zipped(("a", bytes(range(256)) * 20)))[: len(c) // 2], "It is no zip"),
    Zip("a zip without its beginning", lambda: zipped(("a", bytes(range(256)) * 20))[40:], "damaged"),
    Zip("zip slip: ../evil", of("../evil"), "leads out of the folder"),
    Zip("zip slip deeper: a/../../evil", of("a/../../evil"), "leads out of the folder"),
    Zip("zip slip with a dot before: ./../evil", of("./../evil"), "leads out of the folder"),
    Zip("an absolute name: /etc/passwd", of("/etc/passwd"), "is absolute"),
    Zip("an absolute name: //etc/passwd", of("//etc/passwd"), "is absolute"),
    Zip("a drive: C:/evil", of("C:/evil"), "is absolute"),
    Zip("a symbolic link to /etc", of("link", stat.S_IFLNK | 0o777, b"/etc"), "is a symbolic link"),
    Zip("a symbolic link, and a file below it", lambda: zipped((entry("l", stat.S_IFLNK | 0o777), b"/"), ("l/x", b"")), "is a symbolic link"),
    Zip("a character device", of("dev", stat.S_IFCHR | 0o666), "neither a file nor a folder"),
    Zip("a block device", of("dev", stat.S_IFBLK | 0o666), "neither a file nor a folder"),
    Zip("a named pipe", of("pipe", stat.S_IFIFO | 0o666), "neither a file nor a folder"),
    Zip("a socket", of("sock", stat.S_IFSOCK | 0o666), "neither a file nor a folder"),
    Zip("a bomb: 64 MiB of zeros in 64 KiB", of("zeros", content=bytes(64 << 20)), "Unpacked it is larger than"),
    Zip("a bomb of many: 40 files of 2 MiB", lambda: zipped(*((f"z{n}", bytes(2 << 20)) for n in range(40))), "Unpacked it is larger than"),
    Zip("10^6 entries", million, "more than the 100000 entries"),
    Zip("entries that share their bytes", overlapping, "shares its bytes with another entry"),
    Zip("one name twice", lambda: zipped(("a.py", b"1"), ("a.py", b"2")), "twice"),
    Zip("one name twice, once with ./", lambda: zipped(("a.py", b"1"), ("./a.py", b"2")), "twice"),
    Zip("a file and a folder of one name", lambda: zipped(("a", b"1"), ("a/b", b"2")), "both as a file and as a folder"),
    Zip("a folder and a file of one name", lambda: zipped(("a/b", b"1"), ("a", b"2")), "both as a file and as a folder"),
    Zip("an encrypted entry", encrypted, "is encrypted"),
    Zip("compressed by bzip2", of("a", method=zipfile.ZIP_BZIP2), "another method than deflate"),
    Zip("compressed by LZMA", of("a", method=zipfile.ZIP_LZMA), "another method than deflate"),
    Zip("a wrong checksum", wrong_checksum, "damaged"),
    Zip("a file that is larger than it says", lying_size, "damaged"),
    Zip("a directory of 4 GiB, says its end", patched(12, "<L", 0xFFFFFFF0), "its directory is larger than the zip"),
    Zip("a directory that begins at 4 GiB", patched(16, "<L", 0xFFFFFFF0), "damaged"),
    Zip("zip64 without its record", patched(8, "<2H2L", 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), "its directory is larger"),
    Zip("a directory of 10 bytes", patched(12, "<L", 10), "damaged"),
    Zip("a name with NUL", renamed(b"a_b", b"a\0b"), "holds a zero byte"),
    Zip("a name with a line feed", of("a\nb"), "holds a control character"),
    Zip("a name with ESC", of("\x1b[2J"), "holds a control character"),
    Zip("a name written backwards: U+202E", of("a\u202eyp.exe"), "turns the direction of text"),
    Zip("a name with an isolate: U+2066", of("a\u2066b"), "turns the direction of text"),
    Zip("a name of 300 letters", of("x" * 300), "is too long"),
    Zip("a name of 60,000 letters in parts", of("/".join(["x" * 100] * 600)), "is too long"),
    Zip("a name of 30,000 folders", of("a/" * 30_000 + "a"), "is too long"),
    Zip("a name of dots alone", of("."), "without a name"),
)  # fmt: skip
