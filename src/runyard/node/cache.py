"""Unpacked code and fetched data, kept between runs: whole entries only, the least recently used go first."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from runyard.node.home import Home

DEFAULT_LIMIT = 100 << 30

_EMPTYING = threading.Lock()


class Cache:
    """Entries are folders ``code/KEY``, ``data/KEY`` and ``env/KEY``, each with its size beside it (``KEY.size``),
    whose time of change is that of the last use. An entry appears whole, by a rename, or where it cannot
    move by its size."""

    def __init__(self, home: Home, limit: int = DEFAULT_LIMIT) -> None:
        self._home = home
        self._limit = limit
        self._lock = threading.Lock()
        self._making: dict[str, tuple[threading.Lock, int]] = {}
        self._empty()
        self._total = sum(size for _, size, _ in self._entries())

    def _empty(self) -> None:
        """Put aside what an earlier node left unfinished; it is removed while this one works already."""
        trash = self._home.root + "/cache/trash"
        os.makedirs(trash, 0o700, exist_ok=True)
        os.rename(self._home.temporary, f"{trash}/{secrets.token_hex(8)}")
        os.mkdir(self._home.temporary, 0o700)
        threading.Thread(target=_empty_folder, args=(trash,), name="trash", daemon=True).start()

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

    def keep(self, temporary: str, kind: str, key: str, size: int, mode: int = 0o755) -> str:
        """Make a whole folder an entry of this mode and return its path."""
        path = self.path(kind, key)
        with open(path + ".size", "w", encoding="ascii") as file:
            file.write(str(size))
        os.chmod(temporary, 0o755)
        os.rename(temporary, path)
        os.chmod(path, mode)
        with self._lock:
            self._total += size
        return path

    def keep_in_place(self, kind: str, key: str, size: int) -> None:
        """A folder that was made at the place of an entry is whole from now on."""
        with open(self.path(kind, key) + ".size", "w", encoding="ascii") as file:
            file.write(str(size))
        with self._lock:
            self._total += size

    def excess(self, room_for: int = 0) -> int:
        """Bytes that should go: over the limit with ``room_for`` more, or wanting on the disk for these."""
        room = os.statvfs(self._home.temporary)
        return max(self._total + room_for - self._limit, room_for - room.f_bavail * room.f_frsize)

    def trim(self, excess: int, pinned: Collection[str]) -> list[str]:
        """Remove the least recently used entries until so many bytes are gone.

        ``pinned``: paths that stay. Returns the paths that went.
        """
        gone: list[str] = []
        with self._lock:
            for _, size, path in sorted(self._entries()):
                if excess <= 0:
                    break
                if path in pinned or os.path.relpath(path, self._home.root + "/cache") in self._making:
                    continue
                self._remove(path)
                gone.append(path)
                excess -= size
                self._total -= size
        return gone

    def _entries(self) -> Iterator[tuple[float, int, str]]:
        for folder in (self._home.code, self._home.data, self._home.environments):
            for entry in os.scandir(folder):
                if entry.name.endswith(".size"):
                    with open(entry.path, encoding="ascii") as file:
                        size = int(file.read() or 0)
                    yield entry.stat().st_mtime, size, entry.path.removesuffix(".size")

    def _remove(self, path: str) -> None:
        os.unlink(path + ".size")
        if os.path.isdir(path):
            os.chmod(path, 0o700)
        self.discard(path)


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
