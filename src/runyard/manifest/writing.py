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
    """The node as PyYAML's own; a tag that is what the writer would read makes it write none."""
    if isinstance(node, ScalarNode):
        tag = _YAML.resolver.Resolver().resolve(yaml.ScalarNode, node.text, (True, False)) if node.plain else _STR
        return yaml.ScalarNode(tag, node.text, style="|" if "\n" in node.text else None)
    if isinstance(node, ListNode):
        return yaml.SequenceNode("tag:yaml.org,2002:seq", [_native(item) for item in node.items], flow_style=False)
    pairs = [(_native(ScalarNode(entry.key)), _native(entry.value)) for entry in node.entries]
    return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=False)
