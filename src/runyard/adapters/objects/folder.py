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
from typing import BinaryIO

from runyard.adapters.objects.alike import Alike, Content, add_name, content_of
from runyard.core.errors import StoreUnavailable
from runyard.ports.embedded import ObjectWriter, SmallObject, StoredObject
from runyard.stores.apart import lay_apart
from runyard.stores.beneath import NotAFile, closing, etag_of, open_file, open_folder, walk
from runyard.stores.errors import StoreError
from runyard.stores.keys import check_bucket, check_key, is_key

_INCOMING = ".incoming"
_MAX_SEGMENT_BYTES = 255
_MAX_SEGMENTS = 64
_ACCOUNT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
"""What is no plain file in plain folders is not there, for whoever reads."""
_AT_ONCE = 64
"""Small objects that are open at a time."""


class FolderStore:
    """An :class:`runyard.ports.embedded.EmbeddedStore` in a folder, which is made (for this user alone) when missing.

    A full disk raises ``StoreUnavailable`` with code ``store_full``.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lay_apart(root)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._incoming = open_folder(self._root, [_INCOMING], make=True)
        for name in os.listdir(self._incoming):  # left by a process that was killed
            os.unlink(name, dir_fd=self._incoming)
        # Held while folders are made or removed: a put must not find its folder gone.
        self._shape = threading.Lock()
        self._last_stamp = 0
        self._alike = Alike()

    def buckets(self, account: str) -> Sequence[str]:
        """See :class:`runyard.ports.embedded.EmbeddedStore`."""
        _place(account, "any")
        with _absent(), closing(open_folder(self._root, [account])) as folder, os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return []

    def put(self, account: str, bucket: str, key: str) -> ObjectWriter:
        """See :class:`runyard.ports.embedded.EmbeddedStore`."""
        place = _place(account, bucket, key)
        name = secrets.token_hex(8)
        with _disk():
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=self._incoming)
        return FolderWriter(
            key,
            fd,
            stamp=self._stamp,
            move=lambda: self._move_in(name, place),
            forget=lambda: os.unlink(name, dir_fd=self._incoming),
        )

    def _move_in(self, name: str, place: list[str]) -> None:
        with self._shape, _conflicts(place):
            folder = open_folder(self._root, place[:-1], make=True)
            try:
                _rename(self._incoming, name, folder, place[-1])
            except BaseException:
                os.close(folder)
                raise
        with closing(folder):
            os.fsync(folder)

    def put_all(self, objects: Sequence[SmallObject]) -> Sequence[StoredObject | str]:
        """See :class:`runyard.ports.embedded.EmbeddedStore`. All are written, then made durable, then moved in: so
        the file system's journal is waited for twice, not at every object."""
        found: list[StoredObject | str] = []
        for start in range(0, len(objects), _AT_ONCE):
            found += self._put_some(objects[start : start + _AT_ONCE])
        return found

    def _put_some(self, objects: Sequence[SmallObject]) -> Sequence[StoredObject | str]:
        done: list[StoredObject | str] = [""] * len(objects)
        batch = _Batch(self._incoming)
        steps: tuple[Callable[[int], None], ...] = (
            lambda index: self._take_small(batch, index, objects[index]),
            batch.settle,
            lambda index: self._move_small(batch, index, objects[index]),
        )
        try:
            for step in steps:
                for index in range(len(objects)):
                    try:
                        if not done[index]:
                            step(index)
                    except StoreUnavailable as error:
                        done[index] = error.message
            batch.settle_folders()
            for content, descriptor in batch.contents():
                self._alike.stored(content, descriptor)
        finally:
            batch.close()
        return [what or _stored(objects[index].key, batch.settled[index]) for index, what in enumerate(done)]

    def _take_small(self, batch: _Batch, index: int, small: SmallObject) -> None:
        """Write an object, unless there is a file with its content."""
        content = content_of(small) if self._alike.works else None
        if content is None or not batch.is_there(index, content, self._alike.find):
            batch.write(index, small, self._stamp(), content)

    def _move_small(self, batch: _Batch, index: int, small: SmallObject) -> None:
        if batch.is_same(index):
            place = _place(small.account, small.bucket, small.key)
            with self._shape, _disk(), _conflicts(place):
                folder = batch.folder(self._root, place[:-1])
                try:
                    if batch.add_name(index, folder, place[-1]):
                        return
                except OSError:
                    self._alike.works = False
            batch.write(index, small, self._stamp())
            batch.settle(index)
        name, place = batch.written[index]
        with self._shape, _disk(), _conflicts(place):
            _rename(self._incoming, name, batch.folder(self._root, place[:-1]), place[-1])
        del batch.written[index]

    def _stamp(self) -> int:
        """A modification time in nanoseconds that no other object of this process has: etags are made of it."""
        with self._shape:
            self._last_stamp = max(time.time_ns(), self._last_stamp + 1)
            return self._last_stamp

    def head(self, account: str, bucket: str, key: str) -> StoredObject | None:
        """See :class:`runyard.ports.embedded.EmbeddedStore`."""
        found = self.open(account, bucket, key)
        if found is None:
            return None
        found[0].close()
        return found[1]

    def open(self, account: str, bucket: str, key: str) -> tuple[BinaryIO, StoredObject] | None:
        """See :class:`runyard.ports.embedded.EmbeddedStore`."""
        *folders, name = _place(account, bucket, key)
        with _absent():
            with closing(open_folder(self._root, folders)) as folder:
                fd = open_file(folder, name)
            return os.fdopen(fd, "rb"), _stored(key, os.fstat(fd))
        return None

    def list(
        self, account: str, bucket: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[StoredObject] | None:
        """See :class:`runyard.ports.embedded.EmbeddedStore`. Reads names and statuses alone, a folder at a time."""
        with _absent(), closing(open_folder(self._root, _place(account, bucket))) as folder:
            usable = (found for found in walk(folder, after, prefix) if is_key(found[0]))
            return [_stored(key, status) for key, status in islice(usable, limit)]
        return None

    def delete(self, account: str, bucket: str, key: str) -> bool:
        """See :class:`runyard.ports.embedded.EmbeddedStore`."""
        place = _place(account, bucket, key)
        with _absent():
            with self._shape, closing(open_folder(self._root, place[:2])) as at:
                _remove(at, place[2:])
            return True
        return False

    def delete_prefix(self, account: str, bucket: str, prefix: str) -> int:
        """See :class:`runyard.ports.embedded.EmbeddedStore`."""
        count, after = 0, ""
        while found := self.list(account, bucket, prefix=prefix, after=after, limit=1000):
            count += sum(self.delete(account, bucket, each.key) for each in found)
            after = found[-1].key
        if not prefix:
            with self._shape, _absent(errno.ENOTEMPTY), closing(open_folder(self._root, [account])) as folder:
                os.rmdir(bucket, dir_fd=folder)
        return count

    def has_bucket(self, account: str, bucket: str) -> bool:
        """Whether the account has this bucket."""
        return self.list(account, bucket, limit=0) is not None

    def close(self) -> None:
        """Give the descriptors back; the store is not used afterwards."""
        self._alike.close()
        os.close(self._incoming)
        os.close(self._root)


class _Batch:
    """Small files on their way into a store: ``written`` has the name of each in ``incoming``, and its place."""

    def __init__(self, incoming: int) -> None:
        self._incoming = incoming
        self.written: dict[int, tuple[str, list[str]]] = {}
        self.settled: dict[int, os.stat_result] = {}
        self._files: dict[int, int] = {}
        self._contents: dict[Content, int] = {}
        """Which of those that are written has a content."""
        self._same: dict[int, int] = {}
        """Descriptors of files that have the content of an object already."""
        self._firsts: dict[int, int] = {}
        """Those of them that this batch writes, by its object."""
        self._folders: dict[tuple[str, ...], int] = {}
        self._above: dict[tuple[int, int], int] = {}
        """Folders in which one was made, by device and inode."""

    def is_there(self, index: int, content: Content, find: Callable[[Content], int | None]) -> bool:
        """Whether a file has the content of an object: one of this batch, or one that is found elsewhere."""
        first = self._contents.get(content)
        same = find(content) if first is None else os.dup(self._files[first])
        if same is not None:
            self._same[index] = same
        if first is not None:
            self._firsts[index] = first
        return same is not None

    def is_same(self, index: int) -> bool:
        """Whether an object is to be a name of a file that there is."""
        return index in self._same

    def add_name(self, index: int, folder: int, name: str) -> bool:
        """Give that file the object's name; False where it is not to have it. Raises ``OSError`` where files cannot
        have several."""
        descriptor, first = self._same[index], self._firsts.get(index)
        if (first is not None and first not in self.settled) or not add_name(descriptor, folder, name):
            return False
        self.settled[index] = os.fstat(descriptor)
        return True

    def contents(self) -> Iterator[tuple[Content, int]]:
        """The contents that were written, each with its file."""
        for content, index in self._contents.items():
            if index in self.settled and index not in self.written:
                yield content, self._files[index]

    def write(self, index: int, small: SmallObject, stamp: int, content: Content | None = None) -> None:
        """Write a file, of this modification time. Raises ``StoreUnavailable``."""
        place, name = _place(small.account, small.bucket, small.key), secrets.token_hex(8)
        with _disk():
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=self._incoming)
            self.written[index], self._files[index] = (name, place), fd
            view = memoryview(small.content)
            while view:
                view = view[os.write(fd, view) :]
            os.utime(fd, ns=(stamp, stamp))
            # Has the kernel begin to write, and so give the file its blocks: one commit of the journal has them all.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if content is not None:
            self._contents[content] = index

    def settle(self, index: int) -> None:
        """Make a file durable, where one was written. Raises ``StoreUnavailable``."""
        if index not in self._files:
            return
        with _disk():
            os.fsync(self._files[index])
            self.settled[index] = os.fstat(self._files[index])

    def folder(self, root: int, parts: Sequence[str]) -> int:
        """A descriptor of a folder that is there now, made where it was missing; this batch's to close."""
        key = tuple(parts)
        found = self._folders.get(key)
        if found is not None and os.fstat(found).st_nlink == 0:  # it was emptied meanwhile, and is gone
            os.close(self._folders.pop(key))
            found = None
        if found is None:
            found = self._folders[key] = open_folder(root, key, make=True, sync=self._made_in)
        return found

    def _made_in(self, above: int) -> None:
        status = os.fstat(above)
        if (status.st_dev, status.st_ino) not in self._above:
            self._above[status.st_dev, status.st_ino] = os.dup(above)

    def settle_folders(self) -> None:
        """Make durable what lies where."""
        for folder in (*self._folders.values(), *self._above.values()):
            os.fsync(folder)

    def close(self) -> None:
        """Let go of everything, and remove what did not get to its place."""
        mine = (self._files, self._same, self._folders, self._above)
        for fd in (each for descriptors in mine for each in descriptors.values()):
            os.close(fd)
        for name, _ in self.written.values():
            os.unlink(name, dir_fd=self._incoming)


