"""Facts: what a node tells the server. Reported at least once; the server drops what it already knows or has fenced.

``POST /api/v1/node/hello`` takes a :class:`Hello`; ``POST /api/v1/node/facts`` a JSON array of the others and answers
with an array of as many booleans: False tells the node that the fact was stale, and that the run is none of its
business any more. Logs go by ``PUT /api/v1/node/logs/{run}/{attempt}/{learner}/{stream}?offset=N`` with raw bytes,
which answers ``{"size": N}``: the offset to go on from.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt that the node has a folder for. ``state``: prepared, running, exited or lost; ``slots``: those of one
    that has begun."""

    run: str
    attempt: int
    state: str
    slots: tuple[int, ...] = ()


class ShutGpu(msgspec.Struct, frozen=True, array_like=True):
    """A GPU that is given to no run for now: its slots, why in a sentence, and whether it is by an error of its own
    (an operator puts it back) or held by strangers (it is free again by itself)."""

    slots: tuple[int, ...]
    sentence: str
    error: bool = False


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node introduces itself on every connect.

    ``gpus``: a name for each GPU slot; ``logical``: there is no device behind the slots. ``notes``: sentences on what
    is not isolated here. ``features``: what it can do beyond the ground: ``shm``, ``network_off``. ``python`` and
    ``packages``: version of its own interpreter, and of the frameworks installed there (distribution -> version).
    ``closed``: why nothing new may start there, empty where it may; ``shut``: the GPUs that it keeps back.
    ``clock_ms``: milliseconds since the machine was started (CLOCK_BOOTTIME), as this is sent; 0: it does not say.
    """

    name: str
    boot_id: str
    version: str
    gpus: tuple[str, ...]
    logical: bool
    cpu_millis: int
    memory_mib: int
    held: tuple[Held, ...] = ()
    staged: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    python: str = ""
    packages: dict[str, str] = {}
    closed: str = ""
    shut: tuple[ShutGpu, ...] = ()
    clock_ms: int = 0


class Staged(msgspec.Struct, frozen=True, tag="staged"):
    """Code, data and environment of a spec are ready. ``fetched``: bytes that had to be fetched; ``environment``: a
    JSON object that says what the program will run with (``interpreter``, ``python``, ``packages``)."""

    spec: int
    fetched: int = 0
    environment: str = ""


class StageProgress(msgspec.Struct, frozen=True, tag="stage_progress"):
    """Bytes fetched of the bytes to fetch. ``phase``: a few words on what is being done, empty for fetching data."""

    spec: int
    done: int
    total: int
    phase: str = ""


class StageFailed(msgspec.Struct, frozen=True, tag="stage_failed"):
    """Code, data or environment of a spec cannot be had. ``reason``: a :class:`runyard.core.reasons.Reason`; ``log``:
    the evidence, the texts of ``load-model.log`` and ``load-data.log``; ``model_log``: the former alone (64 KiB each at
    most)."""

    spec: int
    reason: str
    detail: str
    log: str = ""
    model_log: str = ""


class Then(msgspec.Struct, frozen=True, array_like=True):
    """The run that was granted ahead and takes over the slots of an attempt that ended, and its attempt's number."""

    run: str
    attempt: int


class Declined(msgspec.Struct, frozen=True, tag="declined"):
    """A grant ahead that was not begun in time, and will not be."""

    run: str
    attempt: int


class Began(msgspec.Struct, frozen=True, tag="began", omit_defaults=True):
    """The program runs since ``at_ms``. ``way``: ``warm``, ``exec`` or ``container``; ``way_note``: why, or what that
    saved."""

    run: str
    attempt: int
    at_ms: int
    way: str = ""
    way_note: str = ""


class Exited(msgspec.Struct, frozen=True, tag="exited", omit_defaults=True):
    """The exit record of an attempt: of several learners, that of the one that failed first.

    ``launch_error`` is set when the program could not be started; ``launch_reason``: the name of the
    :class:`runyard.core.reasons.Reason` when that is the user's to mend. ``detail``: which learner it was.
    ``then``: the grant that takes over its slots at this moment; no fact of that run is told before this one.
    ``gpu_error``: the hardware error of a GPU after which the program failed by itself, in a sentence.
    """

    run: str
    attempt: int
    at_ms: int
    exit_code: int | None = None
    signal: int | None = None
    cause: str | None = None
    oom_kills: int = 0
    launch_error: str | None = None
    log_bytes: int = 0
    tamper_proof: bool = False
    peak_memory_mib: int | None = None
    launch_reason: str = ""
    detail: str = ""
    then: Then | None = None
    gpu_error: str = ""


