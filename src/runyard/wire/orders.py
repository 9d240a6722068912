"""Orders: what the server asks of a node. Each is idempotent, and all that still hold are sent again on every connect.

They travel as one JSON object a line on the stream of ``GET /api/v1/node/orders``; ``type`` tells which. Times are
milliseconds, sizes bytes unless named otherwise. Orders carry credentials: they are held in memory, never on disk.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Secret(msgspec.Struct, frozen=True, omit_defaults=True):
    """Credentials of an object store. Its repr shows nothing."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return "Secret(***)"


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bucket of a store and a prefix in it.

    ``kind``: ``s3`` (``endpoint_url``, ``region``, ``secret``), ``local`` (the embedded store: read and written
    through ``/api/v1/node/data/{account}/{bucket}/{key}`` of the server) or ``volume`` (``path``: a folder of the
    machine, with ``bucket`` a sub-folder of it; ``member`` and ``login``: whose rights over files hold there, as in
    :class:`Launch`).
    """

    kind: str
    bucket: str
    prefix: str = ""
    name: str = ""
    account: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    path: str | None = None
    secret: Secret | None = None
    member: int = 0
    login: str = ""


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One object to fetch: key below the place's prefix, size in bytes, etag (empty: has none)."""

    key: str
    size: int
    etag: str = ""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One data reference: where and what. ``items`` is empty for volumes, which are read in place."""

    place: Place
    items: tuple[Item, ...] = ()


class Environment(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the interpreter must offer (:class:`runyard.core.spec.EnvironmentRequest`): an existing one by path or name,
    or exact pins; or the container image that programs run in. ``registry``: the credentials for it, USER:PASSWORD."""

    python: str | None = None
    packages: tuple[str, ...] = ()
    image: str = ""
    pull: str = "missing"
    registry: str | None = None

    def __repr__(self) -> str:
        return f"Environment({self.image or self.python or self.packages})"


class Evaluation(msgspec.Struct, frozen=True, omit_defaults=True):
    """How metrics are found beside the ways that always count (:class:`runyard.core.spec.EvaluationMetrics`)."""

    type: str = "none"
    source: str = ""
    groups: tuple[tuple[str, str], ...] = ()


class Origin(msgspec.Struct, frozen=True):
    """The run whose checkpoints are copied into ``CHECKPOINT_DIR`` first, and where its results are."""

    run: str
    results: Place


class Warm(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose warm parent may fork the program: one for each account, ``member`` (its number, from which the node takes
    the user id) and environment. ``preload``: the modules that the framework's list ships; empty: a slim one."""

    account: str
    member: int
    preload: tuple[str, ...] = ()
    login: str = ""


class Stage(msgspec.Struct, frozen=True, tag="stage", omit_defaults=True):
    """Make the code and data of a spec ready. ``code``: SHA-256 (hex) of the zip, fetched from
    ``/api/v1/node/definitions/{code}``; None when the run has no code.

    ``listed`` is False inside a ``Launch`` of a spec that the node has reported as ready (``Staged``, or
    ``Hello.staged``, which it keeps on disk, without secrets, over restarts): ``data`` is left out then, and the node
    uses what it has. Should it have it no longer, it answers ``Exited`` with a ``launch_error``.

    ``warm``: a program of it will soon be started: its warm parent may be got ready. None: none is wanted.

    ``guessed``: the server takes the spec to be ready already, since the node has said so of one that is made of the
    same, and launches follow at once. They wait for it a few seconds; ``Staged`` is not waited for.
    """

    spec: int
    code: str | None = None
    data: tuple[Part, ...] = ()
    listed: bool = True
    environment: Environment = Environment()
    warm: Warm | None = None
    guessed: bool = False


class Launch(msgspec.Struct, frozen=True, tag="launch", omit_defaults=True):
    """Start one attempt of a run. ``stage`` is what must be ready (staged again when it no longer is).

    ``parameters``: JSON object text for ``config.json``. ``member``: number of the member, from which the node takes
    the user id, but for a ``login`` (the member's id) to which the operator
    gives a user of the machine. ``slots``: GPU slot numbers. ``secret_env`` goes to the program alone.

    ``learners`` processes start together or not at all, each with ``cpu_millis``, ``memory_mib`` and its equal share
    of ``slots``, in order; with ``launch`` ``gpu`` each has one process for each of its slots. ``shm_mib``: size of
    ``/dev/shm``, None for the machine's own; ``network``: whether the program may use it.

    ``stage.warm``: which warm parent may fork it; None: ``warm: off``. ``queue_class``: attempts of the same class need
    the same room and count against the same quota. ``hold_ms`` above 0: a grant ahead. The node does not start it now
    but when an attempt of the same class ends here, in the order of the grants and with the slots of that attempt
    (``slots`` is empty), and says so in the ``then`` of what it tells of that attempt. What is not begun so many
    milliseconds after the order came, or by ``until_ms`` of the node's clock (``clock_ms`` of
    :class:`runyard.wire.facts.Hello`; 0: no such moment), is declined (:class:`runyard.wire.facts.Declined`).
    ``idle_ms``: a program that does nothing for so long is told of (:class:`runyard.wire.facts.Quiet`), 0: none is.
    """

    run: str
    attempt: int
    name: str
    command: str
    stage: Stage
    results: Place
    parameters: str = "{}"
    env: dict[str, str] = {}
    secret_env: dict[str, str] = {}
    member: int = 1
    slots: tuple[int, ...] = ()
    cpu_millis: int = 1000
    memory_mib: int = 1024
    max_runtime_ms: int | None = None
    grace_ms: int = 30_000
    outputs: tuple[str, ...] = ()
    learners: int = 1
    launch: str = "learner"
    start_from: Origin | None = None
    shm_mib: int | None = None
    network: bool = True
    evaluation: Evaluation = Evaluation()
    queue_class: int = 0
    hold_ms: int = 0
    until_ms: int = 0
    login: str = ""
    idle_ms: int = 0

    def __repr__(self) -> str:
        return f"Launch({self.run}/{self.attempt})"


class Withdraw(msgspec.Struct, frozen=True, tag="withdraw"):
    """Begin a run no more that was granted ahead as this attempt. The node declines it at once; what has begun by then
    goes on, and nothing is answered."""

    run: str
    attempt: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """End the program: SIGTERM to its whole tree, the grace, SIGKILL. ``cause`` is written into the exit record.

    For an attempt that the node does not have (its launch never arrived, or is still being prepared) the node makes
    sure that it never begins, and answers ``Exited`` with this cause and neither exit code nor signal.
    """

    run: str
    attempt: int
    cause: str
    grace_ms: int


class Store(msgspec.Struct, frozen=True, tag="store", omit_defaults=True):
    """Store what the run left behind at ``results`` (below ``<run>/``), logs and evidence included.

    ``attempt`` is the last one, 0 when no program ever began; ``earlier``: attempts whose logs go to ``attempts/N/``.
    ``outputs``: globs kept from the working directory. ``evidence``: with attempt 0, the text of ``load-data.log`` to
    store (the node told it, or the server found it out itself); a node needs no other memory of what failed.
    """

    run: str
    spec: int
    attempt: int
    results: Place
    earlier: tuple[int, ...] = ()
    outputs: tuple[str, ...] = ()
    evidence: str = ""
    learners: int = 1


class StopStoring(msgspec.Struct, frozen=True, tag="stop_storing"):
    """Give up storing; what is stored stays."""

    run: str


class Release(msgspec.Struct, frozen=True, tag="release"):
    """The run is final (or no longer this node's): end what may still live of it and remove its folders."""

    run: str


class CacheCommand(msgspec.Struct, frozen=True, tag="cache", omit_defaults=True):
    """Do something with the cache of data and answer with a :class:`runyard.wire.facts.CacheState` of this number.

    ``action``: ``tell`` (nothing), ``pin`` and ``unpin`` (what is and will be there of ``bucket``, whatever store it is
    in), ``clear`` (remove what nothing uses and nobody has pinned; of ``bucket`` alone where one is named),
    ``expire`` (of that what was not used for so many milliseconds: code and data, environments; 0: never),
    ``expirable`` (only tell what would go).
    """

    number: int
    action: str
    bucket: str = ""
    data_ms: int = 0
    environments_ms: int = 0


class PutBack(msgspec.Struct, frozen=True, tag="put_back"):
    """Somebody has looked at the machine: GPUs that were kept back for errors may be given to runs again."""


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Nothing to do: the stream is alive. Sent at least every ten seconds."""


class Resync(msgspec.Struct, frozen=True, tag="resync"):
    """All orders that still hold have been sent. ``runs``: every run that the server still wants on this node;
    the node releases any other that it has."""

    runs: tuple[str, ...]


Order: TypeAlias = (
    Stage | Launch | Withdraw | Stop | Store | StopStoring | Release | CacheCommand | PutBack | Ping | Resync
)

_decoder = msgspec.json.Decoder(
    Stage | Launch | Withdraw | Stop | Store | StopStoring | Release | CacheCommand | PutBack | Ping | Resync
)
_encoder = msgspec.json.Encoder()


def encode(order: Order) -> bytes:
    """One JSON line, newline included."""
    return _encoder.encode(order) + b"\n"


def decode(line: bytes) -> Order:
    """Undo :func:`encode`. Raises ``msgspec.ValidationError`` or ``msgspec.DecodeError``."""
    return _decoder.decode(line)
