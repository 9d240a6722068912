"""Room: what ended runs leave behind goes when its time is over, and new runs are refused before the disk is full.

A pass looks at every final run, some at a time, and lets go what :func:`runyard.core.retention.fate` says. It never
touches a run that is not final, what such a run waits for or starts from, buckets elsewhere, the ledger, or events.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from runyard.core.errors import NotFound, Refused, RunyardError, StoreUnavailable
from runyard.core.retention import FOR_EVER, Ended, Fate, Kept, Part, fate, is_short, policy, swept_sentence
from runyard.core.spec import Location, StoreKind
from runyard.engine import leases
from runyard.engine.bell import EVENTS, ROOM, log_topic
from runyard.engine.world import World
from runyard.ports.caches import Ages, CacheAction

PAGE: Final = 200
"""Runs that one turn looks at."""
PAUSE_S: Final = 0.02
"""Between two turns of a pass: others want the disk, too."""
DAY_MS: Final = 86_400_000
KEYS_MS: Final = 30 * DAY_MS
"""A submission that is sent again after so long with its idempotency key is a new one."""
TOKENS_MS: Final = 30 * DAY_MS
"""For so long a token that has expired or was revoked is listed."""
FIRST_S: Final = 60.0
"""A server that starts has more urgent things to do."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Pass:
    """One pass over all final runs, turn by turn. ``dry``: nothing goes. ``account``: only its runs are looked at.
    ``runs`` and ``sizes``: what went (or would), by account and part; ``due_ms``: when the next part is due."""

    dry: bool = False
    account: str | None = None
    after_seq: int = 0
    runs: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    sizes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    due_ms: int | None = None
    needed: frozenset[str] | None = None

    def turn(self, world: World) -> bool:
        """Look at the next runs; whether there are more."""
        with world.sweeping:
            own = world.store.retentions()
            found = world.store.ended_runs(self.after_seq, PAGE)
            for run in found:
                self.after_seq = run.seq
                if self.account in (None, run.account_id):
                    self._look(world, run, policy(world.rules.keep, own.get(run.account_id, {})))
        return len(found) == PAGE

    def _look(self, world: World, run: Ended, kept: Kept) -> None:
        if not any(kept.values()):
            return
        location = _location(world, run)
        here = location.kind is StoreKind.local
        now = world.clock.now_ms()
        what = fate(run, kept, now, results_here=here, needed=False)
        if what.goes and self._is_needed(world, run.run_id):
            what = fate(run, kept, now, results_here=here, needed=True)
        if what.due_ms is not None:
            self.due_ms = what.due_ms if self.due_ms is None else min(self.due_ms, what.due_ms)
        if what.goes:
            self._count(run, what, sizes_of(world, run, location, what.goes))
            if not self.dry:
                _let_go(world, run, location, what.goes, swept_sentence(what.goes, kept))

    def _is_needed(self, world: World, run_id: str) -> bool:
        """What was submitted since this was read has a lease (:mod:`runyard.engine.leases`)."""
        if self.needed is None:
            self.needed = world.store.needed_runs()
        return run_id in self.needed

    def _count(self, run: Ended, what: Fate, sizes: Mapping[Part, int]) -> None:
        for part in what.goes:
            self.runs[run.account_id, part.value] += 1
            self.sizes[run.account_id, part.value] += sizes.get(part, 0)


def _location(world: World, run: Ended) -> Location:
    return world.specs.get(run.spec_id).spec.results


def sizes_of(world: World, run: Ended, location: Location, parts: frozenset[Part]) -> dict[Part, int]:
    """Bytes of the parts of a run that are to go."""
    on_disk = world.disk.of_run(run.run_id)
    sizes = {part: on_disk.get(part.value, 0) for part in parts}
    if Part.results in parts:
        listing = world.objects.list(location, None, account_id=run.account_id)
        below = f"{run.run_id}/"
        sizes[Part.results] = sum(each.size for each in listing.entries if each.key.startswith(below))
    return sizes


def _let_go(world: World, run: Ended, location: Location, parts: frozenset[Part], sentence: str) -> None:
    """Carry it out; what dies in between is done again by the next pass."""
    with world.leases.letting_go(leases.of_run(run.run_id)) as free:
        if not free:
            return
        if Part.results in parts:
            try:
                world.objects.delete_prefix(location, None, f"{run.run_id}/", account_id=run.account_id)
            except StoreUnavailable as error:
                _log.warning("the results of %s stay for now: %s", run.run_id, error.message)
                return
        now = world.clock.now_ms()
        if Part.records in parts and not world.store.delete_run(run.run_id, now):
            return
        if Part.logs in parts:
            world.logs.delete(run.run_id)
        if Part.metrics in parts:
            world.metrics.delete(run.run_id)
        if Part.records not in parts:
            world.store.note_swept(run.run_id, parts, sentence, now)
    world.bell.ring(EVENTS, log_topic(run.run_id))


