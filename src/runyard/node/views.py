"""Views of data: a read-only folder a listing, and a merged one for several references."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from runyard.core.house import Root
from runyard.node.cache import Cache, remove_tree
from runyard.node.evidence import Evidence, human
from runyard.node.lanes import Crew
from runyard.node.parallel import Patience, for_each
from runyard.node.shelves import shelf_of
from runyard.node.taking import FILE
from runyard.stores.errors import StoreError
from runyard.stores.keys import check_key
from runyard.stores.local_files import write_all
from runyard.stores.place import PlaceStore, ReadsMany
from runyard.stores.volume import volume_folder
from runyard.wire.orders import Item, Part, Place

MAX_NAME_BYTES = 255
"""The longest name of a file on Linux file systems (limits.h, NAME_MAX)."""


SEALED = 0o555
"""Mode of a view's folders."""
SMALL = 256 << 10
"""Objects up to this size travel together where the store can do that, so many and so many bytes at once."""
LOT, LOT_BYTES = 500, 4 << 20


def without_secret(place: Place) -> Place:
    """A place as it may be written down."""
    return msgspec.structs.replace(place, secret=None)


def view_key(part: Part, spec: str) -> str:
    """What a view is known by: where it is from and what was listed there. A listing without etags cannot tell
    whether the objects changed: its view belongs to one spec (``spec``: its fingerprint) alone."""
    return _hashed((shelf_of(part.place), part.place.prefix.strip("/")), part.items, spec)


def earlier_key(part: Part, spec: str) -> str:
    """What a view was known by before views shared objects: every account had its own."""
    return _hashed(msgspec.structs.replace(without_secret(part.place), name=""), part.items, spec)


def _hashed(where: object, items: Sequence[Item], spec: str) -> str:
    ordered = sorted(items, key=lambda item: item.key)
    told = all(item.etag for item in items)
    return hashlib.sha256(msgspec.json.encode((where, ordered, "" if told else spec))).hexdigest()


def usable(items: Sequence[Item], evidence: Evidence) -> list[Item]:
    """The items that can be files beside each other; the others are named in the evidence."""
    folders: set[str] = set()
    for item in items:
        folder = item.key
        while folder := folder.rpartition("/")[0]:
            folders.add(folder)
    kept: list[Item] = []
    for item in items:
        try:
            check_key(item.key)
            reason = "its name is also that of a folder" if item.key in folders else ""
        except StoreError as error:
            reason = error.message
        if any(len(part.encode()) > MAX_NAME_BYTES for part in item.key.split("/")):
            reason = f"a part of its name is longer than {MAX_NAME_BYTES} bytes"
        if reason:
            evidence.note(f"Left out {item.key[:200]!r} ({human(item.size)}): {reason}.")
        else:
            kept.append(item)
    return kept


