"""Unpacked code and fetched data, kept between runs: whole entries only, the least recently used go first."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from runyard.node.home import Home
from runyard.node.lasting import MARK, Lasting
from runyard.node.pins import Pins
from runyard.node.shelves import ENDING, Shelves
from runyard.node.taking import own_bytes

DEFAULT_LIMIT = 100 << 30

_EMPTYING = threading.Lock()


class Cache:
    """Entries are folders ``code/KEY``, ``data/KEY`` and ``env/KEY``, each with its size beside it (``KEY.size``),
    whose time of change is that of the last use. An entry appears whole, by a rename, or where it cannot
    move by its size. Bytes that several views share are counted for one of them."""

    def __init__(self, home: Home, limit: int = DEFAULT_LIMIT) -> None:
        self._home = home
        self._limit = limit
        self._lock = threading.Lock()
        self._making: dict[str, tuple[threading.Lock, int]] = {}
        self._held: Counter[str] = Counter()
        self._empty()
        self._lasting = Lasting(home.data, self._set_aside)
        for folder in (home.code, home.data):
            self._clear_halves(folder)
        self.shelves = Shelves(home.data)
        self.pins = Pins(home.root + "/cache/pins.json")
        self._total = sum(entry.size for entry in self.entries())

    def _clear_halves(self, folder: str) -> None:
        """Folders without a size, and what lies beside a folder that is not there: a node was killed in between."""
        names = set(os.listdir(folder))
        for name in names:
            stem, ending = os.path.splitext(name)
            if not ending and f"{name}.size" not in names:
                self._set_aside(f"{folder}/{name}")
            elif ending and stem not in names:
                os.unlink(f"{folder}/{name}")

    def _set_aside(self, path: str) -> None:
        """Take a folder of the cache away at once; what is beside it goes too."""
        for ending in (".size", ENDING, MARK):
            try:
                os.unlink(path + ending)
            except FileNotFoundError:
                pass  # it had none
        if os.path.isdir(path):
            os.chmod(path, 0o700)
            self.discard(path)

    def _empty(self) -> None:
        """Put aside what an earlier node left unfinished; it is removed while this one works already."""
        trash = self._home.root + "/cache/trash"
        os.makedirs(trash, 0o700, exist_ok=True)
        os.rename(self._home.temporary, f"{trash}/{secrets.token_hex(8)}")
        os.mkdir(self._home.temporary, 0o700)
        threading.Thread(target=_empty_folder, args=(trash,), name="trash", daemon=True).start()

    @property
    def limit(self) -> int:
        """Bytes above which what was used longest ago goes."""
        return self._limit

    def discard(self, path: str) -> None:
        """Remove a folder of the node: at once from its place, as one, and then from the disk."""
        aside = self.temporary()
        try:
            os.rename(path, aside + "/gone")
        except FileNotFoundError:
            pass  # there was none
        remove_tree(aside)

    def path(self, kind: str, key: str) -> str:
        """Where an entry is, or would be. ``kind``: ``code``, ``data`` or ``env``."""
        return f"{self._home.root}/cache/{kind}/{key}"

    def has(self, kind: str, key: str) -> bool:
        """Whether an entry is there; it counts as used now."""
        path = self.path(kind, key)
        if not os.path.isdir(path):
            return False
        try:
            os.utime(path + ".size")
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def making(self, kind: str, key: str) -> Generator[None]:
        """Hold an entry while it is made: who else wants it waits, and then finds it."""
        name = f"{kind}/{key}"
        with self._lock:
            lock, count = self._making.get(name, (threading.Lock(), 0))
            self._making[name] = (lock, count + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, count = self._making.pop(name)
                if count > 1:
                    self._making[name] = (lock, count - 1)

    def temporary(self) -> str:
        """A new folder to make an entry in. Who does not :meth:`keep` it removes it."""
        return tempfile.mkdtemp(dir=self._home.temporary)

    def touch(self, paths: Collection[str]) -> None:
        """Entries are used now."""
        for path in paths:
            try:
                os.utime(path + ".size")
            except FileNotFoundError:
                pass  # it is no entry, or just gone: whoever uses it will find out

    @contextmanager
    def holding(self) -> Generator[Callable[[str], None]]:
        """Until the end no entry is removed of which the function that is given here was told."""
        mine: list[str] = []

        def hold(path: str) -> None:
            with self._lock:
                self._held[path] += 1
                mine.append(path)

        try:
            yield hold
        finally:
            with self._lock:
                self._held.subtract(mine)
                self._held = +self._held

    def keep(self, temporary: str, kind: str, key: str, size: int, mode: int = 0o755) -> str:
        """Make a whole folder an entry of this mode and return its path. ``size``: bytes that it added to the disk."""
        path = self.path(kind, key)
        if kind == "data":
            self._lasting.begin(key)
        _write_size(path, size)
        os.chmod(temporary, 0o755)
        os.rename(temporary, path)
        os.chmod(path, mode)
        with self._lock:
            self._total += size
        if kind == "data":
            self._lasting.whole(key)
        return path

    def keep_in_place(self, kind: str, key: str, size: int) -> None:
        """A folder that was made at the place of an entry is whole from now on."""
        _write_size(self.path(kind, key), size)
        with self._lock:
            self._total += size

    def excess(self, room_for: int = 0) -> int:
        """Bytes that should go: over the limit with ``room_for`` more, or wanting on the disk for these."""
        return max(self._total + room_for - self._limit, self.wanting(room_for))

    def wanting(self, size: int) -> int:
        """How many bytes the disk lacks to have so many free."""
        room = os.statvfs(self._home.temporary)
        return size - room.f_bavail * room.f_frsize

    def trim(self, excess: int, pinned: Collection[str]) -> list[str]:
        """Remove the least recently used entries until so many bytes are gone.

        ``pinned``: paths that stay. Returns the paths that went.
        """
        gone: list[str] = []
        with self._lock:
            for entry in sorted(self.entries()):
                if excess <= 0:
                    break
                if entry.path not in pinned and not self.is_kept(entry.path):
                    excess -= self._remove(entry.path)
                    gone.append(entry.path)
        return gone

    def drop(self, kind: str, key: str) -> None:
        """Remove an entry that nobody uses, if it is there."""
        with self._lock:
            if os.path.exists(self.path(kind, key) + ".size"):
                self._remove(self.path(kind, key))

    def is_kept(self, path: str) -> bool:
        """Whether an entry must stay, whoever uses it: it is being made, held, or of a bucket that is pinned."""
        head = self.shelves.head(os.path.basename(path))
        pinned = head is not None and head.bucket in self.pins.buckets
        return pinned or self._held[path] > 0 or os.path.relpath(path, self._home.root + "/cache") in self._making

    def entries(self) -> Iterator[Entry]:
        """Everything that is in the cache."""
        for folder in (self._home.code, self._home.data, self._home.environments):
            for each in os.scandir(folder):
                if each.name.endswith(".size"):
                    path = each.path.removesuffix(".size")
                    yield Entry(each.stat().st_mtime, _size(path), path)

    def _remove(self, path: str) -> int:
        """Remove an entry and give back the bytes that are free by it; what others share is counted for them."""
        key, size = os.path.basename(path), _size(path)
        freed = size
        if heirs := self.shelves.heirs(key):
            freed = own_bytes(path)
            heir = self.path("data", heirs[-1])
            used = os.stat(heir + ".size")
            _write_size(heir, _size(heir) + size - freed)
            os.utime(heir + ".size", ns=(used.st_atime_ns, used.st_mtime_ns))
        self.shelves.forget(key)
        self._set_aside(path)
        self._total -= freed
        return freed


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A folder of the cache: when it was last used (seconds since 1970), bytes counted for it, path."""

    used_at: float
    size: int
    path: str


def _size(path: str) -> int:
    with open(path + ".size", encoding="ascii") as file:
        return int(file.read() or 0)


def _write_size(path: str, size: int) -> None:
    with open(path + ".size", "w", encoding="ascii") as file:
        file.write(str(size))


def _empty_folder(path: str) -> None:
    with _EMPTYING:
        for name in os.listdir(path):
            remove_tree(path + "/" + name)


def remove_tree(path: str) -> None:
    """Remove a folder with all that is in it, folders that their owner closed included. Not there: nothing to do."""
    shutil.rmtree(path, onerror=_open_and_again)


def _open_and_again(function: Callable[..., Any], path: str, info: tuple[type, BaseException, Any]) -> None:
    error = info[1]
    if isinstance(error, FileNotFoundError):
        return
    if not isinstance(error, PermissionError):
        raise error
    os.chmod(os.path.dirname(path), 0o700)
    if not os.path.islink(path):
        os.chmod(path, 0o700)
    if function in (os.unlink, os.rmdir):
        function(path)
    elif os.path.isdir(path):
        shutil.rmtree(path, onerror=_open_and_again)
