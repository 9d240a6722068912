"""The executor over our own nodes: requests become wire orders on each node's stream."""

from runyard.adapters.node.executor import NodeExecutor

__all__ = ["NodeExecutor"]
