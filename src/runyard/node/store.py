"""Storing: results, logs, evidence and checkpoints of a run go to its bucket, as often as it takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from runyard.node.access import StoreAccess
from runyard.node.checkpoints import CheckpointStore, Synced, candidates
from runyard.node.home import LEARNER, STREAM_FILES, AttemptFolder, Home
from runyard.node.lanes import Crew
from runyard.node.parallel import for_each
from runyard.node.prepare import Stopped, read_order
from runyard.node.ready import Specs
from runyard.node.results import Upload, gathered
from runyard.node.sweep import LeftOut, Tree
from runyard.node.together import SMALL, TOGETHER, Objects
from runyard.stores.errors import StoreError
from runyard.stores.keys import join
from runyard.stores.local_files import read_full
from runyard.stores.place import PlaceStore
from runyard.wire.facts import Stored
from runyard.wire.objects import Named
from runyard.wire.orders import Store

WIDTH = 4
"""Uploads at once: each large one has parts in memory."""
FIRST = f"{LEARNER}1"
LEFT_OUT = f"{FIRST}/left-out.txt"
"""What was not stored and why, when there is such a thing."""


class FolderLost(StoreError):
    """The folder of an attempt is not on this machine any more: there is nothing to store."""

    def __init__(self, number: int) -> None:
        super().__init__("invalid", f"The machine has no folder of attempt {number} any more.")


class Storing:
    """Stores runs of one home, a try at a time."""

    def __init__(self, home: Home, specs: Specs, access: StoreAccess, is_bare: Callable[[AttemptFolder], bool]) -> None:
        """``is_bare``: whether the program of an attempt is known to have left nothing outside of its working
        directory."""
        self._is_bare = is_bare
        self._home = home
        self._specs = specs
        self.access = access
        self.crew = Crew("upload", WIDTH + WIDTH // 2)
        self.sync_crew = Crew("sync", 1)

    def store(self, order: Store, stopped: Callable[[], bool], *, first: bool = False) -> Stored:
        """Upload whatever is not in the bucket yet, and read its size back. ``first``: nothing of the run is there yet.

        Raises :class:`StoreError` (try again), :class:`FolderLost` (in vain), ``OSError``, or
        :class:`runyard.node.prepare.Stopped`.
        """
        store = self.access.open(order.results)
        try:
            if order.attempt == 0:
                return self._evidence(store, order)
            return self._everything(store, order, stopped, first=first)
        finally:
            store.close()

    def small(self, order: Store, *, untouched: bool = False) -> tuple[Objects, Stored] | None:
        """What a run left behind, where it is little and goes into the embedded store, and the fact once it is there.
        None: it is more than that (:meth:`store`). Nothing else may be stored of the run yet. ``untouched``: nothing
        in its working directory is to be kept, as is known.

        Raises :class:`StoreError` or ``OSError``.
        """
        place, folder = order.results, self._home.attempt(order.run, order.attempt)
        if place.kind != "local" or order.attempt != 1 or order.learners > 1:
            return None
        if os.listdir(self._home.checkpoints(order.run)):
            return None
        found: list[tuple[Named, bytes]] = []

        def add(key: str, content: bytes) -> None:
            full = join(place.prefix, f"{order.run}/{key}")
            found.append((Named(place.account, place.bucket, full, len(content)), content))

        bare = self._is_bare(folder)
        with gathered([folder], [], order.outputs, bare=bare, untouched=untouched) as (uploads, left_out):
            sizes = [upload.size for upload in uploads]
            if sum(sizes) > TOGETHER or max(sizes, default=0) > SMALL:
                return None
            for upload in uploads:
                content = _content(upload, left_out)
                if content is not None:
                    add(upload.key, content)
            if left_out:
                add(LEFT_OUT, left_out_text(left_out))
        return found, Stored(order.run, len(found), sum(named.size for named, _ in found))

    def _evidence(self, store: PlaceStore, order: Store) -> Stored:
        texts = {name: _text(self._specs.evidence(order.spec, name)) for name in ("load-data", "load-model")}
        texts["load-data"] = order.evidence.encode() or texts["load-data"]
        sizes: dict[str, int] = {}
        for name, text in texts.items():
            if text:
                key = f"{FIRST}/{STREAM_FILES[name]}"
                store.put_bytes(f"{order.run}/{key}", text)
                sizes[key] = len(text)
        _verify(store, order.run, sizes)
        return Stored(order.run, len(sizes), sum(sizes.values()))

    def _everything(self, store: PlaceStore, order: Store, stopped: Callable[[], bool], *, first: bool) -> Stored:
        folder = self._home.attempt(order.run, order.attempt)
        if not os.path.isdir(folder.path):
            raise FolderLost(order.attempt)
        learners = self._home.learners(order.run, order.attempt)
        earlier = [each for number in order.earlier for each in self._home.learners(order.run, number)]
        taken, synced = self._checkpoints(store, order.run, folder, stopped)
        with gathered(learners, earlier, order.outputs, taken) as (uploads, left_out):
            there = {} if first else _sizes(store, order.run) or {}
            missing = [upload for upload in uploads if there.get(upload.key) != upload.size]
            for_each(self.crew, missing, lambda upload: _put(store, order.run, upload, left_out, stopped), WIDTH)
        gone = {left.path for left in left_out}
        sizes = synced.sizes | {upload.key: upload.size for upload in uploads if upload.key not in gone}
        if left_out:
            text = left_out_text(left_out)
            store.put_bytes(f"{order.run}/{LEFT_OUT}", text)
            sizes[LEFT_OUT] = len(text)
        if stopped():
            raise Stopped
        if not os.path.isdir(folder.path):
            raise FolderLost(order.attempt)  # meanwhile: what was left out is not what could not be read
        _verify(store, order.run, sizes)
        return Stored(order.run, len(sizes), sum(sizes.values()))

    def _checkpoints(
        self, store: PlaceStore, run: str, folder: AttemptFolder, stopped: Callable[[], bool]
    ) -> tuple[set[str], Synced]:
        kept = read_order(folder)
        try:
            tree = Tree(self._home.run(run), "checkpoints", None if kept is None else kept.uid)
        except OSError:
            return set(), Synced()
        with tree:
            taken = {f"checkpoints/{file.path}" for file in candidates(tree.walk())}
            synced = CheckpointStore(store, run).sync(self.crew, tree, running=False, stopped=stopped)
        return taken | {"checkpoints/manifest.json"}, synced


def _content(upload: Upload, left_out: list[LeftOut]) -> bytes | None:
    try:
        descriptor = upload.open()
    except OSError as error:
        left_out.append(LeftOut(upload.key, error.strerror or "it cannot be read"))
        return None
    try:
        return read_full(descriptor, upload.size, 0)
    finally:
        os.close(descriptor)


def _put(store: PlaceStore, run: str, upload: Upload, left_out: list[LeftOut], stopped: Callable[[], bool]) -> None:
    if stopped():
        raise Stopped
    try:
        descriptor = upload.open()
    except OSError as error:
        left_out.append(LeftOut(upload.key, error.strerror or "it cannot be read"))
        return
    try:
        store.put_file(f"{run}/{upload.key}", descriptor, upload.size)
    finally:
        os.close(descriptor)


def _sizes(store: PlaceStore, run: str) -> dict[str, int] | None:
    """What is in the bucket below a run, by key below it; nothing when there is no bucket yet. None: the credentials
    may only write."""
    try:
        return {item.key.removeprefix(run + "/"): item.size for item in store.list(run + "/")}
    except StoreError as error:
        if error.kind == "not_found":
            return {}  # the embedded store and folders make theirs; of the others the first upload will complain
        if error.kind == "denied":
            return None  # if they are wrong altogether, the first upload says so
        raise


def _verify(store: PlaceStore, run: str, sizes: dict[str, int]) -> None:
    there = _sizes(store, run)
    if there is None:
        return  # each upload was answered with a yes; there is no more to be had
    wrong = [key for key, size in sizes.items() if there.get(key) != size]
    if wrong:
        raise StoreError(
            "unreachable", f"{len(wrong)} objects are not in the bucket as they were sent, e.g. {wrong[0]}."
        )


def left_out_text(left_out: Sequence[LeftOut]) -> bytes:
    """The object that says what was not stored: a line each."""
    return "".join(f"{left.path!r}: {left.why}\n" for left in left_out).encode()


def _text(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
