"""The node: stages code and data, launches programs under shims, watches them, ships their logs, stores their results.

Started as ``python -m runyard.node``; docs/rooms/node.md describes it.
"""
