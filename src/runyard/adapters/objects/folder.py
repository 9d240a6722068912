"""The embedded store: ``<root>/<account>/<bucket>/<key>``, plain files that their owner may look at.

What is being written lies in ``<root>/.incoming`` and is renamed when it is complete, so a file in a bucket is whole.
One process at a time uses a root.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType

from runyard.stores.beneath import NotAFile, closing, etag_of, open_file, open_folder, walk
from runyard.stores.blobs import Blob, BlobWriter
from runyard.stores.errors import StoreError
from runyard.stores.keys import check_bucket, check_key, is_key

_INCOMING = ".incoming"
_MAX_SEGMENT_BYTES = 255
_MAX_SEGMENTS = 64
_ACCOUNT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class FolderStore:
    """A :class:`runyard.stores.blobs.BlobStore` in a folder, which is made (for this user alone) when missing."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._incoming = open_folder(self._root, [_INCOMING], make=True)
        for name in os.listdir(self._incoming):  # left by a process that was killed
            os.unlink(name, dir_fd=self._incoming)
        # Held while folders are made or removed: a put must not find its folder gone.
        self._shape = threading.Lock()
        self._last_stamp = 0

    def put(self, account: str, bucket: str, key: str) -> BlobWriter:
        """See :class:`runyard.stores.blobs.BlobStore`."""
        place = _place(account, bucket, key)
        name = secrets.token_hex(8)
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=self._incoming)

        def move() -> None:
            self._move_in(name, bucket, key, place)

        return FolderWriter(key, fd, self._stamp, move, lambda: os.unlink(name, dir_fd=self._incoming))

    def _move_in(self, name: str, bucket: str, key: str, place: list[str]) -> None:
        with self._shape, _conflicts(bucket, key):
            folder = open_folder(self._root, place[:-1], make=True)
            try:
                _rename(self._incoming, name, folder, place[-1])
            except BaseException:
                os.close(folder)
                raise
        with closing(folder):
            os.fsync(folder)

    def _stamp(self) -> int:
        """A modification time in nanoseconds that no other object of this process has: etags are made of it."""
        with self._shape:
            self._last_stamp = max(time.time_ns(), self._last_stamp + 1)
            return self._last_stamp

    def open(self, account: str, bucket: str, key: str) -> FolderReader:
        """See :class:`runyard.stores.blobs.BlobStore`."""
        place = _place(account, bucket, key)
        with closing(self._folder(bucket, place[:2])) as at, _missing(bucket, key):
            folder = open_folder(at, place[2:-1])
            with closing(folder):
                return FolderReader(key, open_file(folder, place[-1]))

    def head(self, account: str, bucket: str, key: str) -> Blob:
        """See :class:`runyard.stores.blobs.BlobStore`."""
        reader = self.open(account, bucket, key)
        reader.close()
        return reader.blob

    def list(
        self, account: str, bucket: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[Blob]:
        """See :class:`runyard.stores.blobs.BlobStore`."""
        with closing(self._folder(bucket, _place(account, bucket))) as folder:
            usable = (found for found in walk(folder, after, prefix) if is_key(found[0]))
            return [_blob(key, status) for key, status in islice(usable, limit)]

    def delete(self, account: str, bucket: str, key: str) -> bool:
        """See :class:`runyard.stores.blobs.BlobStore`."""
        place = _place(account, bucket, key)
        try:
            with self._shape, _missing(bucket, key), closing(self._folder(bucket, place[:2])) as at:
                self._remove(at, place[2:])
        except StoreError as error:
            if error.kind == "not_found":
                return False
            raise
        return True

    def _remove(self, bucket: int, segments: Sequence[str]) -> None:
        """Remove a file and the folders that are empty without it; the lock is held."""
        with closing(open_folder(bucket, segments[:-1])) as folder:
            os.unlink(segments[-1], dir_fd=folder)
        for depth in range(len(segments) - 1, 0, -1):
            with closing(open_folder(bucket, segments[: depth - 1])) as parent:
                try:
                    os.rmdir(segments[depth - 1], dir_fd=parent)
                except OSError:
                    return  # it holds something else

    def delete_prefix(self, account: str, bucket: str, prefix: str) -> int:
        """See :class:`runyard.stores.blobs.BlobStore`."""
        if not self.has_bucket(account, bucket):
            return 0
        count, after = 0, ""
        while found := self.list(account, bucket, prefix=prefix, after=after):
            count += sum(self.delete(account, bucket, blob.key) for blob in found)
            after = found[-1].key
        if not prefix:
            with self._shape, closing(open_folder(self._root, [account])) as folder:
                try:
                    os.rmdir(bucket, dir_fd=folder)
                except OSError:
                    pass  # something was put meanwhile, or it is gone
        return count

    def buckets(self, account: str) -> Sequence[str]:
        """See :class:`runyard.stores.blobs.BlobStore`."""
        _place(account, "any")
        try:
            with closing(open_folder(self._root, [account])) as folder, os.scandir(folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def has_bucket(self, account: str, bucket: str) -> bool:
        """See :class:`runyard.stores.blobs.BlobStore`."""
        try:
            os.close(self._folder(bucket, _place(account, bucket)))
        except StoreError as error:
            if error.kind == "not_found":
                return False
            raise
        return True

    def close(self) -> None:
        """Give the descriptors back; the store is not used afterwards."""
        os.close(self._incoming)
        os.close(self._root)

    def _folder(self, bucket: str, place: Sequence[str]) -> int:
        with _missing(bucket, ""):
            return open_folder(self._root, place)


class FolderWriter:
    """A :class:`runyard.stores.blobs.BlobWriter` on a file beside the buckets."""

    def __init__(
        self, key: str, fd: int, stamp: Callable[[], int], move: Callable[[], None], forget: Callable[[], None]
    ) -> None:
        self._key = key
        self._fd: int | None = fd
        self._size = 0
        self._stamp = stamp
        self._move = move
        self._forget = forget

    @property
    def size(self) -> int:
        """See :class:`runyard.stores.blobs.BlobWriter`."""
        return self._size

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """See :class:`runyard.stores.blobs.BlobWriter`."""
        if self._fd is None:
            raise ValueError("the object was committed or given up before")
        view = memoryview(chunk)
        with _disk():
            while view:
                written = os.write(self._fd, view)
                self._size += written
                view = view[written:]

    def commit(self) -> Blob:
        """See :class:`runyard.stores.blobs.BlobWriter`."""
        if self._fd is None:
            raise ValueError("the object was committed or given up before")
        stamp = self._stamp()
        with _disk():
            os.utime(self._fd, ns=(stamp, stamp))
            os.fsync(self._fd)
            status = os.fstat(self._fd)
            self._move()
        os.close(self._fd)
        self._fd = None
        return _blob(self._key, status)

    def abort(self) -> None:
        """See :class:`runyard.stores.blobs.BlobWriter`."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._forget()

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class FolderReader:
    """A :class:`runyard.stores.blobs.BlobReader` on an open file."""

    def __init__(self, key: str, fd: int) -> None:
        self._fd: int | None = fd
        self.blob = _blob(key, os.fstat(fd))

    def read(self, start: int = 0, end: int | None = None, piece: int = 1 << 18) -> Iterator[bytes]:
        """See :class:`runyard.stores.blobs.BlobReader`."""
        end = self.blob.size if end is None else min(end, self.blob.size)
        try:
            while self._fd is not None and start < end:
                content = os.pread(self._fd, min(piece, end - start), start)
                if not content:
                    return  # somebody cut the file; whoever reads sees fewer bytes than were announced
                start += len(content)
                yield content
        finally:
            self.close()

    def close(self) -> None:
        """See :class:`runyard.stores.blobs.BlobReader`."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> FolderReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _place(account: str, bucket: str, key: str | None = None) -> list[str]:
    """The segments of a path below the root. Raises :class:`StoreError` (``invalid``)."""
    if not _ACCOUNT.fullmatch(account):
        raise StoreError("invalid", f"The account id {account[:80]!r} cannot name a folder.")
    place = [account, check_bucket(bucket)]
    if key is None:
        return place
    segments = check_key(key).split("/")
    if len(segments) > _MAX_SEGMENTS:
        raise StoreError("invalid", f"The object key {key[:80]!r} has more than {_MAX_SEGMENTS} segments.")
    if any(len(segment.encode()) > _MAX_SEGMENT_BYTES for segment in segments):
        raise StoreError(
            "invalid", f"A segment of the object key {key[:80]!r} is over {_MAX_SEGMENT_BYTES} bytes long."
        )
    return place + segments


def _rename(incoming: int, name: str, folder: int, final: str) -> None:
    try:
        os.rename(name, final, src_dir_fd=incoming, dst_dir_fd=folder)
    except IsADirectoryError:
        # A folder without objects in it (a person made it) gives way; any other is a conflict of keys.
        try:
            os.rmdir(final, dir_fd=folder)
        except OSError:
            raise NotAFile(final) from None
        os.rename(name, final, src_dir_fd=incoming, dst_dir_fd=folder)


@contextmanager
def _missing(bucket: str, key: str) -> Generator[None, None, None]:
    """What is no plain file in plain folders is not there, for whoever reads."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, NotAFile):
        what = f"object {key!r} in the bucket {bucket!r}" if key else f"bucket {bucket!r}"
        raise StoreError("not_found", f"There is no {what}.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StoreError("not_found", f"{key!r} in {bucket!r} is a symbolic link, which is not followed.") from None
        raise


@contextmanager
def _conflicts(bucket: str, key: str) -> Generator[None, None, None]:
    """Tell whoever writes that a name is taken by something of another kind."""
    try:
        yield
    except (NotADirectoryError, NotAFile):
        raise StoreError(
            "invalid",
            f"{key!r} cannot be an object in {bucket!r}: a part of it is an object, or it is a folder of others.",
        ) from None


@contextmanager
def _disk() -> Generator[None, None, None]:
    """Tell a full disk in a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreError(
                "unreachable", "The disk of the embedded store is full: make room and try again."
            ) from None
        raise


def _blob(key: str, status: os.stat_result) -> Blob:
    return Blob(key, status.st_size, etag_of(status), status.st_mtime_ns // 1_000_000)