class Fetching:
    """The objects of one listing on their way into a folder."""

    def __init__(
        self, store: PlaceStore, evidence: Evidence, patience: Patience, on_bytes: Callable[[int], None]
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._patience = patience
        self._on_bytes = on_bytes
        self.whole: list[Item] = []
        """What has come, in the order in which it did."""

    def fetch_all(self, crew: Crew, items: Sequence[Item], target: str) -> None:
        """Fetch into ``target``, whose folders are there. Raises :class:`StoreError` or ``OSError``."""
        lots = batches(items) if isinstance(self._store, ReadsMany) else [(item,) for item in items]
        for_each(crew, lots, lambda lot: self._fetch_lot(lot, target))

    def _fetch_lot(self, lot: Sequence[Item], target: str) -> None:
        if len(lot) == 1 or not self._fetch_many(lot, target):
            for item in lot:
                self._fetch(item, f"{target}/{item.key}")

    def _fetch_many(self, lot: Sequence[Item], target: str) -> bool:
        """Several small objects in one request. False: the server does not know how."""

        def take(item: Item, content: memoryview) -> None:
            fd = os.open(f"{target}/{item.key}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                write_all(fd, content, 0)
                os.fchmod(fd, FILE)
            finally:
                os.close(fd)
            self._on_bytes(item.size)
            self.whole.append(item)

        store = self._store
        assert isinstance(store, ReadsMany)
        while True:
            try:
                done = store.fetch_many(lot, take)
                self._patience.went_well()
                return done
            except StoreError as error:
                self._evidence.note(error.message)
                if error.definite or not self._patience.is_left():
                    raise

    def _fetch(self, item: Item, path: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self._try_on(item, fd)
            size = os.fstat(fd).st_size
            if size != item.size:
                words = f"{item.key!r} has {size} bytes instead of the {item.size} that were listed."
                raise StoreError("changed", words)
            os.fchmod(fd, FILE)
        finally:
            os.close(fd)
        self.whole.append(item)

    def _try_on(self, item: Item, fd: int) -> None:
        while True:
            came = 0

            def count(size: int) -> None:
                nonlocal came
                came += size
                self._on_bytes(size)

            try:
                self._store.fetch(item.key, fd, size=item.size, etag=item.etag, on_bytes=count)
                break
            except StoreError as error:
                self._on_bytes(-came)
                self._evidence.note(error.message)
                if error.kind != "unreachable" or not self._patience.is_left():
                    raise
        self._patience.went_well()


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Small objects in lots that one answer can hold, each other by itself."""
    lot: list[Item] = []
    size = 0
    for item in items:
        if item.size > SMALL:
            yield (item,)
            continue
        if len(lot) == LOT or size + item.size > LOT_BYTES:
            yield lot
            lot, size = [], 0
        lot.append(item)
        size += item.size
    if lot:
        yield lot


def make_folders(items: Sequence[Item], target: str) -> None:
    """Make the folders that objects will lie in."""
    for folder in {os.path.dirname(f"{target}/{item.key}") for item in items}:
        os.makedirs(folder, exist_ok=True)


def close_folders(root: str) -> None:
    """Close the folders of a view for writing. To move its root, its owner must be able to write in that."""
    for place, _, _ in os.walk(root, topdown=False):
        os.chmod(place, SEALED if place != root else 0o755)


def merge(cache: Cache, sources: Sequence[tuple[str, str]], key: str, evidence: Evidence) -> str:
    """One folder with all that several have, by symbolic links; returns its path.

    ``sources``: a name and a folder each. Where two have the same path, the first wins, and the evidence says so.
    """
    with cache.making("data", key):
        if cache.has("data", key):
            return cache.path("data", key)
        temporary = cache.temporary()
        try:
            for name, folder in sources:
                _link_all(folder, temporary, "", name, evidence)
            close_folders(temporary)
            return cache.keep(temporary, "data", key, 0, SEALED)
        except BaseException:
            remove_tree(temporary)
            raise


def _link_all(source: str, target: str, below: str, name: str, evidence: Evidence) -> None:
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        path = f"{target}/{entry.name}"
        if not os.path.lexists(path):
            os.symlink(entry.path, path)
        elif entry.is_dir() and os.path.isdir(path):
            if os.path.islink(path):
                _open_up(path)
            _link_all(entry.path, path, f"{below}{entry.name}/", name, evidence)
        else:
            evidence.note(f"{below}{entry.name} of {name!r} is not in DATA_DIR: an earlier reference has one.")


def _open_up(path: str) -> None:
    """Turn a link to a folder into a folder of links."""
    source = os.readlink(path)
    os.unlink(path)
    os.mkdir(path)
    for entry in os.scandir(source):
        os.symlink(entry.path, f"{path}/{entry.name}")


def folder_of(place: Place, roots: Sequence[Root]) -> str:
    """The folder of the machine that a ``volume`` means, if the operator allows it. Raises :class:`StoreError`."""
    path = os.path.realpath(volume_folder(place, roots))
    if not any(Path(path).is_relative_to(os.path.realpath(root.path)) for root in roots):
        raise StoreError("denied", f"{path} is not below a folder that the operator has opened with --host-path.")
    if not os.path.isdir(path):
        raise StoreError("not_found", f"This machine has no folder {path}.")
    return path


def variable_name(name: str) -> str:
    """``DATA_DIR_<name>``: what cannot be in a variable's name becomes an underscore."""
    return "DATA_DIR_" + re.sub(r"[^A-Za-z0-9_]", "_", name)
