"""Setting values in a manifest's tree by their path, as ``--override a.b[0].c=value`` does."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TypeAlias

from runyard.core.errors import ManifestError
from runyard.manifest.nodes import Entry, ListNode, MapNode, Node, ScalarNode, compose, describe

Step: TypeAlias = str | int
_STEP = re.compile(r'\.?(?:"(?P<quoted>[^"]+)"|(?P<key>[^.\[\]"]+)|\[(?P<index>[0-9]{1,4})\])')
MAX_STEPS = 16


def steps(path: str) -> tuple[Step, ...]:
    """Split ``a.b[0]."c.d"`` into its steps. Raises ``ValueError``."""
    found: list[Step] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or (match[0].startswith(".") == (position == 0) and match["index"] is None):
            raise ValueError("This is no path: write it like model_definition.execution.command or data_stores[0].id.")
        found.append(int(match["index"]) if match["index"] else match["quoted"] or match["key"])
        position = match.end()
    if not found or len(found) > MAX_STEPS:
        raise ValueError(f"A path has 1 to {MAX_STEPS} steps.")
    return tuple(found)


def value_node(text: str) -> Node:
    """A value given on the command line: as it is, or as YAML where it begins with a quote or a bracket.

    Raises ``ValueError``.
    """
    if not text.lstrip().startswith(("[", "{", '"', "'")):
        return ScalarNode(text.strip())
    try:
        return _lineless(compose(text))
    except ManifestError as error:
        raise ValueError(error.problems[0].message) from None


def put(root: Node | None, path: tuple[Step, ...], value: Node) -> Node:
    """The tree with ``value`` at ``path``; tables on the way are made. Raises ``ValueError``."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if root is None or (isinstance(root, ScalarNode) and root.null):
        root = MapNode() if isinstance(step, str) else ListNode()
    if isinstance(step, str):
        return _put_key(root, step, rest, value)
    if not isinstance(root, ListNode) or step > len(root.items):
        there = f"{len(root.items)} items" if isinstance(root, ListNode) else describe(root)
        raise ValueError(f"There is no place [{step}] in {there}.")
    inner = root.items[step] if step < len(root.items) else None
    items = (*root.items[:step], put(inner, rest, value), *root.items[step + 1 :])
    return replace(root, items=items)


def without(root: Node, key: str) -> Node:
    """The mapping without ``key``; anything else as it is."""
    if not isinstance(root, MapNode):
        return root
    return replace(root, entries=tuple(entry for entry in root.entries if entry.key != key))


def _put_key(root: Node, key: str, rest: tuple[Step, ...], value: Node) -> Node:
    if not isinstance(root, MapNode):
        raise ValueError(f"There is {describe(root)} where a table of keys is needed.")
    for index, entry in enumerate(root.entries):
        if entry.key == key:
            changed = Entry(key, entry.line, put(entry.value, rest, value))
            return replace(root, entries=(*root.entries[:index], changed, *root.entries[index + 1 :]))
    return replace(root, entries=(*root.entries, Entry(key, 0, put(None, rest, value))))


def _lineless(node: Node) -> Node:
    """The node without the lines of the option that it was written in."""
    if isinstance(node, ScalarNode):
        return replace(node, line=0)
    if isinstance(node, ListNode):
        return ListNode(tuple(map(_lineless, node.items)))
    return MapNode(tuple(Entry(entry.key, 0, _lineless(entry.value)) for entry in node.entries))
