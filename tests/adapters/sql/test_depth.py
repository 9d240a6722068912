"""What must not cost more in a deep queue, counted in steps of SQLite's machine: no clock, so no flicker."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from runyard.adapters.sql import SqlStore, open_store
from runyard.core import lifecycle
from runyard.core.run import StateName, StopCause
from runyard.ports.store import RunQuery
from runyard.testing.builders import NOW, a_run_id, a_spec, a_submission
from runyard.testing.lives import accept, finish, known, start, step

SHALLOW, DEEP = 100, 10_000
GRAIN = 5
"""Steps between two calls of the counter."""


class Deep:
    """A store with runs of two specs waiting: ``depth`` of one that are ready, and as many that are not."""

    def __init__(self, path: Path, depth: int) -> None:
        self.steps = 0
        self._drivers: list[sqlite3.Connection] = []
        event.listen(sa.pool.Pool, "connect", self._connected)
        try:
            self.store: SqlStore = open_store(f"sqlite:///{path}")
            accept(self.store, spec=a_spec(tags=("x",)))
            self.store.submit(a_submission(depth, first=1000))
            self.store.mark_staged(2, "n1", NOW)
            self.store.submit(a_submission(depth, first=1000 + depth, spec=a_spec(tags=("x",))))
            finish(self.store, known(self.store, a_run_id(1000)))
            start(self.store, known(self.store, a_run_id(1001)))
        finally:
            event.remove(sa.pool.Pool, "connect", self._connected)

    def _connected(self, driver: sqlite3.Connection, _record: object) -> None:
        self._drivers.append(driver)

    def _count(self) -> int:
        self.steps += 1
        return 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        for driver in self._drivers:
            driver.set_progress_handler(self._count, GRAIN)
        yield
        for driver in self._drivers:
            driver.set_progress_handler(None, GRAIN)

    def cost(self, action: Callable[[SqlStore], object]) -> int:
        """Steps of the second time: the first may find an empty page or compile a statement."""
        action(self.store)
        self.steps = 0
        with self.counting():
            action(self.store)
        return self.steps


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deep, Deep]]:
    folder = tmp_path_factory.mktemp("depth")
    shallow, deep = Deep(folder / "shallow.db", SHALLOW), Deep(folder / "deep.db", DEEP)
    yield shallow, deep
    shallow.store.close()
    deep.store.close()


def cancel_an_unready_run(store: SqlStore) -> None:
    run = store.runs(RunQuery("acme", frozenset({StateName.waiting}), limit=1))[0]
    step(store, lifecycle.stop(run, StopCause.cancel, NOW))


def run_the_first(store: SqlStore) -> None:
    finish(store, known(store, store.classes(NOW, 1)[0].heads[0].run_id), duration_ms=5)


def move_to_the_front(store: SqlStore) -> None:
    assert store.set_rank(store.waiting_page(None, 7)[-1].id, 2, NOW)


def submit_one(store: SqlStore) -> None:
    store.submit(a_submission(first=10**6 + store.last_seq()))


ACTIONS: dict[str, Callable[[SqlStore], object]] = {
    "classes": lambda store: store.classes(NOW, 16),
    "specs_to_stage": lambda store: store.specs_to_stage(4),
    "waiting_of_spec": lambda store: store.waiting_of_spec(3, 4),
    "waiting_page": lambda store: store.waiting_page("acme", 10),
    "run": lambda store: store.run(a_run_id(1050)),
    "run_ids": lambda store: store.run_ids("acme", a_run_id(1050), 5),
    "runs": lambda store: store.runs(RunQuery("acme", limit=10)),
    "runs by state": lambda store: store.runs(
        RunQuery("acme", frozenset({StateName.running, StateName.waiting}), limit=5)
    ),
    "runs by state, of all": lambda store: store.runs(RunQuery(None, frozenset({StateName.completed}), limit=5)),
    "runs by tag": lambda store: store.runs(RunQuery("acme", tag="x", limit=5)),
    "counts": lambda store: store.counts("acme"),
    "holdings": lambda store: store.holdings(),
    "active_runs": lambda store: store.active_runs("n1"),
    "requeued_runs": lambda store: store.requeued_runs("n1"),
    "typical_duration_ms": lambda store: store.typical_duration_ms(2, "acme"),
    "ahead_of the first": lambda store: store.ahead_of(store.waiting_page(None, 1)[0]),
    "events": lambda store: store.events(store.last_seq() - 5, 10, account_id="acme"),
    "events of a run": lambda store: store.events(0, 10, run_id=a_run_id(1000)),
    "latest_event_ms": lambda store: store.latest_event_ms(),
    "usage": lambda store: store.usage("acme", "account", None, None),
    "a run's life": run_the_first,
    "a cancel": cancel_an_unready_run,
    "a move": move_to_the_front,
    "a submission": submit_one,
}


@pytest.mark.parametrize("action", ACTIONS)
def test_the_cost_does_not_grow_with_the_depth(stores: tuple[Deep, Deep], action: str) -> None:
    shallow, deep = (store.cost(ACTIONS[action]) for store in stores)
    assert deep <= shallow * 1.5 + 100


def test_the_measure_sees_depth(stores: tuple[Deep, Deep]) -> None:
    shallow, deep = (store.cost(lambda store: store.waiting_page(None, 10**6)) for store in stores)
    assert deep > 50 * shallow
