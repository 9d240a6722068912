"""Requests of the engine as orders on the nodes' streams."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress

from runyard.adapters.node.orders import launch_order, stage_order, store_order
from runyard.core.run import StopCause
from runyard.ports.caches import NO_AGES, Ages, CacheAction
from runyard.ports.executor import LaunchRequest, StageRequest, StoreRequest
from runyard.ports.links import OrderStream
from runyard.wire import orders


class Outbox:
    """Lines for one connected node: put from any thread, taken in the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lines: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._over = False

    def put(self, line: bytes) -> None:
        """Add a line; nothing is kept once the loop is closed."""
        self._lines.append(line)
        self._wake()

    def end(self) -> None:
        """No more lines are taken from here."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody reads any more
            self._loop.call_soon_threadsafe(self._filled.set)

    async def next(self, timeout_s: float) -> bytes | None:
        """Lines that are due, empty after the timeout, None when it is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._lines and not self._over:
                    await self._filled.wait()
                    self._filled.clear()
        except TimeoutError:
            return b""
        if self._over:
            return None
        taken = [self._lines.popleft() for _ in range(len(self._lines))]
        return b"".join(taken)


class NodeExecutor:
    """The executor port over nodes that are connected to this server.

    A request for a node that is away is dropped: all that still hold are given again when it connects.
    """

    def __init__(self) -> None:
        self._outboxes: dict[str, Outbox] = {}
        self._lock = threading.Lock()

    def connect(self, node_id: str) -> OrderStream:
        """Open a node's stream; to be called in the loop's thread."""
        outbox = Outbox(asyncio.get_running_loop())
        with self._lock:
            older = self._outboxes.get(node_id)
            self._outboxes[node_id] = outbox
        if older is not None:
            older.end()
        return outbox

    def end_all(self) -> None:
        """End every stream: each node connects again and is given all that still holds. From any thread."""
        with self._lock:
            streams = list(self._outboxes.values())
        for stream in streams:
            stream.end()

    def is_connected(self, node_id: str) -> bool:
        """Whether the node has a stream now. From any thread."""
        with self._lock:
            return node_id in self._outboxes

    def disconnect(self, node_id: str, stream: OrderStream) -> bool:
        """Close a stream; True when it was the node's current one."""
        with self._lock:
            if self._outboxes.get(node_id) is not stream:
                return False
            del self._outboxes[node_id]
            return True

    def _send(self, node_id: str, order: orders.Order) -> None:
        with self._lock:
            outbox = self._outboxes.get(node_id)
        if outbox is not None:
            outbox.put(orders.encode(order))

    def stage(self, request: StageRequest) -> None:
        """Fetch and unpack."""
        self._send(request.node_id, stage_order(request))

    def launch(self, request: LaunchRequest) -> None:
        """Start the program."""
        self._send(request.node_id, launch_order(request))

    def stop(self, node_id: str, run_id: str, attempt: int, cause: StopCause, grace_ms: int) -> None:
        """End the program."""
        self._send(node_id, orders.Stop(run_id, attempt, cause.value, grace_ms))

    def withdraw(self, node_id: str, run_id: str, attempt: int) -> None:
        """Take a grant back."""
        self._send(node_id, orders.Withdraw(run_id, attempt))

    def store(self, request: StoreRequest) -> None:
        """Upload results, logs and evidence."""
        self._send(request.node_id, store_order(request))

    def stop_storing(self, node_id: str, run_id: str) -> None:
        """Give up storing."""
        self._send(node_id, orders.StopStoring(run_id))

    def release(self, node_id: str, run_id: str) -> None:
        """The run's folders may go."""
        self._send(node_id, orders.Release(run_id))

    def cache(self, node_id: str, number: int, action: CacheAction, bucket: str, ages: Ages = NO_AGES) -> None:
        """Do something with the cache of data."""
        self._send(node_id, orders.CacheCommand(number, action.value, bucket, ages.data_ms, ages.environments_ms))

    def put_back(self, node_id: str) -> None:
        """Give GPUs to runs again."""
        self._send(node_id, orders.PutBack())

    def synced(self, node_id: str, run_ids: tuple[str, ...]) -> None:
        """All orders that still hold have been given."""
        self._send(node_id, orders.Resync(run_ids))
