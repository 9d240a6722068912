"""Staging: code, data and environment of a spec are made ready while its runs wait. Each spec once, whoever asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import msgspec

from runyard.core.reasons import Reason
from runyard.node.cache import Cache
from runyard.node.code import CodeFault, fetch_code
from runyard.node.data import Asking, DataFetcher
from runyard.node.environments.choosing import Environments
from runyard.node.environments.faults import EnvironmentFault
from runyard.node.evidence import Evidence, clip
from runyard.node.home import say
from runyard.node.lanes import Crew, Job, do_safely
from runyard.node.link import Link
from runyard.node.ready import Ready, Specs, fingerprint
from runyard.node.report import Report
from runyard.stores.errors import StoreError, StoreFault
from runyard.wire import facts
from runyard.wire.orders import Stage

PROGRESS_EVERY_S = 0.25
MARK_EVERY_S = 2.0
CREW = 16
"""As many at once: an environment that is being built for minutes must not keep the data of others waiting."""
UNUSED_KEPT_S = 3600.0
"""What was made ready for a run that has not started yet stays at least so long: the run may have been cancelled."""


EVERYTHING = 1 << 62
"""More bytes than there can be."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Code, data or environment cannot be had."""

    reason: Reason
    detail: str


MISTAKE = Failed(Reason.staging_failed, "A mistake in the node itself: see its own log.")
Outcome = Ready | Failed
Then = Callable[[Outcome], None]

REASONS: dict[StoreFault, Reason] = {
    "not_found": Reason.data_not_found,
    "changed": Reason.data_not_found,
    "invalid": Reason.data_not_found,
    "denied": Reason.data_access_denied,
    "unreachable": Reason.data_unreachable,
}
"""What the fault of a store means for the run whose data it has."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What staging works with."""

    link: Link
    cache: Cache
    specs: Specs
    data: DataFetcher
    report: Report
    environments: Environments


