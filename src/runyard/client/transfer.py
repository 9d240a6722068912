"""Many files at once, to and from the service: in parallel, whole or not at all, each with its size verified."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Final

from runyard.client.calls import Progress
from runyard.client.client import Client
from runyard.client.errors import Broken, Misuse, NotFound, TransferFailed, Unreachable
from runyard.client.transport import Stream

WORKERS: Final = 8
TRIES: Final = 4
CLOCKS_AGREE: Final = 2.0
"""Seconds by which two machines' clocks may differ and still be compared (an answer's date has whole seconds)."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """A file to fetch: where its bytes come from, where it goes, and its size."""

    open: Callable[[], AbstractContextManager[Stream]]
    target: Path
    size: int


@dataclass(frozen=True, slots=True)
class Push:
    """A file to send and the key it gets."""

    source: Path
    key: str
    size: int


class _Meter:
    """Adds up what all workers have moved. ``stopped``: somebody failed, the others need not go on."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._total = total
        self._progress = progress
        self.stopped = threading.Event()

    def add(self, count: int) -> None:
        if self.stopped.is_set():
            raise TransferFailed("Stopped: another file failed.")
        with self._lock:
            self._done += count
            if self._progress is not None:
                self._progress(self._done, self._total)


def download_results(
    client: Client, run_id: str, folder: Path, *, only: str = "", progress: Progress | None = None
) -> tuple[Path, ...]:
    """Fetch what a run has stored to ``folder/<id>/...``; ``only``: what lies below that key, such as ``model``.

    Raises :class:`TransferFailed` for a file that did not arrive whole; the others are there, whole.
    """
    prefix = f"{run_id}/"
    wanted = [
        (item, item.key.removeprefix(prefix))
        for item in client.results(run_id).items
        if _below(item.key.removeprefix(prefix), only)
    ]
    fetches = [
        Fetch(_reader(client, run_id, item.key), safe_target(folder / run_id, key), item.size) for item, key in wanted
    ]
    return fetch_all(fetches, progress)


def _reader(client: Client, run_id: str, key: str) -> Callable[[], AbstractContextManager[Stream]]:
    return lambda: client.read_result(run_id, key)


def _below(key: str, prefix: str) -> bool:
    prefix = prefix.strip("/")
    return not prefix or key == prefix or key.startswith(prefix + "/")


def pull(
    client: Client, bucket: str, prefix: str, folder: Path, *, progress: Progress | None = None
) -> tuple[Path, ...]:
    """Fetch the objects of a bucket below a prefix to ``folder``, without the prefix in their names."""

    def opener(key: str) -> Callable[[], AbstractContextManager[Stream]]:
        return lambda: client.read_object(bucket, key)

    prefix = prefix.strip("/")
    found = [item for item in client.objects(bucket, prefix) if _below(item.key, prefix)]
    fetches = [Fetch(opener(item.key), safe_target(folder, _name(item.key, prefix)), item.size) for item in found]
    return fetch_all(fetches, progress)


def _name(key: str, prefix: str) -> str:
    return key.removeprefix(prefix).lstrip("/") or PurePosixPath(key).name


def safe_target(folder: Path, key: str) -> Path:
    """Where an object goes below ``folder``. Raises :class:`TransferFailed` for a key that leads out of it."""
    parts = key.split("/")
    if any(
        part in ("", ".", "..") or "\\" in part or "\0" in part or (os.name == "nt" and ":" in part) for part in parts
    ):
        raise TransferFailed(f"The object {key!r} has no name that a file can have here: fetch it by other means.")
    return folder.joinpath(*parts)


def fetch_all(fetches: Sequence[Fetch], progress: Progress | None = None) -> tuple[Path, ...]:
    """Fetch files in parallel; their paths in the order given."""
    meter = _Meter(sum(each.size for each in fetches), progress)
    _in_parallel([lambda each=each: _fetch(each, meter) for each in fetches], meter)
    return tuple(each.target for each in fetches)


