"""From a folder and a manifest to training runs, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from runyard.client.calls import Progress
from runyard.client.client import Client
from runyard.client.errors import Misuse
from runyard.client.packing import LIMIT, Packed, packed
from runyard.client.provenance import provenance
from runyard.client.records import Checked, Run, Submitted
from runyard.client.run_calls import Overrides, Submission
from runyard.client.waiting import fetch
from runyard.core.spec import Scalar
from runyard.core.sweep import expand, parse_set


@dataclass(frozen=True, slots=True)
class Order:
    """What ``train`` is asked to do. ``model``: a folder or zip, None when the manifest needs no code; ``manifest``:
    YAML text; ``sets``: texts such as ``lr=0.1,0.01`` (``zipped`` pairs them); ``append_args``: hyper-parameters are
    appended to the command; ``limit``: the most bytes of the zip."""

    model: Path | None
    manifest: str = field(repr=False)
    sets: tuple[str, ...] = ()
    zipped: bool = False
    append_args: bool = False
    force: bool = False
    overrides: Overrides = field(default_factory=Overrides)
    limit: int = LIMIT
    agent: str = "sdk"


class Watching:
    """Hears how a submission gets on; does nothing unless told otherwise."""

    def packed(self, packed: Packed) -> None:
        """The model definition is packed."""

    def progress(self) -> Progress | None:
        """What to tell of the upload's progress, None for nothing. Asked only when there is an upload."""
        return None


def parameters_of(sets: Iterable[str], *, zipped: bool) -> tuple[dict[str, Scalar], ...]:
    """The hyper-parameters of each run of a sweep; empty when nothing is set. Raises :class:`Misuse`."""
    try:
        axes = [parse_set(text) for text in sets]
        return expand(axes, zipped=zipped) if axes else ()
    except ValueError as error:
        raise Misuse(str(error)) from error


def submit(
    client: Client, order: Order, *, idempotency_key: str | None = None, watching: Watching | None = None
) -> Submitted:
    """Pack, upload unless it is there already, and submit."""
    parameters = parameters_of(order.sets, zipped=order.zipped)
    watching = watching or Watching()
    with nullcontext() if order.model is None else packed(order.model, order.limit) as found:
        if found is not None:
            watching.packed(found)
            upload(client, found, watching)
        return client.submit(_submission(order, parameters, found), idempotency_key=idempotency_key)


def check(client: Client, order: Order, *, watching: Watching | None = None) -> Checked:
    """What :func:`submit` would do; the model definition is packed and uploaded, no run is made."""
    parameters = parameters_of(order.sets, zipped=order.zipped)
    watching = watching or Watching()
    with nullcontext() if order.model is None else packed(order.model, order.limit) as found:
        if found is not None:
            watching.packed(found)
            upload(client, found, watching)
        return client.check(_submission(order, parameters, found))


def upload(client: Client, found: Packed, watching: Watching | None = None) -> None:
    """Send a zip, unless the service has it."""
    if client.has_definition(found.sha256):
        return
    progress = (watching or Watching()).progress()
    client.upload_definition(found.path, found.sha256, mentions_config=found.mentions_config, progress=progress)


def _submission(order: Order, parameters: Sequence[Mapping[str, Scalar]], found: Packed | None) -> Submission:
    names = () if found is None else found.names
    return Submission(
        manifest=order.manifest,
        definition=None if found is None else found.sha256,
        parameters=parameters,
        append_args=order.append_args,
        force=order.force,
        overrides=order.overrides,
        provenance=provenance(order.model, names, order.agent),
    )


def read_manifest(manifest: str | Path) -> str:
    """A manifest's text: ``manifest`` is a path, or the text itself when it has more than one line."""
    if isinstance(manifest, str) and "\n" in manifest:
        return manifest
    try:
        return Path(manifest).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Misuse(f"The manifest {manifest} is no UTF-8 text: save it as UTF-8.") from error
    except OSError as error:
        raise Misuse(f"The manifest {manifest} cannot be read: {error.strerror}.") from error


def train(
    model: str | Path | None,
    manifest: str | Path,
    *,
    sets: Sequence[str] | Mapping[str, object] = (),
    zipped: bool = False,
    append_args: bool = False,
    force: bool = False,
    overrides: Overrides | None = None,
    idempotency_key: str | None = None,
    client: Client | None = None,
) -> list[Run]:
    """Submit training runs and tell them as they were accepted.

    ``model``: a folder or zip. ``manifest``: a path, or YAML text. ``sets``: texts as on the command line,
    ``["lr=0.1,0.01", "width=16..64:4"]``, or a mapping of lists, ``{"lr": [0.1, 0.01]}``; all combinations are run,
    ``zipped`` pairs them. ``append_args``: hyper-parameters are appended to the command as ``--name value``.

    >>> runs = runyard.train("mnist", "mnist/manifest.yml", sets=["lr=0.1,0.01"])
    >>> runyard.wait(runs)
    """
    order = Order(
        model=None if model is None else Path(model),
        manifest=read_manifest(manifest),
        sets=set_texts(sets),
        zipped=zipped,
        append_args=append_args,
        force=force,
        overrides=overrides or Overrides(),
    )
    client = client or Client()
    submitted = submit(client, order, idempotency_key=idempotency_key)
    runs = fetch(client, submitted.ids)
    return [runs[each] for each in submitted.ids]


def set_texts(sets: Sequence[str] | Mapping[str, object]) -> tuple[str, ...]:
    """``sets`` as the texts of ``--set``: they are, or a mapping of names to a value or a list of them."""
    if isinstance(sets, str):
        return (sets,)
    if not isinstance(sets, Mapping):
        return tuple(sets)
    return tuple(f"{name}={_values(value)}" for name, value in sets.items())


def _values(value: object) -> str:
    several = value if isinstance(value, list | tuple) else (value,)  # pyright: ignore[reportUnknownVariableType]  # any items
    return ",".join(_literal(each) for each in several)  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]  # any items


def _literal(value: object) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)


def wait(
    runs: str | Run | Sequence[str | Run], timeout: float | None = None, *, client: Client | None = None
) -> list[Run]:
    """Wait until all are final; see :meth:`Client.wait`."""
    return (client or Client()).wait(runs, timeout)
