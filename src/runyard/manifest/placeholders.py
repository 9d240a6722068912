"""Connections that an example leaves open (``endpoint_url: ...``): the embedded store stands in for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from runyard.manifest.findings import Findings
from runyard.manifest.nodes import Entry, ListNode, MapNode, Node, ScalarNode
from runyard.manifest.paths import without

OPEN: Final = "..."
_HOLDERS: Final = frozenset({"training_data_reference", "training_results_reference", "data_stores"})
_NOTE: Final = (
    "`{where}` holds nothing but `...`, as an example does: the embedded store is taken instead. `runyard data push` "
    "puts data there; a connection of your own goes in its place."
)


def without_open_connections(root: Node, findings: Findings) -> Node:
    """The tree in which references whose connection is left open are of the embedded store, with a note each."""
    if not isinstance(root, MapNode):
        return root
    entries = tuple(
        replace(entry, value=_closed(entry.value, entry.key, findings)) if entry.key in _HOLDERS else entry
        for entry in root.entries
    )
    return replace(root, entries=entries)


def _closed(node: Node, where: str, findings: Findings) -> Node:
    if isinstance(node, ListNode):
        items = tuple(_closed(item, f"{where}[{index}]", findings) for index, item in enumerate(node.items))
        return replace(node, items=items)
    connection = node.get("connection") if isinstance(node, MapNode) else None
    if not isinstance(node, MapNode) or connection is None or not _is_open(connection):
        return node
    findings.notes.append(_NOTE.format(where=f"{where}.connection"))
    kept = without(without(node, "connection"), "type")
    assert isinstance(kept, MapNode)
    entries = tuple(
        replace(entry, value=without(entry.value, "type")) if entry.key in ("source", "target") else entry
        for entry in kept.entries
    )
    return replace(kept, entries=(*entries, Entry("type", node.line, ScalarNode("local", node.line))))


def _is_open(connection: Node) -> bool:
    """Whether nothing is said: `...`, `{...}`, or a table whose every value is `...`."""
    if isinstance(connection, ScalarNode):
        return connection.text == OPEN
    if not isinstance(connection, MapNode) or not connection.entries:
        return False
    return all(_says_nothing(entry) for entry in connection.entries)


def _says_nothing(entry: Entry) -> bool:
    value = entry.value
    return isinstance(value, ScalarNode) and (value.text == OPEN or (entry.key == OPEN and value.null))
