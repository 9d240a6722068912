"""``CHECKPOINT_DIR`` and the results bucket: kept in sync while the program runs, fetched back where it is missing.

Only complete files travel (written under another name and renamed, or left alone for a while), and a manifest object
goes last: what it names is what may be used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from runyard.node.cache import Cache, remove_tree
from runyard.node.lanes import Crew
from runyard.node.parallel import for_each
from runyard.node.sweep import Found, LeftOut, Tree
from runyard.stores.errors import StoreError
from runyard.stores.keys import check_key
from runyard.stores.place import PlaceStore

MANIFEST = "manifest.json"
SETTLED_NS = 2_000_000_000
"""While a program runs, a file that it wrote to within this time is left for the next round."""


class Entry(msgspec.Struct, frozen=True):
    """A checkpoint file in the bucket, as it was on the machine."""

    path: str
    size: int
    modified_ns: int


class Manifest(msgspec.Struct, frozen=True):
    """What of the checkpoint folder is complete in the bucket."""

    run: str
    written_at_ms: int
    files: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Synced:
    """What the bucket has by now: sizes by key below ``<run>/``."""

    sizes: dict[str, int] = field(default_factory=dict[str, int])


def is_complete(path: str) -> bool:
    """Whether a name is that of a whole file: no dot in front of any of its parts, no ``.tmp``, no ``.part``."""
    parts = path.split("/")
    return not any(part.startswith(".") for part in parts) and not path.endswith((".tmp", ".part")) and path != MANIFEST


def candidates(found: Iterable[Found | LeftOut], settled_before_ns: int | None = None) -> list[Found]:
    """The files that may be uploaded now. ``settled_before_ns``: only what was last written before; None: all."""
    return [
        file
        for file in found
        if isinstance(file, Found)
        and is_complete(file.path)
        and _is_key(file.path)
        and (settled_before_ns is None or file.modified_ns < settled_before_ns)
    ]


def _is_key(path: str) -> bool:
    try:
        check_key(path)
    except StoreError:
        return False
    return True


class CheckpointStore:
    """The checkpoints of one run in its results bucket."""

    def __init__(self, store: PlaceStore, run: str) -> None:
        self._store = store
        self._run = run
        self._below = f"{run}/checkpoints/"

    def manifest(self, *, may_be_closed: bool = False) -> Manifest | None:
        """The bucket's manifest; None when there is none that can be read (``may_be_closed``: credentials that may
        only write do not count as an error)."""
        try:
            return msgspec.json.decode(self._store.get_bytes(self._below + MANIFEST), type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError):  # whoever may write there can write anything
            return None
        except StoreError as error:
            if error.kind == "not_found" or (may_be_closed and error.kind == "denied"):
                return None
            raise

    def sync(self, crew: Crew, tree: Tree, *, running: bool, stopped: Callable[[], bool] = lambda: False) -> Synced:
        """Bring the bucket up to what the folder has. Raises :class:`StoreError`.

        ``stopped``: asked between two files; the manifest is not written then.
        """
        everything = [file for file in tree.walk() if isinstance(file, Found)]
        files = candidates(everything, time.time_ns() - SETTLED_NS if running else None)
        old = self.manifest(may_be_closed=True)
        if old is None and not files:
            return Synced()
        there = {entry.path: entry for entry in old.files} if old else {}
        changed = [file for file in files if there.get(file.path) != _entry(file)]
        sent: dict[str, Entry] = {}

        def send(file: Found) -> None:
            if not stopped():
                entry = self._send(tree, file)
                if entry is not None:
                    sent[file.path] = entry

        for_each(crew, changed, send)
        if stopped():
            return Synced()
        kept = self._kept(there, everything, {file.path for file in changed}) | sent
        sizes = {f"checkpoints/{path}": entry.size for path, entry in kept.items()}
        if kept != there or old is None or not running:
            sizes[f"checkpoints/{MANIFEST}"] = self._write(kept)
            self._store.delete([self._below + path for path in there.keys() - kept.keys()])
        return Synced(sizes)

    def _kept(self, there: dict[str, Entry], everything: list[Found], tried: set[str]) -> dict[str, Entry]:
        """What of the old manifest still holds: the file is still there, and its object was not written over."""
        names = {file.path for file in everything}
        return {path: entry for path, entry in there.items() if path in names and path not in tried}

    def _send(self, tree: Tree, file: Found) -> Entry | None:
        """Upload a file; None when it changed meanwhile, or went."""
        try:
            descriptor = tree.open(file.path)
        except OSError:
            return None
        try:
            if _seen(descriptor) != (file.size, file.modified_ns):
                return None
            self._store.put_file(self._below + file.path, descriptor, file.size)
            return _entry(file) if _seen(descriptor) == (file.size, file.modified_ns) else None
        except StoreError as error:
            if error.kind == "changed":
                return None
            raise
        finally:
            os.close(descriptor)

    def _write(self, kept: dict[str, Entry]) -> int:
        files = tuple(kept[path] for path in sorted(kept))
        manifest = Manifest(self._run, time.time_ns() // 1_000_000, files)
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        self._store.put_bytes(self._below + MANIFEST, text)
        return len(text)

    def restore(self, crew: Crew, cache: Cache, target: str, uid: int | None, *, whole: bool = False) -> int:
        """Make the folder ``target`` (not there yet) with what the bucket's manifest names; returns its files.

        Without a manifest nothing is made. ``whole``: that, and a file which is missing, is an error. Raises
        :class:`StoreError` or ``OSError``.
        """
        manifest = self.manifest()
        if whole and (manifest is None or not manifest.files):
            raise StoreError("not_found", "there are none in its results bucket.")
        if manifest is None:
            return 0
        wanted = {check_key(entry.path) for entry in manifest.files}
        items = [item for item in self._store.list(self._below) if item.key.removeprefix(self._below) in wanted]
        if whole and len(items) < len(wanted):
            raise StoreError(
                "not_found", f"{len(wanted) - len(items)} of the {len(wanted)} files are not in its bucket."
            )
        temporary = cache.temporary()
        try:
            for folder in {os.path.dirname(item.key.removeprefix(self._below)) for item in items}:
                os.makedirs(f"{temporary}/{folder}", exist_ok=True)

            for_each(
                crew,
                items,
                lambda item: self._store.fetch(
                    item.key, f"{temporary}/{item.key.removeprefix(self._below)}", size=item.size, etag=item.etag
                ),
            )
            _hand_over(temporary, uid)
            os.rename(temporary, target)
        except BaseException:
            remove_tree(temporary)
            raise
        return len(items)


def _entry(file: Found) -> Entry:
    return Entry(file.path, file.size, file.modified_ns)


def _seen(descriptor: int) -> tuple[int, int]:
    facts = os.fstat(descriptor)
    return facts.st_size, facts.st_mtime_ns


def _hand_over(root: str, uid: int | None) -> None:
    for place, _, files in os.walk(root):
        os.chmod(place, 0o700)
        for name in files:
            os.chmod(f"{place}/{name}", 0o600)
        for path in (place, *(f"{place}/{name}" for name in files)) if uid is not None else ():
            os.chown(path, uid or 0, uid or 0)