class FolderWriter:
    """A :class:`runyard.ports.embedded.ObjectWriter` on a file beside the buckets. As a context it aborts at its end
    what was not committed."""

    def __init__(
        self, key: str, fd: int, *, stamp: Callable[[], int], move: Callable[[], None], forget: Callable[[], None]
    ) -> None:
        self._key = key
        self._fd: int | None = fd
        self._stamp = stamp
        self._move = move
        self._forget = forget

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """See :class:`runyard.ports.embedded.ObjectWriter`."""
        view = memoryview(chunk)
        with _disk():
            while view:
                view = view[os.write(self._open_fd(), view) :]

    def commit(self) -> StoredObject:
        """See :class:`runyard.ports.embedded.ObjectWriter`."""
        fd = self._open_fd()
        stamp = self._stamp()
        with _disk():
            os.utime(fd, ns=(stamp, stamp))
            os.fsync(fd)
            status = os.fstat(fd)
            self._move()
        os.close(fd)
        self._fd = None
        return _stored(self._key, status)

    def abort(self) -> None:
        """See :class:`runyard.ports.embedded.ObjectWriter`."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._forget()

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _open_fd(self) -> int:
        if self._fd is None:
            raise ValueError("the object was committed or given up before")
        return self._fd


def _refused(message: str) -> StoreUnavailable:
    return StoreUnavailable(message, code="invalid_request")


def _place(account: str, bucket: str, key: str | None = None) -> list[str]:
    """The segments of a path below the root. Raises ``StoreUnavailable`` (``invalid_request``) for hostile names."""
    if not _ACCOUNT.fullmatch(account):
        raise _refused(f"The account id {account[:80]!r} cannot name a folder.")
    try:
        place = [account, check_bucket(bucket)]
        segments = check_key(key).split("/") if key is not None else []
    except StoreError as error:
        raise _refused(error.message) from None
    if len(segments) > _MAX_SEGMENTS:
        raise _refused(f"The object key {segments[0][:80]!r}/... has more than {_MAX_SEGMENTS} segments.")
    if any(len(segment.encode()) > _MAX_SEGMENT_BYTES for segment in segments):
        raise _refused(f"A segment of the object key is longer than {_MAX_SEGMENT_BYTES} bytes.")
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


def _remove(bucket: int, segments: Sequence[str]) -> None:
    """Remove a file, and the folders that are empty without it."""
    with closing(open_folder(bucket, segments[:-1])) as folder:
        os.unlink(segments[-1], dir_fd=folder)
    for depth in range(len(segments) - 1, 0, -1):
        with closing(open_folder(bucket, segments[: depth - 1])) as parent:
            try:
                os.rmdir(segments[depth - 1], dir_fd=parent)
            except OSError:
                return  # it holds something else


@contextmanager
def _absent(*also: int) -> Generator[None, None, None]:
    """Leave the block when what it looks for is not there."""
    try:
        yield
    except NotAFile:
        pass
    except OSError as error:
        if error.errno not in (*_ABSENT, *also):
            raise


@contextmanager
def _conflicts(place: Sequence[str]) -> Generator[None, None, None]:
    """Tell whoever writes that a name is taken by something of another kind."""
    try:
        yield
    except (NotADirectoryError, NotAFile):
        key = "/".join(place[2:])
        message = (
            f"{key!r} cannot be an object in {place[1]!r}: a part of it is an object, or it is a folder of others."
        )
        raise StoreUnavailable(message, code="conflict") from None


@contextmanager
def _disk() -> Generator[None, None, None]:
    """Tell a full disk in a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            message = "The disk of the embedded store is full: make room and try again."
            raise StoreUnavailable(message, code="store_full") from None
        raise


def _stored(key: str, status: os.stat_result) -> StoredObject:
    return StoredObject(key, status.st_size, etag_of(status), status.st_mtime_ns // 1_000_000)
