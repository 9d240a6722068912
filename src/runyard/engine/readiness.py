"""What nodes have ready or are asked for, as the server remembers it.

A submission that is made of the same as one before it (code, listing of the data, environment) is taken to be ready on
a node that has told so of the other: it is ordered there and started in the same breath, instead of being asked for
first. Such a *guess* may be wrong: then the attempt is handed back, and the node is asked.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

from runyard.core.lifecycle import RetryPolicy
from runyard.core.spec import StoreKind
from runyard.ports.executor import StageRequest

MOST_LISTED: Final = 4096
"""Objects: a submission with more of them is asked for, which is little beside listing them."""
_MOST_REMEMBERED: Final = 1024
MANY_READY: Final = 256
"""Specs that a node has ready and that are kept whatever they are good for; beyond them only those are that somebody
waits for."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def content_of(request: StageRequest) -> bytes | None:
    """What a request asks for, whosever it is and whatever its credentials; None where that says too little: folders of
    the machine, in which anything may have changed, or where it would be long."""
    places = [(part.location, part.entries) for part in request.data]
    if any(place.kind is StoreKind.volume for place, _ in places) or _listed(request) > MOST_LISTED:
        return None
    asked = (request.account_id, request.code_sha256, places, request.environment)
    return hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).digest()


def _listed(request: StageRequest) -> int:
    return sum(len(part.entries) for part in request.data)