class Staging:
    """What is ready, what is on its way, and who waits for it."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._crew = Crew("stage", CREW)
        self._lock = threading.Lock()
        self._marked: dict[tuple[int, str], float] = {}
        """When specs were last noted as used."""
        self._waiting: dict[tuple[int, str], list[Then]] = {}
        self.in_use: Callable[[], Collection[int]] = lambda: ()
        """Asked for the specs that programs are using."""
        self.evicted: Callable[[], None] = lambda: None
        """Told when a spec is ready no longer."""
        self.patiently: Callable[[Job], None] = do_safely
        """Does what nobody waits for, a moment later."""
        self.expected: Callable[[Stage, Ready], None] = lambda _stage, _ready: None
        """Told when a spec is ready whose programs will be started soon."""

    def ready(self) -> tuple[int, ...]:
        """The specs that are ready."""
        return tuple(sorted(ready.spec for ready in self._tools.specs.all()))

    def find(self, stage: Stage) -> Ready | None:
        """What is ready for an order, if it is."""
        ready = self._tools.specs.get(stage.spec)
        return ready if ready is not None and ready.serves(stage) else None

    def has_image(self, ready: Ready) -> bool:
        """Whether the container image of a spec that was ready is still there; where it is not, the spec is ready no
        longer. Asks the engine: for the moment of a launch."""
        images = self._tools.environments.images() if ready.image else None
        if not ready.image or (images is not None and images.has(ready.image)):
            return True
        self._tools.specs.forget(ready.spec)
        self.evicted()
        return False

    def request(self, stage: Stage, then: Then | None = None) -> None:
        """Make a spec ready, tell the server, and then tell ``then`` from some thread."""
        key = (stage.spec, fingerprint(stage))
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.extend([then] if then else [])
                return
            self._waiting[key] = [then] if then else []
        self._crew.put(lambda: self._work(key, stage))

    def follow(self, spec: int, then: Then) -> bool:
        """Tell ``then`` what becomes of a spec that is being made ready; False where none is."""
        with self._lock:
            waiting = next((those for (number, _), those in self._waiting.items() if number == spec), None)
            if waiting is None:
                return False
            waiting.append(then)
            return True

    def mark_used(self, ready: Ready) -> None:
        """A program is launched with it. Noted every few seconds: that is fine enough for what is used least lately."""
        key, now = (ready.spec, ready.fingerprint), time.monotonic()
        with self._lock:
            if now - self._marked.get(key, -MARK_EVERY_S) < MARK_EVERY_S:
                return
            self._marked = {old: at for old, at in self._marked.items() if now - at < MARK_EVERY_S} | {key: now}
        self._tools.cache.touch(ready.entries)
        if ready.used:
            self._tools.specs.touch(ready.spec)
        else:
            self._tools.specs.put(msgspec.structs.replace(ready, used=True))

    def _work(self, key: tuple[int, str], stage: Stage) -> None:
        with self._lock:
            self._marked.pop(key, None)  # what is made ready anew was not used yet
        fetched, described = 0, ""
        outcome: Outcome = MISTAKE
        try:
            ready = self._tools.specs.get(stage.spec)
            if ready is None or ready.fingerprint != key[1]:
                making = Making(self._tools, stage, key[1], self._trim)
                fetched, outcome = making.make()
                described = making.described
            else:
                outcome = ready
                self._tools.specs.touch(stage.spec)
        except Exception:
            self._tools.report.tell(facts.StageFailed(stage.spec, MISTAKE.reason, MISTAKE.detail))
            raise
        finally:
            with self._lock:
                waiting = self._waiting.pop(key)
            if isinstance(outcome, Ready):
                self._tell(facts.Staged(stage.spec, fetched, described), stage)
            for then in waiting:
                then(outcome)
            if isinstance(outcome, Ready):
                self.expected(stage, outcome)
        self._trim(0)

    def _tell(self, fact: facts.Staged, stage: Stage) -> None:
        """Tell that a spec is ready: at once, or behind the start of the program, where the server does not wait."""
        if stage.guessed:
            self.patiently(lambda: self._tools.report.tell(fact))
        else:
            self._tools.report.tell(fact)

    def entries_in_use(self) -> set[str]:
        """The cache's folders that runs on this machine work with."""
        used = set(self.in_use())
        return {path for ready in self._tools.specs.all() if ready.spec in used for path in ready.entries}

    def clear(self, may_go: Callable[[str], bool]) -> int:
        """Remove what nothing needs of the entries that may go (by their paths); returns how many went."""
        stay = {entry.path for entry in self._tools.cache.entries() if not may_go(entry.path)}
        return self._remove(EVERYTHING, stay)

    def make_room(self, size: int) -> None:
        """Have so many bytes free on the disk, as far as the cache can give way."""
        wanting = self._tools.cache.wanting(size)
        if wanting > 0:
            self._remove(wanting, set())

    def may_go(self) -> set[str]:
        """The cache's folders that nothing needs now."""
        pinned, cache = self._needed(list(self._tools.specs.all())), self._tools.cache
        return {each.path for each in cache.entries() if each.path not in pinned and not cache.is_kept(each.path)}

    def images_needed(self) -> set[str]:
        """The ids of the container images that runs work with, or will soon."""
        return {ready.image for ready in self._wanted(list(self._tools.specs.all())) if ready.image}

    def _needed(self, ready: list[Ready]) -> set[str]:
        return {path for entry in self._wanted(ready) for path in entry.entries}

    def _wanted(self, ready: list[Ready]) -> list[Ready]:
        """Of what is ready that which runs work with, and that which was made ready for some that have not begun."""
        used, recently = set(self.in_use()), time.time() - UNUSED_KEPT_S
        asked_at = self._tools.specs.asked_at
        return [each for each in ready if each.spec in used or (not each.used and asked_at(each.spec) > recently)]

    def _trim(self, room_for: int) -> None:
        """Bring the cache below its limit, and make room on the disk for so many bytes."""
        excess = self._tools.cache.excess(room_for)
        if excess > 0:
            self._remove(excess, set())

    def _remove(self, excess: int, stay: set[str]) -> int:
        ready = list(self._tools.specs.all())
        pinned = stay | self._needed(ready)
        gone = set(self._tools.cache.trim(excess, pinned))
        if not gone:
            return 0
        for entry in ready:
            if gone.intersection(entry.entries):
                self._tools.specs.forget(entry.spec)
        say(f"Removed {len(gone)} entries that were not used lately from the cache.")
        self.evicted()
        return len(gone)


