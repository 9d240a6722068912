"""What SQLite and PostgreSQL are asked for: durability, one writer at a time, and going on after an accident."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError

from runyard.adapters.sql import SqlStore, open_store
from runyard.adapters.sql.database import Database, Transaction, Turn, to_pyformat
from runyard.adapters.sql.staging import AT_ONCE
from runyard.core import lifecycle
from runyard.core.account import Account
from runyard.core.events import EventKind
from runyard.core.run import StateName
from runyard.ports.store import RunQuery
from runyard.testing.builders import NOW, a_run_id, a_submission
from runyard.testing.lives import accept, known, step

ALL = 10_000


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x", "postgresql+asyncpg://h/x"])
def test_other_urls_are_refused_or_mended(url: str) -> None:
    if url.startswith("postgresql"):
        database = Database(url)
        assert database.url.drivername == "postgresql+psycopg"
        database.close()
        return
    with pytest.raises(ValueError, match="sqlite:///"):
        open_store(url)


def test_sqlite_tells_that_it_is_busy(sqlite_url: str) -> None:
    database, calls = Database(sqlite_url), list[None]()
    counting = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT count(*) FROM n"
    )
    with database.write() as tx:
        with tx.telling(lambda: calls.append(None)):
            assert tx.value(counting) == 1_000_000
        assert calls
        calls.clear()
        assert tx.value(counting) == 1_000_000
        assert not calls
    database.close()


def test_a_commit_that_fails_leaves_nothing_and_lets_the_next_one_in(url: str) -> None:
    store, database = open_store(url), Database(url)
    with database.write() as tx:
        tx.change("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        reference = "REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED"
        tx.change(f"CREATE TABLE children (id INTEGER {reference})")
    with pytest.raises(IntegrityError), database.write() as tx:
        tx.change("INSERT INTO children VALUES (7)")
    with database.write() as tx:
        assert tx.value("SELECT count(*) FROM children") == 0
        tx.change("INSERT INTO parents VALUES (7)")
    with database.read() as tx:
        assert tx.value("SELECT id FROM parents") == 7
    database.close()
    store.close()


def test_a_password_is_in_no_message(tmp_path: Path) -> None:
    with pytest.raises(Exception) as failure:
        open_store(f"postgresql://me:hunter2@/x?host={tmp_path}")
    assert "hunter2" not in f"{failure.value!r} {failure.value}"


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = open_store(f"sqlite:///{tmp_path}/new.db")
        accept(store)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert modes == {"new.db": 0o600, "new.db-wal": 0o600, "new.db-shm": 0o600}


def test_sqlite_is_durable_and_keeps_its_references(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}

    def pragmas(tx: Transaction) -> dict[str, object]:
        return {name: tx.value(f"PRAGMA {name}") for name in wanted}

    with database.write() as tx:
        assert pragmas(tx) == wanted
    with database.read() as tx:
        assert pragmas(tx) == wanted
    database.close()


def test_a_failed_write_leaves_nothing_and_lets_the_next_one_in(url: str) -> None:
    store = open_store(url)
    database = Database(url)
    accept(store)
    with pytest.raises(InterruptedError):
        break_off(database)
    assert len(store.runs(RunQuery("acme"))) == 1
    accept(store, first=2)
    assert store.last_seq() == 2
    database.close()
    store.close()


def break_off(database: Database) -> None:
    with database.write() as tx:
        tx.change("DELETE FROM runs")
        tx.take("event", 5)
        raise InterruptedError


def test_a_store_opened_again_has_everything(url: str) -> None:
    store = open_store(url)
    run = step(store, lifecycle.staged(accept(store, 3)[1], "n1", NOW))
    told = list(store.events(0, ALL))
    store.close()
    again = open_store(url)
    assert known(again, run.id) == run
    assert list(again.events(0, ALL)) == told
    assert again.counts("acme") == {StateName.waiting: 3}
    assert accept(again, first=9)[0].seq == 4
    again.close()


def test_two_stores_on_one_database_take_turns(url: str) -> None:
    stores = [open_store(url), open_store(url)]
    stores[0].ensure_account(Account("acme", "Acme"))

    def work(number: int) -> None:
        store = stores[number % 2]
        store.submit(a_submission(3, first=3 * number))
        run = store.waiting_page(None, 1)[0]
        move = lifecycle.assign(run, "n1", (), NOW)
        assert move is not None
        store.apply([move])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(24)))
    told = stores[0].events(0, ALL)
    assert [recorded.seq for recorded in told] == list(range(1, len(told) + 1))
    assert [run.seq for run in stores[1].runs(RunQuery(None, limit=ALL))] == list(range(72, 0, -1))
    counts = stores[1].counts(None)
    assert counts[StateName.waiting] + counts[StateName.starting] == 72
    assert counts[StateName.starting] == len(told) - 72
    for store in stores:
        store.close()


def test_readers_do_not_wait_for_a_writer(url: str) -> None:
    store, database = open_store(url), Database(url)
    accept(store)
    seen: list[int] = []
    with database.write() as tx:
        tx.change("UPDATE counters SET value = 99 WHERE name = 'event'")
        reader = threading.Thread(target=lambda: seen.append(store.last_seq()))
        reader.start()
        reader.join(20)
    reader.join(60)
    assert seen == [1]
    assert store.last_seq() == 99
    database.close()
    store.close()


def test_readers_keep_little_of_the_file(sqlite_url: str) -> None:
    """In KiB: what each connection may keep is what a server may grow by."""
    open_store(sqlite_url).close()
    database = Database(sqlite_url)
    with database.read() as tx:
        assert tx.value("PRAGMA cache_size") == -512
    with database.write() as tx:
        assert tx.value("PRAGMA cache_size") == -2000
    database.close()


def test_a_lost_connection_is_made_again(postgres_url: str) -> None:
    store = open_store(postgres_url)
    run = accept(store)[0]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'"
        ).fetchall()
    assert len(ended) >= 2
    assert known(store, run.id) == run
    assert step(store, lifecycle.staged(run, "n1", NOW)).ready_on == "n1"
    store.close()


SUBMITTER = """
import sys
from dataclasses import replace
from runyard.adapters.sql import open_store
from runyard.adapters.sql.staging import AT_ONCE
from runyard.core import lifecycle
from runyard.core.account import Account
from runyard.core.events import EventKind
from runyard.testing.builders import NOW, a_run_id, a_submission
store = open_store(sys.argv[1])
store.ensure_account(Account("acme", "Acme"))
number = 0
while True:
    number += 2
    store.submit(a_submission(2, first=number))
    store.apply([lifecycle.assign(store.run(a_run_id(number)), "n1", (0,), NOW)])
    print(number, flush=True)