class Lost(msgspec.Struct, frozen=True, tag="lost", omit_defaults=True):
    """An attempt whose shim left no exit record; nothing of it lives any more.

    ``reason``: shim_lost or machine_restarted. ``then``: as in :class:`Exited`."""

    run: str
    attempt: int
    reason: str
    detail: str
    then: Then | None = None


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """Everything is in the results bucket."""

    run: str
    objects: int
    size: int


class CachedListing(msgspec.Struct, frozen=True, array_like=True):
    """A listing of a bucket that a node has as a folder (:class:`runyard.ports.caches.CachedData`)."""

    kind: str
    address: str
    bucket: str
    prefix: str
    account: str
    objects: int
    size: int
    own: int
    used_ms: int
    pinned: bool
    in_use: bool


class CacheState(msgspec.Struct, frozen=True, tag="cache_state"):
    """The answer to a :class:`runyard.wire.orders.CacheCommand`: bytes of the whole cache, its limit, the data in it
    (last used first, at most 1,000), the pinned buckets, and how many entries a ``clear`` or
    ``expire`` has removed, with their bytes. ``kinds``: bytes of ``code``, ``data``, ``environments``, ``runs``,
    ``images``; ``free`` and ``total`` of the disk."""

    number: int
    size: int
    limit: int
    items: tuple[CachedListing, ...] = ()
    pins: tuple[str, ...] = ()
    removed: int = 0
    removed_bytes: int = 0
    kinds: dict[str, int] = {}
    free: int = 0
    total: int = 0


class DiskState(msgspec.Struct, frozen=True, tag="disk_state"):
    """Whether the node's disk has room for new runs has changed. ``closed``: why it has not, empty where it has."""

    closed: str = ""


class GpuState(msgspec.Struct, frozen=True, tag="gpu_state"):
    """All GPUs that the node keeps back now."""

    shut: tuple[ShutGpu, ...] = ()


class GpuError(msgspec.Struct, frozen=True, tag="gpu_error"):
    """A GPU has reported a hardware error while an attempt was on it; the program may go on. ``detail``: a sentence."""

    run: str
    attempt: int
    detail: str


class Quiet(msgspec.Struct, frozen=True, tag="quiet"):
    """A program does nothing since ``at_ms``. ``kind``: a :class:`runyard.core.idle.Quiet`, empty where it does
    something again."""

    run: str
    attempt: int
    kind: str
    at_ms: int


class StoreFailed(msgspec.Struct, frozen=True, tag="store_failed", omit_defaults=True):
    """One try at storing failed; the node tries again by itself, unless it is told to stop.

    ``denied``: the store gave a definite no (bucket missing, credentials refused). ``lost``: the node has no folder of
    the run any more, so there is nothing to store."""

    run: str
    detail: str
    denied: bool = False
    lost: bool = False


class Sent(msgspec.Struct, frozen=True, tag="sent", omit_defaults=True):
    """Stands before the facts of a report: what the node's clock shows while it is sent. The times in the facts are of
    that clock. ``clock_ms``: as in :class:`Hello`."""

    at_ms: int
    clock_ms: int = 0


Fact: TypeAlias = (
    Staged
    | StageProgress
    | StageFailed
    | Declined
    | Began
    | Exited
    | Lost
    | Stored
    | StoreFailed
    | CacheState
    | DiskState
    | GpuState
    | GpuError
    | Quiet
)

_encoder = msgspec.json.Encoder()
_hello = msgspec.json.Decoder(Hello)
_facts = msgspec.json.Decoder(list[Sent | Fact])


def encode(facts: list[Fact] | Hello, sent_ms: int | None = None, clock_ms: int = 0) -> bytes:
    """The body of a report. ``sent_ms``: what the clock shows of whose times the facts are; ``clock_ms``: as in
    :class:`Sent`."""
    if sent_ms is not None and isinstance(facts, list):
        return _encoder.encode([Sent(sent_ms, clock_ms), *facts])
    return _encoder.encode(facts)


def decode_report(body: bytes) -> tuple[list[Fact], Sent | None]:
    """The facts of a report and what the node's clocks showed, where it said so. Raises ``msgspec.DecodeError`` or
    ``UnicodeDecodeError``."""
    found = _facts.decode(body)
    sent = next((each for each in found if isinstance(each, Sent)), None)
    return [each for each in found if not isinstance(each, Sent)], sent


def decode_facts(body: bytes) -> list[Fact]:
    """The facts of a report. Raises as :func:`decode_report` does."""
    return decode_report(body)[0]


def decode_hello(body: bytes) -> Hello:
    """Undo :func:`encode` for a hello. Raises ``msgspec.DecodeError`` or ``UnicodeDecodeError``."""
    return _hello.decode(body)