class Making:
    """One spec on its way to being ready."""

    def __init__(self, tools: Tools, stage: Stage, asked: str, room: Callable[[int], None]) -> None:
        self._tools = tools
        self._stage = stage
        self._fingerprint = asked
        self._room = room
        self._model = Evidence()
        self._data = Evidence()
        self._done = 0
        self._total = sum(item.size for part in stage.data for item in part.items)
        self._told_at = 0.0
        self.described = ""
        """The environment as it came out, a JSON object; empty before."""
        self._lock = threading.Lock()

    def make(self) -> tuple[int, Outcome]:
        """Fetch what is missing; returns the bytes fetched and the outcome, which the server has been told of if it
        is a failure. The evidence is kept either way."""
        with self._tools.cache.holding() as hold:
            return self._make(hold)

    def _make(self, hold: Callable[[str], None]) -> tuple[int, Outcome]:
        outcome: Outcome
        fetched = 0
        try:
            fetched, outcome = self._fetch(hold)
        except CodeFault as error:
            self._model.note(error.detail)
            outcome = Failed(error.reason, error.detail)
        except EnvironmentFault as error:
            self._model.note(error.detail)
            outcome = Failed(error.reason, error.detail)
        except StoreError as error:
            outcome = Failed(REASONS[error.kind], error.message)
        except OSError as error:
            outcome = Failed(Reason.staging_failed, disk_sentence(error))
            self._data.note(outcome.detail)
        outcome = self._put_down(outcome)
        model, data = self._model.text(), self._data.text()
        if isinstance(outcome, Failed):
            fact = facts.StageFailed(self._stage.spec, outcome.reason, outcome.detail, clip(model + data), clip(model))
            self._tools.report.tell(fact)
        return fetched, outcome

    def _put_down(self, outcome: Outcome) -> Outcome:
        """Keep the evidence, and what is ready. Nothing is ready that the disk does not take; a failure stays what it
        is."""
        specs, spec = self._tools.specs, self._stage.spec
        try:
            specs.keep_evidence(spec, self._model.text(), self._data.text())
            if isinstance(outcome, Ready):
                specs.put(outcome)
        except OSError as error:
            failed = Failed(Reason.staging_failed, disk_sentence(error))
            self._data.note(failed.detail)
            return outcome if isinstance(outcome, Failed) else failed
        return outcome

    def _fetch(self, hold: Callable[[str], None]) -> tuple[int, Ready]:
        tools, stage = self._tools, self._stage
        if stage.code is None:
            self._model.note("The run has no model definition: its working directory is empty.")
            code, size = None, 0
        else:
            code, size = fetch_code(tools.link, tools.cache, stage.code, self._model)
        if not stage.data:
            self._data.note("The run has no training data.")
        asking = Asking(self._fingerprint, self._data, self._progress, self._room, hold)
        data = tools.data.stage_all(stage.data, asking)
        chosen = tools.environments.choose(stage.environment, code, self._model, self._phase)
        self.described = chosen.description
        entries = tuple(filter(None, [code, *data.entries, *chosen.entries]))
        ready = Ready(
            stage.spec,
            self._fingerprint,
            stage.code,
            data.folder,
            data.references,
            entries,
            interpreter=chosen.interpreter,
            image=chosen.image,
        )
        return size + data.fetched + chosen.size, ready

    def _phase(self, words: str) -> None:
        """What is being done now, where it is not fetching data."""
        with self._lock:
            now = time.monotonic()
            if now - self._told_at < PROGRESS_EVERY_S:
                return
            self._told_at = now
        self._tools.report.tell(facts.StageProgress(self._stage.spec, self._total, self._total, words))

    def _progress(self, size: int) -> None:
        with self._lock:
            self._done += size
            now = time.monotonic()
            if now - self._told_at < PROGRESS_EVERY_S:
                return
            self._told_at = now
            done = self._done
        self._tools.report.tell(facts.StageProgress(self._stage.spec, max(0, min(done, self._total)), self._total))


def disk_sentence(error: OSError) -> str:
    """What to tell of our own disk's refusal; no path of ours helps a user."""
    return f"The machine could not write code and data to its disk: {error.strerror or type(error).__name__}."
