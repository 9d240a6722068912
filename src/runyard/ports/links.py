"""The server's end of the streams on which nodes get their orders."""

from __future__ import annotations

from typing import Protocol


class OrderStream(Protocol):
    """One connected node's stream."""

    async def next(self, timeout_s: float) -> bytes | None:
        """The lines that are due, as soon as there are any; empty after the timeout; None when the stream is over
        because the node has connected again."""
        ...


class NodeLinks(Protocol):
    """Streams by node."""

    def connect(self, node_id: str) -> OrderStream:
        """Open a node's stream (in the loop's thread); an older one of the same node is over."""
        ...

    def is_connected(self, node_id: str) -> bool:
        """Whether the node has a stream now. From any thread."""
        ...

    def disconnect(self, node_id: str, stream: OrderStream) -> bool:
        """Close a stream. True when it was the node's current one: the node is gone."""
        ...

    def end_all(self) -> None:
        """End every stream: each node connects again and is given all that still holds. From any thread."""
        ...
