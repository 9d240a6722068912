"""What must not cost more in a deep queue, counted in what the database does: no clock, so no flicker."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from runyard.adapters.sql import SqlStore, open_store
from runyard.core import lifecycle
from runyard.core.run import StateName, StopCause
from runyard.ports.store import RunQuery
from runyard.testing.builders import NOW, a_run_id, a_spec, a_submission
from runyard.testing.lives import accept, finish, known, start, step
from tests.adapters.sql.conftest import own_database

SHALLOW, DEEP = 100, 10_000
GRAIN = 5
"""Steps of SQLite's machine between two calls of the counter."""


class Meter:
    """What the statements of a store cost: steps of SQLite's machine, or blocks that PostgreSQL looked at."""

    def __init__(self) -> None:
        self._drivers: list[Any] = []
        self._steps = 0

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """Get to know the connections that are made meanwhile."""
        event.listen(sa.pool.Pool, "connect", self._meet)
        yield
        event.remove(sa.pool.Pool, "connect", self._meet)

    def _meet(self, driver: Any, _record: object) -> None:
        self._drivers.append(driver)

    def cost(self, action: Callable[[], object]) -> int:
        """What an action costs the second time: the first may compile a statement, or find an empty page."""
        action()
        if isinstance(self._drivers[0], sqlite3.Connection):
            return self._steps_of(action)
        before = self._blocks()
        action()
        return self._blocks() - before

    def settle(self, *, analyzed: bool) -> None:
        """Have PostgreSQL's statistics be those of a database that it has looked at, or had no time for yet; what it
        reads by itself would be counted."""
        driver = self._drivers[0]
        if not isinstance(driver, sqlite3.Connection):
            driver.execute("ALTER TABLE runs SET (autovacuum_enabled = off)")
            driver.execute("ANALYZE" if analyzed else "SELECT 1")
            driver.commit()

    def _steps_of(self, action: Callable[[], object]) -> int:
        self._steps = 0
        for driver in self._drivers:
            driver.set_progress_handler(self._count, GRAIN)
        action()
        for driver in self._drivers:
            driver.set_progress_handler(None, GRAIN)
        return self._steps

    def _count(self) -> int:
        self._steps += 1
        return 0

    def _blocks(self) -> int:
        for driver in self._drivers:
            driver.execute("SELECT pg_stat_force_next_flush()")
            driver.commit()
        looked = (
            "SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0)) "
            "FROM pg_statio_user_tables"
        )
        count = int(self._drivers[0].execute(looked).fetchone()[0])
        self._drivers[0].commit()
        return count


class Filled:
    """A store in which ``depth`` runs of one spec wait that are ready, and as many of another that are not. Before them
    all stand as many that are ready and wait for another run."""

    def __init__(self, url: str, depth: int, *, analyzed: bool) -> None:
        self._meter = Meter()
        with self._meter.meeting():
            self.store: SqlStore = open_store(url)
            self._meter.settle(analyzed=False)
            accept(self.store, spec=a_spec(tags=("x", "rare")))
            self.store.submit(a_submission(depth, first=500_000, after=(a_run_id(1),)))
            self.store.mark_staged(2, "n1", NOW)
            self.store.submit(a_submission(depth, first=1000))
            self.store.mark_staged(3, "n1", NOW)
            self.store.submit(a_submission(first=999, after=(a_run_id(1000),)))
            self.store.submit(a_submission(depth, first=1000 + depth, spec=a_spec(tags=("x",))))
            finish(self.store, known(self.store, a_run_id(1000)))
            start(self.store, known(self.store, a_run_id(1001)))
        self._meter.settle(analyzed=analyzed)

    def cost(self, action: Callable[[SqlStore], object]) -> int:
        return self._meter.cost(lambda: action(self.store))


@pytest.fixture(scope="module", params=["sqlite", "postgres", "postgres analyzed"])
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Filled, Filled]]:
    folder = tmp_path_factory.mktemp("depth")
    with ExitStack() as stack:
        if request.param == "sqlite":
            urls = [f"sqlite:///{folder}/{name}.db" for name in ("shallow", "deep")]
        else:
            server = request.getfixturevalue("postgres_server")
            urls = [stack.enter_context(own_database(server, name)) for name in ("shallow", "deep")]
        analyzed = "analyzed" in request.param
        shallow, deep = (
            Filled(url, depth, analyzed=analyzed) for url, depth in zip(urls, (SHALLOW, DEEP), strict=True)
        )
        yield shallow, deep
        shallow.store.close()
        deep.store.close()


def cancel_an_unready_run(store: SqlStore) -> None:
    run = store.runs(RunQuery("acme", frozenset({StateName.waiting}), limit=1))[0]
    step(store, lifecycle.stop(run, StopCause.cancel, NOW))


