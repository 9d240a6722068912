"""From what a store did to the words of the port."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from runyard.ports.objects import Checked, ObjectEntry, Verdict
from runyard.stores.errors import StoreError
from runyard.wire.orders import Item

Got = TypeVar("Got")

_VERDICTS = {
    "not_found": Verdict.not_found,
    "denied": Verdict.denied,
    "invalid": Verdict.denied,
    "unreachable": Verdict.unreachable,
    "changed": Verdict.unreachable,
}

OK = Checked(Verdict.ok)


def checked(error: StoreError) -> Checked:
    """What an error means for a check."""
    return Checked(_VERDICTS[error.kind], error.message)


def entry(item: Item) -> ObjectEntry:
    """An item of a listing as the port has it."""
    return ObjectEntry(item.key, item.size, item.etag)


def left_out(keys: list[str]) -> str:
    """A sentence on objects that a listing leaves out, empty without any."""
    if not keys:
        return ""
    what = "1 object is" if len(keys) == 1 else f"{len(keys)} objects are"
    return f"{what} left out because of keys that cannot be file names, the first {keys[0][:80]!r}."


def within(seconds: float, ask: Callable[[], Checked], message: str) -> Checked:
    """The answer of ``ask``, or ``unreachable`` with ``message`` when it takes longer.

    It is asked in a thread of its own, which is left to end by itself: looking up a name cannot be interrupted.
    """
    answers: list[Checked] = []
    asking = threading.Thread(target=lambda: answers.append(ask()), name="check", daemon=True)
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else Checked(Verdict.unreachable, message)