"""


def test_nothing_that_was_said_is_lost_when_the_process_is_killed(sqlite_url: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", SUBMITTER, sqlite_url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(40)]
    process.kill()
    said += process.stdout.readlines()
    process.wait(30)
    process.stdout.close()
    promised = int(said[-1])
    store = open_store(sqlite_url)
    runs = store.runs(RunQuery(None, limit=ALL))
    assert len(runs) in (promised, promised + 2)
    assert sum(run.state_name is StateName.starting for run in runs) >= promised // 2
    check_counts(store, sqlite_url)
    assert accept(store, first=ALL)[0].seq == len(runs) + 1
    store.close()


MANY_SUBMITTER = """
import sys
from runyard.adapters.sql import open_store
from runyard.testing.builders import a_submission
store = open_store(sys.argv[1])
for first in range(1, 10**9, 20_000):
    print(first, flush=True)
    store.submit(a_submission(20_000, first=first))
"""


@pytest.mark.parametrize("pages", [100, 700, 1500])
def test_of_a_large_submission_all_is_there_or_nothing(sqlite_url: str, pages: int) -> None:
    store = open_store(sqlite_url)
    accept(store, first=10**7)
    store.close()
    process = subprocess.Popen([sys.executable, "-c", MANY_SUBMITTER, sqlite_url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline()]
    log = Path(f"{file_of(sqlite_url)}-wal")
    deadline = time.monotonic() + 30
    while log.stat().st_size < pages * 4096 and time.monotonic() < deadline:
        pass  # to be within the transaction, there is no time to sleep
    process.kill()
    said += process.stdout.readlines()
    process.wait(30)
    process.stdout.close()
    store = open_store(sqlite_url)
    count = store.counts("acme")[StateName.waiting] - 1
    assert count in (20_000 * (len(said) - 1), 20_000 * len(said))
    looker = sqlite3.connect(file_of(sqlite_url))
    rows = [looker.execute(f"SELECT count(*) FROM {name}").fetchone()[0] - 1 for name in ("runs", "events")]
    looker.close()
    assert rows == [count, count]
    assert (store.last_seq(), accept(store, first=10**8)[0].seq) == (count + 1, count + 2)
    store.close()


def check_counts(store: SqlStore, url: str) -> None:
    """What is counted is there, whatever happened."""
    looker = sqlite3.connect(file_of(url))
    truth = dict(looker.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall())
    assert {state.value: count for state, count in store.counts(None).items()} == truth
    (waiting,) = looker.execute("SELECT sum(waiting) FROM queue_classes").fetchone()
    assert waiting == truth.get("waiting", 0)
    told = [recorded.seq for recorded in store.events(0, ALL)]
    assert told == list(range(1, store.last_seq() + 1))
    assert looker.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    looker.close()


def test_parameters_are_rewritten_for_psycopg() -> None:
    assert to_pyformat("SELECT a FROM b WHERE c = :c AND d IN (:v0, :v1)") == (
        "SELECT a FROM b WHERE c = %(c)s AND d IN (%(v0)s, %(v1)s)"
    )


def test_turns_go_in_the_order_of_arrival() -> None:
    turn, arrived, order = Turn(), threading.Semaphore(0), list[int]()

    def work(number: int) -> None:
        arrived.release()
        with turn:
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    with turn:
        for waiting, thread in enumerate(threads, 1):
            thread.start()
            assert arrived.acquire(timeout=30)
            deadline = time.monotonic() + 30
            while turn.waiting < waiting:
                assert time.monotonic() < deadline
        order.append(-1)
    for thread in threads:
        thread.join(30)
    assert order == [-1, 0, 1, 2, 3, 4]


def test_more_than_a_piece_is_marked_ready_and_all_of_it(url: str) -> None:
    store = open_store(url)
    accept(store)
    count = AT_ONCE + 3
    store.submit(a_submission(count, first=1000))
    assert store.mark_staged(2, "n1", NOW) == count
    told = store.events(0, 3 * count, kinds=frozenset({EventKind.staged}))
    assert [each.event.run_id for each in told] == [a_run_id(1000 + n) for n in range(count)]
    assert (list(store.specs_to_stage(9)), store.mark_staged(2, "n1", NOW)) == ([1], 0)
    store.close()


def test_an_idempotency_key_of_an_older_version_is_known(url: str) -> None:
    store = open_store(url)
    accept(store)
    database = Database(url)
    with database.write() as tx:
        tx.change(
            "INSERT INTO idempotency (account_id, key, digest, run_ids, created_ms) "
            "VALUES ('acme', 'old', 'd', :ids, 0)",
            ids='["training-000000001","training-000000002"]',
        )
    database.close()
    assert store.replay("acme", "old", "d") == ("training-000000001", "training-000000002")
    store.close()


def test_a_key_is_answered_with_runs_that_are_deleted_meanwhile(url: str) -> None:
    store = open_store(url)
    accept(store)
    ids, _ = store.submit(a_submission(3, first=50, key="k", digest="d"))
    assert store.cancel_waiting("acme", ids[:1], NOW) == [ids[0]]
    assert store.delete_run(ids[0])
    assert store.replay("acme", "k", "d") == ids
    store.close()