class Readiness:
    """Which specs each node has ready or is asked for, how far it is, and what failed and is tried again: the server's
    memory, not its record."""

    def __init__(self) -> None:
        self._ready: dict[str, set[int]] = {}
        self._asked: dict[int, str] = {}
        self._progress: dict[int, tuple[int, int, str]] = {}
        self._failures: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._contents: OrderedDict[int, bytes] = OrderedDict()
        """What specs are made of that were asked for lately."""
        self._alike: dict[str, OrderedDict[bytes, int]] = {}
        """What each node has ready, and the latest spec of which it has told so."""
        self._guessed: OrderedDict[tuple[str, int], bool] = OrderedDict()
        self._looked: dict[str, int] = {}
        """How many specs each node had left when it was last looked which are good for something."""
        self._lock = threading.Lock()

    def connected(self, node_id: str, specs: tuple[int, ...]) -> None:
        """A node said hello and named what it has; what it was asked for before must be asked again."""
        with self._lock:
            self._ready[node_id] = has = set(specs)
            alike = self._alike.get(node_id, OrderedDict[bytes, int]())
            self._alike[node_id] = OrderedDict((each, spec) for each, spec in alike.items() if spec in has)
            for spec in has:
                self._guessed.pop((node_id, spec), None)
            self._ask_no_more(node_id)

    def gone(self, node_id: str) -> None:
        """A node is given up: it has nothing, and is asked for nothing."""
        with self._lock:
            self._ready.pop(node_id, None)
            self._alike.pop(node_id, None)
            self._looked.pop(node_id, None)
            for key in [key for key in self._guessed if key[0] == node_id]:
                del self._guessed[key]
            self._ask_no_more(node_id)

    def _ask_no_more(self, node_id: str) -> None:
        for spec in [spec for spec, node in self._asked.items() if node == node_id]:
            del self._asked[spec]
            self._progress.pop(spec, None)

    def newest(self, node_id: str, count: int) -> list[int]:
        """The specs that a node has ready, the newest first, at most ``count``."""
        with self._lock:
            return sorted(self._ready.get(node_id, ()), reverse=True)[:count]

    def asked(self, spec_id: int) -> bool:
        """Whether a node is being asked for a spec."""
        with self._lock:
            return spec_id in self._asked

    def ask(self, node_id: str, spec_id: int) -> bool:
        """Note that a node is being asked for a spec; False when one already is."""
        with self._lock:
            if spec_id in self._asked:
                return False
            self._asked[spec_id] = node_id
            return True

    def answered(self, spec_id: int) -> None:
        """Nobody is asked for the spec any more."""
        with self._lock:
            self._asked.pop(spec_id, None)
            self._progress.pop(spec_id, None)

    def add(self, node_id: str, spec_id: int) -> None:
        """A node has a spec ready."""
        with self._lock:
            self._ready.setdefault(node_id, set()).add(spec_id)
            self._failures.pop(spec_id, None)
            self._guessed.pop((node_id, spec_id), None)
            content = self._contents.get(spec_id)
            if content is not None:
                _remember(self._alike.setdefault(node_id, OrderedDict()), content, spec_id)

    def guess(self, node_id: str, spec_id: int, content: bytes | None) -> bool:
        """Note what a spec is made of that a node is being asked for; True: the node has told that it has the same
        ready, so that the spec counts as ready there, and nobody as asked."""
        if content is None:
            return False
        with self._lock:
            _remember(self._contents, spec_id, content)
            if content not in self._alike.get(node_id, ()):
                return False
            self._ready.setdefault(node_id, set()).add(spec_id)
            _remember(self._guessed, (node_id, spec_id), True)
            self._asked.pop(spec_id, None)
            self._progress.pop(spec_id, None)
            return True

    def has_alike(self, node_id: str, content: bytes) -> bool:
        """Whether a node has told that it has something ready that is made of the same."""
        with self._lock:
            return content in self._alike.get(node_id, ())

    def tidy(self, node_id: str, is_waited_for: Callable[[int], bool]) -> int:
        """Forget what a node has ready for nobody, where that has become much; returns how much was forgotten. Whoever
        wants it after all has the node asked, which has it. Costs a question a spec, and comes after as many new ones.
        """
        with self._lock:
            ready = self._ready.get(node_id, ())
            if len(ready) < 2 * max(MANY_READY, self._looked.get(node_id, 0)):
                return 0
            old = sorted(ready)[:-MANY_READY]
        gone = [spec for spec in old if not is_waited_for(spec)]
        with self._lock:
            has = self._ready.get(node_id, set[int]())
            has.difference_update(gone)
            self._looked[node_id] = len(has)
        return len(gone)

    def is_guess(self, node_id: str, spec_id: int) -> bool:
        """Whether a spec was taken to be ready on a node that has not told so itself yet."""
        with self._lock:
            return (node_id, spec_id) in self._guessed

    def failed(self, spec_id: int, now: int, backoff: RetryPolicy) -> int:
        """Count a failure that may pass; returns how many there were. The spec is due again after the back-off."""
        with self._lock:
            count = self._failures.get(spec_id, (0, 0))[0] + 1
            _remember(self._failures, spec_id, (count, now + backoff.backoff_ms(count)))
            return count

    def forgive(self, spec_id: int) -> None:
        """Forget the failures of a spec."""
        with self._lock:
            self._failures.pop(spec_id, None)

    def due_ms(self, spec_id: int) -> int:
        """When a spec may be tried again, 0 when nothing failed."""
        with self._lock:
            return self._failures.get(spec_id, (0, 0))[1]

    def discard(self, node_id: str, spec_id: int) -> None:
        """A node has lost a spec, or never had it: nothing that is made of the same is taken to be there."""
        with self._lock:
            self._ready.setdefault(node_id, set()).discard(spec_id)
            content = self._contents.get(spec_id)
            if content is not None:
                self._alike.get(node_id, OrderedDict[bytes, int]()).pop(content, None)

    def has(self, node_id: str, spec_id: int) -> bool:
        """Whether a node has a spec ready."""
        with self._lock:
            return spec_id in self._ready.get(node_id, ())

    def report(self, spec_id: int, done: int, total: int, phase: str = "") -> None:
        """Bytes fetched of bytes to fetch; ``phase``: what is being done, where it is not that. A word that comes when
        nobody is asked any more is none."""
        with self._lock:
            if spec_id in self._asked:
                self._progress[spec_id] = (done, total, phase)

    def progress(self, spec_id: int) -> tuple[int, int, str] | None:
        """What was last reported (done, total, phase), None when nothing was."""
        with self._lock:
            return self._progress.get(spec_id)


def _remember(shelf: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    shelf[key] = value
    shelf.move_to_end(key)
    while len(shelf) > _MOST_REMEMBERED:
        shelf.popitem(last=False)
