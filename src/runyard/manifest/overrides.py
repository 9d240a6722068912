"""What the command line lays over a manifest, as changes of its tree: so that one set of rules checks both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runyard.core.spec import Connection, Location, StoreKind
from runyard.manifest import paths
from runyard.manifest.findings import Findings, Place
from runyard.manifest.nodes import ListNode, MapNode, Node, ScalarNode
from runyard.manifest.paths import Step
from runyard.manifest.stores import Bucket, Reference

_HEADS: Final[dict[str, tuple[Step, ...]]] = {"service": ("model_definition",), "ffdl": ()}


@dataclass(frozen=True, slots=True)
class Overrides:
    """Options of ``train`` and ``run`` that change what the manifest says; None and empty change nothing.

    ``tags`` and ``after`` are added, ``env`` is laid over, name by name; ``framework`` is ``NAME`` or ``NAME:VERSION``;
    ``paths`` sets values by path before anything else (``--override path=value``); ``data`` are buckets of the embedded
    store, ``BUCKET[/PREFIX]``, instead of the data references of the manifest.
    """

    name: str | None = None
    tags: tuple[str, ...] = ()
    priority: int | None = None
    max_runtime_ms: int | None = None
    gpus: int | None = None
    framework: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    after: tuple[str, ...] = ()
    python: str | None = None
    paths: tuple[tuple[str, str], ...] = ()
    data: tuple[str, ...] = ()


NO_OVERRIDES: Final = Overrides()


def with_paths(root: Node, overrides: Overrides, findings: Findings) -> Node:
    """The tree with each ``--override`` set in it."""
    for path, text in overrides.paths:
        try:
            root = paths.put(root, paths.steps(path), paths.value_node(text))
        except ValueError as error:
            findings.add(str(error), 0, path)
    return root


def with_options(root: Node, overrides: Overrides, dialect: str, findings: Findings) -> Node:
    """The tree of a manifest of ``dialect`` with the other options set in it, except ``data``."""
    for path, node in _changes(root, overrides, dialect):
        try:
            root = paths.put(root, path, node)
        except ValueError as error:
            findings.add(str(error), 0, ".".join(map(str, path)))
    if overrides.data:
        root = _without_data(root, dialect)
    return root


def data_references(overrides: Overrides, findings: Findings) -> tuple[tuple[Reference, Place], ...]:
    """The references that ``--data`` makes; each is called by its bucket, with the prefix where two have the same."""
    places = [Place(findings, f"--data[{index}]") for index in range(len(overrides.data))]
    read = [Bucket().read(ScalarNode(text), place) for text, place in zip(overrides.data, places, strict=True)]
    buckets = [found[0] for found in read if found is not None]
    references: list[tuple[Reference, Place]] = []
    for found, place in zip(read, places, strict=True):
        if found is not None:
            name = found[0] if buckets.count(found[0]) == 1 else "_".join(filter(None, found)).replace("/", "_")
            references.append((Reference(Location(StoreKind.local, Connection(), *found, name)), place))
    return tuple(references)


def _changes(root: Node, overrides: Overrides, dialect: str) -> list[tuple[tuple[Step, ...], Node]]:
    head = _HEADS[dialect]
    changes: list[tuple[tuple[Step, ...], Node]] = []
    if overrides.name is not None:
        changes.append(((*head, "name"), _quoted(overrides.name)))
    if overrides.framework is not None:
        name, _, version = overrides.framework.partition(":")
        changes.append(((*head, "framework", "name"), _quoted(name)))
        changes.append(((*head, "framework", "version"), ScalarNode(version)))
    if overrides.gpus is not None and dialect == "ffdl":
        changes.append((("gpus",), ScalarNode(str(overrides.gpus))))
    if overrides.priority is not None:
        changes.append((("runyard", "priority"), ScalarNode(str(overrides.priority))))
    if overrides.max_runtime_ms is not None:
        changes.append((("runyard", "max_runtime"), ScalarNode(f"{overrides.max_runtime_ms}ms")))
    if overrides.python is not None:
        changes.append((("runyard", "python"), _quoted(overrides.python)))
    changes += [(("runyard", "env", name), _quoted(value)) for name, value in overrides.env]
    for key, added in (("tags", overrides.tags), ("after", overrides.after)):
        if added:
            changes.append((("runyard", key), _added(root, key, added)))
    return changes


def _added(root: Node, key: str, added: tuple[str, ...]) -> Node:
    """The list ``runyard.key`` of the tree with ``added`` at its end."""
    table = root.get("runyard") if isinstance(root, MapNode) else None
    present = table.get(key) if isinstance(table, MapNode) else None
    items: tuple[Node, ...] = present.items if isinstance(present, ListNode) else () if present is None else (present,)
    kept = tuple(item for item in items if not (isinstance(item, ScalarNode) and item.null))
    return ListNode((*kept, *map(_quoted, added)), present.line if present is not None else 0)


def _without_data(root: Node, dialect: str) -> Node:
    if dialect == "service" or not isinstance(root, MapNode):
        return paths.without(root, "training_data_reference")
    stores = root.get("data_stores")
    if not isinstance(stores, ListNode):
        return root
    kept = [paths.without(store, "training_data") for store in stores.items]
    used = tuple(store for store in kept if isinstance(store, MapNode) and store.get("training_results") is not None)
    return paths.put(root, ("data_stores",), ListNode(used, stores.line))


def _quoted(text: str) -> ScalarNode:
    return ScalarNode(text, plain=False)