def cancel_some(store: SqlStore) -> None:
    found = store.listed(RunQuery("acme", frozenset({StateName.waiting}), limit=5))
    assert len(store.cancel_waiting("acme", [run_id for _seq, run_id in found], NOW)) == 5


def run_the_first(store: SqlStore) -> None:
    finish(store, known(store, store.classes(NOW, 1)[0].heads[0].run_id), duration_ms=5)


def move_to_the_front(store: SqlStore) -> None:
    assert store.set_rank(store.waiting_page(None, 7)[-1].id, 2, NOW)


def submit_one(store: SqlStore) -> None:
    store.submit(a_submission(first=10**6 + store.last_seq()))


ACTIONS: dict[str, Callable[[SqlStore], object]] = {
    "classes": lambda store: store.classes(NOW, 16),
    "specs_to_stage": lambda store: store.specs_to_stage(4),
    "waiting_of_spec": lambda store: store.waiting_of_spec(5, 4),
    "waiting_page": lambda store: store.waiting_page("acme", 10),
    "run": lambda store: store.run(a_run_id(1050)),
    "run_ids": lambda store: store.run_ids("acme", a_run_id(1050), 5),
    "runs_of": lambda store: store.runs_of([a_run_id(1050), a_run_id(1051)]),
    "dependencies": lambda store: store.dependencies([a_run_id(500_007), a_run_id(999)]),
    "blocked": lambda store: store.blocked(0, 5),
    "blocked, beyond the last": lambda store: store.blocked(known(store, a_run_id(999)).seq, 5),
    "dependents": lambda store: store.dependents([a_run_id(1000)], 10),
    "runs": lambda store: store.runs(RunQuery("acme", limit=10)),
    "runs by state": lambda store: store.runs(
        RunQuery("acme", frozenset({StateName.running, StateName.waiting}), limit=5)
    ),
    "runs by state, of all": lambda store: store.runs(RunQuery(None, frozenset({StateName.completed}), limit=5)),
    "runs by tag": lambda store: store.runs(RunQuery("acme", tag="x", limit=5)),
    "runs by a tag of one": lambda store: store.runs(RunQuery("acme", tag="rare", limit=5)),
    "runs by tag and a state of few": lambda store: store.runs(
        RunQuery("acme", frozenset({StateName.completed}), tag="x", limit=5)
    ),
    "runs by a tag of one and state": lambda store: store.runs(
        RunQuery("acme", frozenset({StateName.waiting}), tag="rare", limit=5)
    ),
    "runs by name": lambda store: store.runs(RunQuery("acme", name="digits", limit=5)),
    "runs by a name of none": lambda store: store.runs(RunQuery("acme", name="nothing", limit=5)),
    "runs by name and state": lambda store: store.runs(
        RunQuery("acme", frozenset({StateName.running}), name="digits", limit=5)
    ),
    "runs of another account": lambda store: store.runs(RunQuery("beta", tag="x", limit=5)),
    "counts": lambda store: store.counts("acme"),
    "holdings": lambda store: store.holdings(),
    "active_runs": lambda store: store.active_runs("n1"),
    "requeued_runs": lambda store: store.requeued_runs("n1"),
    "typical_duration_ms": lambda store: store.typical_duration_ms(3, "acme"),
    "ahead_of the first": lambda store: store.ahead_of(store.waiting_page(None, 1)[0]),
    "ahead_of the last": lambda store: store.ahead_of(store.runs(RunQuery(None, limit=1))[0]),
    "events": lambda store: store.events(store.last_seq() - 5, 10, account_id="acme"),
    "events of a run": lambda store: store.events(0, 10, run_id=a_run_id(1000)),
    "ended_runs": lambda store: store.ended_runs(0, 10),
    "latest_event_ms": lambda store: store.latest_event_ms(),
    "usage": lambda store: store.usage("acme", "account", None, None),
    "a run's life": run_the_first,
    "a cancel": cancel_an_unready_run,
    "a cancel of many": cancel_some,
    "a move": move_to_the_front,
    "a submission": submit_one,
}


@pytest.mark.parametrize("action", ACTIONS)
def test_the_cost_does_not_grow_with_the_depth(stores: tuple[Filled, Filled], action: str) -> None:
    shallow, deep = (store.cost(ACTIONS[action]) for store in stores)
    assert 0 < deep <= shallow * 1.5 + 100


def test_the_measure_sees_depth(stores: tuple[Filled, Filled]) -> None:
    shallow, deep = (store.cost(lambda store: store.unstage("nowhere")) for store in stores)
    assert deep > 5 * shallow
