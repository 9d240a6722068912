"""A tree of nodes to YAML text that is read back as the same tree."""

from __future__ import annotations

from typing import Any, Final

import yaml

from runyard.manifest.nodes import ListNode, Node, ScalarNode

_STR: Final = "tag:yaml.org,2002:str"
_YAML: Final[Any] = yaml  # its types are not told in full


def write(root: Node) -> str:
    """The tree as YAML, in blocks; words that stood without quotes do so again."""
    return str(_YAML.serialize(_native(root), Dumper=yaml.SafeDumper, allow_unicode=True, width=1_000_000))


def _native(node: Node) -> Any:
    """The node as PyYAML's own. What stood between quotes does so again: whether a word is a number is for the reader
    of a key to say, and not for YAML."""
    if isinstance(node, ScalarNode):
        return (
            _plain(node.text)
            if node.plain
            else yaml.ScalarNode(_STR, node.text, style="|" if "\n" in node.text else "'")
        )
    if isinstance(node, ListNode):
        return yaml.SequenceNode("tag:yaml.org,2002:seq", [_native(item) for item in node.items], flow_style=False)
    pairs = [(yaml.ScalarNode(_STR, entry.key), _native(entry.value)) for entry in node.entries]
    return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=False)


def _plain(text: str) -> Any:
    """A word without quotes; the tag that it would be read with makes the writer put none in front of it."""
    return yaml.ScalarNode(_YAML.resolver.Resolver().resolve(yaml.ScalarNode, text, (True, False)), text)