def sweep_definitions(world: World, *, dry: bool) -> tuple[int, int]:
    """Let go the model definitions that no recorded run needs; returns how many and their bytes."""
    kept_ms = world.rules.keep_definitions_ms
    if kept_ms == FOR_EVER or not world.leases.remembers():
        return 0, 0
    count = size = 0
    for account_id, sha256, bytes_ in world.store.unneeded_definitions(world.clock.now_ms() - kept_ms):
        with world.leases.letting_go(leases.of_definition(sha256)) as free:
            if not free:
                continue
            count, size = count + 1, size + bytes_
            if not dry and world.store.drop_definition(account_id, sha256):
                world.definitions.delete(sha256)
    return count, size


def sweep_ends(world: World) -> None:
    """Forget idempotency keys and tokens whose time is long over."""
    now = world.clock.now_ms()
    world.store.forget_keys(now - KEYS_MS)
    world.store.forget_tokens(now - TOKENS_MS)


def sweep_caches(world: World, *, dry: bool) -> dict[str, tuple[int, int]]:
    """Have the connected machines let go what they have not used for as long as the settings say; returns how many
    entries of each, and their bytes."""
    ages = Ages(world.rules.keep_caches_ms, world.rules.keep_environments_ms)
    connected = {node.id: node.name for node in world.store.nodes() if node.connected}
    if ages == Ages() or not connected:
        return {}
    action = CacheAction.expirable if dry else CacheAction.expire
    answers = world.caches.ask(world.executor, list(connected), action, "", ages=ages)
    return {connected[each]: (told.removed, told.removed_bytes) for each, told in answers.items() if told is not None}


async def turn(world: World) -> None:
    """Let go what is due whenever something is, until cancelled."""
    every_s = world.rules.sweep_every_ms / 1000
    with world.bell.listen(ROOM) as ear:
        await ear.wait(min(FIRST_S, every_s))
        while True:
            sweeping = Pass()
            while await asyncio.to_thread(sweeping.turn, world):
                await asyncio.sleep(PAUSE_S)
            await asyncio.to_thread(sweep_definitions, world, dry=False)
            await asyncio.to_thread(sweep_caches, world, dry=False)
            await asyncio.to_thread(sweep_ends, world)
            _tell(sweeping)
            await ear.wait(max(every_s, (_next_ms(world, sweeping) - world.clock.now_ms()) / 1000))


def _tell(sweeping: Pass) -> None:
    for (account_id, part), count in sorted(sweeping.runs.items()):
        size = sweeping.sizes[account_id, part]
        _log.info("retention of %s: the %s of %d runs went, %d bytes", account_id, part, count, size)


def _next_ms(world: World, sweeping: Pass) -> int:
    """When a part is due that is known of, or could be of a run that ends from now on; within a day in any case."""
    now = world.clock.now_ms()
    ages = [age for kept in (world.rules.keep, *world.store.retentions().values()) for age in kept.values() if age]
    dues = [now + age for age in ages] + [now + DAY_MS]
    return min(dues if sweeping.due_ms is None else [sweeping.due_ms, *dues])


def kept_by(world: World, account_id: str) -> tuple[Kept, Kept]:
    """What holds for an account, and what of that it has said itself. Raises :class:`NotFound`."""
    if world.store.account(account_id) is None:
        raise _no_account(account_id)
    own = world.store.retentions().get(account_id, {})
    return policy(world.rules.keep, own), own


def keep(world: World, account_id: str, changes: Mapping[Part, int | None]) -> None:
    """Set for how many milliseconds an account keeps parts of its runs (0: for ever; None: as the installation)."""
    if any(age is not None and age < 0 for age in changes.values()):
        raise Refused("An age is 0 days (for ever) or more.")
    own = dict(world.store.retentions().get(account_id, {}))
    for part, age in changes.items():
        own.pop(part, None)
        if age is not None:
            own[part] = age
    if not world.store.set_retention(account_id, own):
        raise _no_account(account_id)
    told = {part.value: age for part, age in own.items()}
    _log.warning("the retention of the account %s was set: %s", account_id, told or "as the installation's")
    world.bell.ring(ROOM)


def _no_account(account_id: str) -> NotFound:
    return NotFound(f"There is no account {account_id}: `runyard accounts list` shows those that there are.")


def full_sentence(world: World) -> str | None:
    """Why the server's disk takes nothing new, None where it does."""
    space = world.disk.space()
    if not is_short(space.free, space.total, world.rules.disk_reserve):
        return None
    return (
        f"The server's disk has only {space.free / (1 << 30):.3g} GiB of {space.total / (1 << 30):.3g} GiB left, less "
        "than is kept for what runs already (`server_reserve_gib`): nothing new is taken until there is room. "
        "`runyard usage --disk` shows what takes it, `runyard gc` lets go what may go."
    )


def refuse_when_full(world: World) -> None:
    """Raise ``disk_full`` while the server's disk is short of room."""
    sentence = full_sentence(world)
    if sentence is not None:
        raise RunyardError(sentence, code="disk_full")
