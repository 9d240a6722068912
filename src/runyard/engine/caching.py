"""Asking nodes about their caches of data, and waiting for the answers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from runyard.ports.caches import NO_AGES, Ages, CacheAction, CacheContent
from runyard.ports.executor import Executor

PATIENCE_S = 5.0


class Caches:
    """Questions that are on their way, and what the nodes have answered to them: memory, nothing more."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._asked: dict[int, dict[str, CacheContent | None]] = {}

    def ask(
        self,
        executor: Executor,
        node_ids: Sequence[str],
        action: CacheAction,
        bucket: str,
        patience_s: float = PATIENCE_S,
        ages: Ages = NO_AGES,
    ) -> dict[str, CacheContent | None]:
        """Give every node the order and wait for their answers; None for one that did not answer in time."""
        with self._changed:
            number = next(self._numbers)
            answers = self._asked[number] = dict.fromkeys(node_ids)
        try:
            for node_id in node_ids:
                executor.cache(node_id, number, action, bucket, ages)
            with self._changed:
                self._changed.wait_for(lambda: all(each is not None for each in answers.values()), patience_s)
        finally:
            with self._changed:
                del self._asked[number]
        return answers

    def heard(self, node_id: str, number: int, content: CacheContent) -> bool:
        """A node has answered; False: nobody waits for it any more."""
        with self._changed:
            answers = self._asked.get(number, {})
            if node_id not in answers:
                return False
            answers[node_id] = content
            self._changed.notify_all()
            return True
