"""What one process holds: memory, objects, descriptors, threads, and how long every container of the server is."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OURS: Final = "runyard."
_CONTAINERS: Final = (dict, list, set, deque)
_WHOLE: Final = "[]"


@dataclass(frozen=True, slots=True)
class Held:
    """One moment. ``objects``: those that the garbage collector knows; ``lengths``: of containers by the path to them
    (``[]``: of all those within one together); ``rows``: of the database's tables."""

    hour: float
    runs: int
    rss_mb: float
    objects: int
    descriptors: int
    threads: int
    lengths: Mapping[str, int]
    rows: Mapping[str, int]


def held(hour: float, runs: int, root: object, database: Path) -> Held:
    """Look, after all that is garbage was collected."""
    gc.collect()
    return Held(
        hour,
        runs,
        rss_mb(),
        len(gc.get_objects()),
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        lengths(root),
        rows(database),
    )


def rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def rows(database: Path) -> dict[str, int]:
    """How many rows each table has."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in sorted(names)}
    finally:
        connection.close()


def lengths(root: object) -> dict[str, int]:
    """The lengths of all dictionaries, lists, sets and queues that are reached from ``root`` through objects of the
    server, by attribute path. Each is counted once, where it is reached first."""
    found: Counter[str] = Counter()
    seen = {id(root)}
    left: deque[tuple[str, object]] = deque([("", root)])
    while left:
        path, each = left.popleft()
        if isinstance(each, _CONTAINERS):
            found[path or "."] += len(each)
        for name, inner in _within(each):
            if id(inner) not in seen and _is_followed(inner):
                seen.add(id(inner))
                left.append((path + name, inner))
    return dict(found)


def _is_followed(value: object) -> bool:
    kind = type(value)
    return isinstance(value, (*_CONTAINERS, tuple)) or kind.__module__.startswith(OURS)


def _within(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from ((_WHOLE, inner) for inner in list(value.values()))
    elif isinstance(value, Collection) and not isinstance(value, str | bytes):
        yield from ((_WHOLE, inner) for inner in list(value))
    elif type(value).__module__.startswith(OURS):
        for name in _attributes(value):
            inner = getattr(value, name, None)
            if inner is not None:
                yield f".{name}", inner


def _attributes(value: object) -> list[str]:
    names = list(getattr(value, "__dict__", ()))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if not name.startswith("__")]
