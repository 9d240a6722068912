"""What is known of the request that is being answered, and what is kept of it: who did what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, TypeVar

from runyard.core.account import Principal
from runyard.ports.audit import AuditEntry
from runyard.ports.store import Store

_TOGETHER_S = 0.05
"""Entries that nobody waits for are written together so often."""
_LONGEST = 200
_log = logging.getLogger(__name__)
Endpoint = TypeVar("Endpoint", bound=Callable[..., object])


@dataclass(slots=True)
class Asking:
    """A request: where it came from, whose token it has, and what it is about (an id, a name; never a secret)."""

    address: str = ""
    digest: str = ""
    who: Principal | None = None
    object: str = ""


_asking: Final[ContextVar[Asking]] = ContextVar("asking")


def begin(address: str) -> Asking:
    """A request has come: what its end-point says from now on is about it, in threads too."""
    asking = Asking(address)
    _asking.set(asking)
    return asking


def asking() -> Asking:
    """The request that is being answered."""
    return _asking.get()


def concerns(what: str) -> None:
    """What the request is about, where its address does not say."""
    found = _asking.get(None)
    if found is not None:
        found.object = what


@dataclass(frozen=True, slots=True)
class Action:
    """What an end-point does, in a word. ``waits``: its answer waits until that is written down."""

    word: str
    waits: bool


ACTIONS: Final[dict[object, Action]] = {}
"""By end-point. All that change something are here (a test looks)."""


def audited(word: str, *, waits: bool = True) -> Callable[[Endpoint], Endpoint]:
    """Keep who calls this end-point. ``waits`` is False where events tell the same, and speed matters more."""

    def note(endpoint: Endpoint) -> Endpoint:
        ACTIONS[endpoint] = Action(word, waits)
        return endpoint

    return note


def entry_of(
    asked: Asking, action: Action, parameters: dict[str, object], status: int, now_ms: int
) -> AuditEntry | None:
    """What is kept of a request that was answered; None where it is nobody's."""
    who = asked.who
    if who is None:
        return None
    about = asked.object or "/".join(str(value) for value in parameters.values())
    return AuditEntry(
        at_ms=now_ms,
        account_id=who.account_id,
        token_id=who.token_id,
        member_id=who.member_id,
        address=asked.address,
        action=action.word,
        object=about.encode("utf-8", "replace").decode().replace("\0", "?")[:_LONGEST],
        outcome=_outcome(status),
        status=status,
    )


def _outcome(status: int) -> str:
    if status < 400:
        return "done"
    if status in (401, 403, 429):
        return "denied"
    return "refused" if status < 500 else "failed"


@dataclass(slots=True)
class Trail:
    """Writes entries, those that come at the same time in one transaction."""

    _entries: list[AuditEntry] = field(default_factory=list[AuditEntry])
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _written: asyncio.Future[None] | None = None
    _task: asyncio.Task[None] | None = None

    async def add(self, store: Store, entry: AuditEntry, *, wait: bool) -> None:
        """Add one; returns at once, or once it is durable. Where it cannot be written the log has it."""
        self._entries.append(entry)
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        written = self._written
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write_all(store))
        if wait:
            self._hurry.set()
            await asyncio.shield(written)

    async def flush(self) -> None:
        """Write what is left."""
        self._hurry.set()
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _write_all(self, store: Store) -> None:
        try:
            while self._entries:
                try:
                    async with asyncio.timeout(_TOGETHER_S):
                        await self._hurry.wait()
                except TimeoutError:
                    pass  # nobody waits
                self._hurry.clear()
                entries, written = self._entries, self._written
                self._entries, self._written = [], None
                try:
                    await asyncio.to_thread(store.add_audit, entries)
                except Exception:
                    _log.exception("these entries of the audit log could not be written: %s", entries)
                if written is not None:
                    written.set_result(None)
        finally:
            self._task = None
