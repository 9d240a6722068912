"""Older manifests brought over: keys under the names they have here, and without those that have no effect."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

from runyard.manifest import ffdl, service
from runyard.manifest.findings import Findings
from runyard.manifest.kinds import Many
from runyard.manifest.nodes import Entry, ListNode, MapNode, Node, ScalarNode, compose
from runyard.manifest.parsing import dialect_of
from runyard.manifest.paths import put
from runyard.manifest.placeholders import without_open_connections
from runyard.manifest.tables import Table
from runyard.manifest.writing import write

HEAD: Final = "Brought over by `runyard generate-manifest --from`; the comments of the original are not kept."
_WIDTH: Final = 100


@dataclass(frozen=True, slots=True)
class Conversion:
    """A manifest on its way: its tree (which holds its secrets), its dialect, and what was changed, in sentences."""

    root: Node = field(repr=False)
    dialect: str
    notes: tuple[str, ...] = ()

    @property
    def body(self) -> str:
        """The manifest without its notes."""
        return write(self.root)

    def with_framework(self, framework: str, note: str) -> Conversion:
        """With another framework, ``NAME`` or ``NAME:VERSION``."""
        place = ("model_definition", "framework") if self.dialect == "service" else ("framework",)
        root = self.root
        for key, value in zip(("name", "version"), framework.split(":"), strict=False):
            root = put(root, (*place, key), ScalarNode(value, plain=False))
        return replace(self, root=root, notes=(*self.notes, note))

    def text(self, left: Sequence[str] = ()) -> str:
        """The manifest, with its notes and what is ``left`` to do as comments at its top."""
        said = [HEAD, *self.notes, *(f"TO DO: {each}" for each in left)]
        return "\n".join(line for each in said for line in _comment(each)) + "\n" + self.body


def modernise(text: str) -> Conversion:
    """Read a manifest of either dialect and give its keys the names that they have here.

    Raises :class:`~runyard.core.errors.ManifestError` for text that is no manifest; what a key holds is not looked at.
    """
    findings = Findings()
    root = without_open_connections(compose(text), findings)
    dialect = dialect_of(root, findings)
    notes = list(findings.notes)
    modern = _modern(root, service.TABLE if dialect == "service" else ffdl.TABLE, "", notes)
    return Conversion(modern, dialect, tuple(notes))


def _modern(node: Node, kind: object, path: str, notes: list[str]) -> Node:
    if isinstance(kind, Many):
        inner = cast("Many[object]", kind).kind
        if isinstance(node, ListNode):
            items = (_modern(item, inner, f"{path}[{index}]", notes) for index, item in enumerate(node.items))
            return replace(node, items=tuple(items))
        return _modern(node, inner, path, notes)
    if not isinstance(kind, Table) or not isinstance(node, MapNode):
        return node
    entries = (_entry(entry, kind, path, notes) for entry in node.entries)
    return replace(node, entries=tuple(entry for entry in entries if entry is not None))


def _entry(entry: Entry, table: Table, path: str, notes: list[str]) -> Entry | None:
    key = table.spellings.get(entry.key)
    if key is None:
        return entry
    where = f"{path}.{key.name}".removeprefix(".")
    if key.unused:
        notes.append(f"`{where}` was taken out: it {key.unused}")
        return None
    if isinstance(entry.value, ScalarNode) and entry.value.null:
        return None if not key.required else entry
    if entry.key != key.name:
        notes.append(f"`{where}` was called `{entry.key}`.")
    return Entry(key.name, entry.line, _modern(entry.value, key.kind, where, notes))


def _comment(sentence: str) -> list[str]:
    return textwrap.wrap(
        " ".join(sentence.split()),
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )
