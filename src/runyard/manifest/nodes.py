"""YAML text to a tree of nodes that know their lines. All that is known of YAML is here.

The tree is built from the parser's events, so that size, depth and the expansion of aliases are bounded while it
grows; what would come after is never read. Plain words keep their text: it is the reader of a key that knows
whether 1.5 is a number or a version. No message repeats text of the manifest, for it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml

from runyard.core.errors import ManifestError, Problem

MAX_BYTES: Final = 1 << 20
MAX_NODES: Final = 50_000
MAX_DEPTH: Final = 32
_TOO_DEEP: Final = f"The manifest is nested more than {MAX_DEPTH} levels deep."
_MERGE = "<<"
_NULLS = frozenset(["", "~", "null", "Null", "NULL"])
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser: libyaml's where PyYAML was built with it, else the slower one of the same rules."""


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A single value; ``plain`` when it stands without quotes. Its text is not shown: it may be a secret."""

    text: str = field(repr=False)
    line: int = 0
    plain: bool = True

    @property
    def null(self) -> bool:
        """Whether this is YAML's way to say nothing."""
        return self.plain and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list."""

    items: tuple[Node, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping and its value."""

    key: str
    line: int
    value: Node


@dataclass(frozen=True, slots=True)
class MapNode:
    """A mapping. A key may stand in it twice: the reader says so, knowing whether the key may be shown."""

    entries: tuple[Entry, ...] = ()
    line: int = 0

    def get(self, key: str) -> Node | None:
        """The value of the first ``key``, None where there is none."""
        return next((entry.value for entry in self.entries if entry.key == key), None)


Node: TypeAlias = ScalarNode | ListNode | MapNode


def describe(node: Node) -> str:
    """What a node is, in words for a message."""
    if isinstance(node, ScalarNode):
        return "nothing" if node.null else "a single value"
    return "a list" if isinstance(node, ListNode) else "a table of keys"


def compose(text: str, *, loader: Any = LOADER) -> Node:
    """Read one YAML document with one of PyYAML's safe loaders.

    Raises :class:`ManifestError`; memory and time are bounded whatever the text holds.
    """
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        raise _refusal("A manifest has at most 1 MiB of text.")
    if (found := _UNPRINTABLE.search(text)) is not None:
        code = f"U+{ord(found[0]):04X}"
        raise _refusal(f"The character {code} has no place in a manifest.", 1 + text.count("\n", 0, found.start()))
    try:
        return _Composer(iter(yaml.parse(text, Loader=loader))).document()
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text) from None
    except yaml.YAMLError:
        raise _refusal("This is not YAML.") from None


@dataclass(slots=True)
class _Composer:
    """Builds the tree of one document from the parser's events, within the limits."""

    events: Iterator[Any]
    anchors: dict[str, tuple[Node, int, int]] = field(default_factory=dict[str, tuple[Node, int, int]])
    nodes: int = 0
    deepest: int = 0

    def document(self) -> Node:
        next(self.events)  # the start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            raise _refusal("The manifest is empty: `runyard generate-manifest` writes one to begin with.")
        root = self._node(next(self.events), 1)
        next(self.events)  # the end of the document
        if not isinstance(event := next(self.events), yaml.StreamEndEvent):
            raise _refusal("There is a second document after `---`: a manifest is one.", _line(event))
        return root

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        self._count(event, 1, depth)
        before, deepest = self.nodes - 1, self.deepest
        self.deepest = depth
        if getattr(event, "tag", None) is not None:
            raise _refusal("A tag (a value that begins with `!`) is not accepted: quote the value.", _line(event))
        node = self._collection(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.nodes - before, self.deepest - depth)
        self.deepest = max(self.deepest, deepest)
        return node

    def _collection(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            if _UNPRINTABLE.search(event.value):
                raise _refusal("A value holds a control character: write the text itself.", _line(event))
            return ScalarNode(event.value, _line(event), event.implicit[0])
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(following := next(self.events), yaml.SequenceEndEvent):
                items.append(self._node(following, depth + 1))
            return ListNode(tuple(items), _line(event))
        return self._mapping(event, depth)

    def _mapping(self, event: Any, depth: int) -> MapNode:
        entries: list[Entry] = []
        merged: list[Node] = []
        while not isinstance(following := next(self.events), yaml.MappingEndEvent):
            key = self._node(following, depth + 1)
            if not isinstance(key, ScalarNode):
                raise _refusal("A key must be a word.", _line(following))
            value = self._node(next(self.events), depth + 1)
            if key.plain and key.text == _MERGE:
                merged.append(value)
            else:
                entries.append(Entry(key.text, _line(following), value))
        for value in merged:
            entries += _merge(entries, value)
        return MapNode(tuple(entries), _line(event))

    def _alias(self, event: Any, depth: int) -> Node:
        found = self.anchors.get(event.anchor)
        if found is None:
            text = (
                "An alias (a value that begins with `*`) stands for nothing written before it: quote what is no alias."
            )
            raise _refusal(text, _line(event))
        node, nodes, height = found
        self._count(event, nodes, depth + height)
        self.deepest = max(self.deepest, depth + height)
        return node

    def _count(self, event: Any, nodes: int, depth: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _refusal(f"The manifest holds more than {MAX_NODES} values, aliases written out.", _line(event))
        if depth > MAX_DEPTH:
            raise _refusal(_TOO_DEEP, _line(event))


def _merge(entries: list[Entry], value: Node) -> list[Entry]:
    """The entries that ``<<: value`` adds."""
    sources = value.items if isinstance(value, ListNode) else (value,)
    seen = {entry.key for entry in entries}
    added: list[Entry] = []
    for source in sources:
        if not isinstance(source, MapNode):
            raise _refusal("`<<` takes in another table of keys, or a list of such.", value.line)
        added += [entry for entry in source.entries if entry.key not in seen]
        seen.update(entry.key for entry in source.entries)
    return added


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _refusal(message: str, line: int = 0) -> ManifestError:
    return ManifestError((Problem(message, line),))


def _explained(error: yaml.MarkedYAMLError, text: str) -> ManifestError:
    """Say in words what the parser stumbled on. Its own words are fixed ones, save where they name a tag."""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 0
    start = error.context_mark.line + 1 if error.context_mark is not None else line
    problem = error.problem or ""
    written = text.splitlines()[line - 1 : line]
    if "maximum nesting depth" in problem:
        sentence = _TOO_DEEP
    elif written and re.match(r" *\t", written[0]):
        sentence = "A tab begins this line: indent with spaces."
    elif "cannot start any token" in problem:
        sentence = "A value begins with a character that YAML keeps for itself: quote the value."
    elif "mapping values are not allowed" in problem:
        sentence = "A colon stands where no key can be: quote the value that holds it, or look at the indentation."
    elif "end of stream" in problem and "quoted" in (error.context or ""):
        sentence = f"The quote that begins on line {start} is never closed."
    elif "escape" in problem:
        sentence = "A backslash between double quotes stands for no character: use single quotes, or double it."
    elif "could not find expected ':'" in problem:
        sentence = f"A key without a colon, on this line or from line {start} on."
    elif "tag" in problem or "tag" in (error.context or ""):
        sentence = "A tag (a value that begins with `!`) is not accepted: quote the value."
    elif "did not find expected" in problem or "expected <" in problem:
        sentence = f"The indentation or a bracket does not fit what began on line {start}."
    else:
        sentence = "This is not YAML: look at the indentation, the quotes and the brackets hereabouts."
    return _refusal(sentence, line)