def _fetch(fetch: Fetch, meter: _Meter) -> None:
    fetch.target.parent.mkdir(parents=True, exist_ok=True)
    part = fetch.target.with_name(f".{fetch.target.name}.part")
    try:
        for left in range(TRIES - 1, -1, -1):
            done = 0
            try:
                with fetch.open() as stream, part.open("wb") as sink:
                    for chunk in stream.chunks(1 << 18):
                        sink.write(chunk)
                        done += len(chunk)
                        meter.add(len(chunk))
            except (Unreachable, Broken, ConnectionError, TimeoutError, HTTPException) as error:
                if not left:
                    raise TransferFailed(f"{fetch.target.name} did not arrive whole ({error}): try again.") from error
                meter.add(-done)
                time.sleep(0.2 * (TRIES - left))
                continue
            if done != fetch.size:
                raise TransferFailed(f"{fetch.target.name} has {done} bytes instead of {fetch.size}: try again.")
            os.replace(part, fetch.target)
            return
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push sent, and how many files were there unchanged."""

    sent: tuple[Push, ...]
    unchanged: int


def push(
    client: Client,
    source: Path,
    bucket: str,
    prefix: str = "",
    *,
    unchanged_too: bool = False,
    progress: Progress | None = None,
) -> Pushed:
    """Send a file, or all files of a folder, to a bucket of the embedded store.

    A file is left out when the store has it with the same size and from a time after its last change (of content or
    place), unless ``unchanged_too``. Raises :class:`Misuse` when there are no files.
    """
    files = tuple(_to_push(source, prefix.strip("/")))
    if not files:
        raise Misuse(f"There are no files at {source}: check the path.")
    pushes = files if unchanged_too else tuple(_changed(client, files, bucket, prefix))
    meter = _Meter(sum(each.size for each in pushes), progress)
    _in_parallel([lambda each=each: _send(client, bucket, each, meter) for each in pushes], meter)
    return Pushed(pushes, len(files) - len(pushes))


def _changed(client: Client, files: Sequence[Push], bucket: str, prefix: str) -> Iterator[Push]:
    try:
        stored = {each.key: each for each in client.objects(bucket, prefix.strip("/"))}
    except NotFound:
        stored = {}
    # Times of two machines are compared: where their clocks differ, nothing is taken for unchanged.
    comparable = bool(stored) and abs(client.clock_difference()) <= CLOCKS_AGREE
    for each in files:
        found = stored.get(each.key)
        if not (comparable and found and found.size == each.size and _older(each.source, found.modified_at)):
            yield each


def _older(path: Path, stored_at: datetime | None) -> bool:
    status = path.stat()
    changed = max(status.st_mtime, status.st_ctime)
    return stored_at is not None and changed + 2 * CLOCKS_AGREE < stored_at.timestamp()


def _send(client: Client, bucket: str, each: Push, meter: _Meter) -> None:
    done = 0

    def told(now: int, _: int) -> None:
        nonlocal done
        # A retry begins again from 0, which takes back what the first try had added.
        meter.add(now - done)
        done = now

    stored = client.put_object(bucket, each.key, each.source, progress=told)
    if stored.size != each.size:
        raise TransferFailed(f"{each.source} was stored with {stored.size} bytes instead of {each.size}: try again.")


def _to_push(source: Path, prefix: str) -> Iterator[Push]:
    front = f"{prefix}/" if prefix else ""
    if source.is_file():
        yield Push(source, front + source.name, source.stat().st_size)
        return
    for path in _files(source, frozenset()):
        yield Push(path, front + path.relative_to(source).as_posix(), path.stat().st_size)


def _files(folder: Path, inside: frozenset[Path]) -> Iterator[Path]:
    """The files below a folder, links followed; ``inside``: real folders that we are in, against a link into itself."""
    real = folder.resolve()
    if real in inside:
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            yield from _files(entry, inside | {real})
        elif entry.is_file():
            yield entry


def _in_parallel(jobs: Sequence[Callable[[], None]], meter: _Meter) -> None:
    executor = ThreadPoolExecutor(min(WORKERS, max(1, len(jobs))), "runyard-transfer")
    try:
        for done in as_completed([executor.submit(job) for job in jobs]):
            done.result()
    finally:
        # After a failure the others stop at their next piece and take their unfinished files away.
        meter.stopped.set()
        executor.shutdown(cancel_futures=True)
