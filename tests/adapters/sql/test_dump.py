"""A dump is all rows of one moment, fills either database, and is told from one that was damaged."""

import gzip
import itertools
import json
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from runyard.adapters.sql import SqlStore, open_store
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.dump import BrokenDump, check, dump, load
from runyard.adapters.sql.migrate import HEAD, revision_of, revisions, upgrade
from runyard.adapters.sql.renumber import GAP, leave_gap
from runyard.adapters.sql.schema import metadata
from runyard.adapters.sql.snapshots import KEPT, go_back, keep_before, latest
from runyard.core.account import Account
from runyard.core.errors import NotFound, RunyardError
from runyard.testing.builders import a_run_id, a_submission
from tests.adapters.sql.filling import ROWS, fill

NUMBERS = itertools.count()


def everything(database: Database) -> dict[str, list[str]]:
    """All rows of all tables, comparable between the two databases."""
    found: dict[str, list[str]] = {}
    with database.read() as tx:
        for table in metadata.sorted_tables:
            rows = tx.connection.execute(sa.select(table)).all()
            found[table.name] = sorted(repr(tuple(row)) for row in rows)
    return found


@pytest.fixture
def other_url(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> str:
    """An empty database of the other kind than ``url``."""
    if url.startswith("sqlite"):
        return request.getfixturevalue("empty_postgres_url")
    return f"sqlite:///{tmp_path}/other.db"


def test_a_dump_fills_a_database_of_the_other_kind(url: str, other_url: str, tmp_path: Path) -> None:
    one, other = Database(url), Database(other_url)
    fill(one, metadata)
    told: list[tuple[str, int]] = []
    made = dump(one, tmp_path / "dump", lambda table, rows: told.append((table, rows)))
    assert check(tmp_path / "dump") == made
    load(other, tmp_path / "dump")
    assert everything(other) == everything(one)
    assert all(everything(one).values()), "every table has rows, so that none can be forgotten"
    assert ("runs", 3) in told
    assert made.revision == revision_of(other) == HEAD
    one.close()
    other.close()


def test_a_dump_sees_one_moment_while_others_write(url: str, tmp_path: Path) -> None:
    store = open_store(url)
    _accounts(store)
    enough = threading.Event()
    stop = threading.Event()

    def submit() -> None:
        for number in itertools.count():
            store.submit(a_submission(first=1 + number))
            if number == 20:
                enough.set()
            if stop.is_set():
                return

    writer = threading.Thread(target=submit)
    writer.start()
    try:
        assert enough.wait(60)
        found = [dump(Database(url), tmp_path / f"dump{number}") for number in range(3)]
    finally:
        stop.set()
        writer.join(60)
        store.close()
    for each in found:
        rows = {name: table.rows for name, table in each.tables.items()}
        assert rows["runs"] == rows["events"] == rows["specs"] > 20
    assert found[0].tables["runs"].rows <= found[2].tables["runs"].rows


def test_damage_is_found(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    fill(Database(url), metadata)
    dump(Database(url), folder)
    target = folder / "events.jsonl.gz"
    whole = target.read_bytes()
    target.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(BrokenDump, match="events"):
        check(folder)
    target.write_bytes(gzip.compress(b"".join(gzip.decompress(whole).splitlines(keepends=True)[:-1])))
    with pytest.raises(BrokenDump, match="events"):
        check(folder)
    target.unlink()
    with pytest.raises(BrokenDump, match="missing"):
        check(folder)
    (folder / "dump.json").unlink()
    with pytest.raises(BrokenDump, match=r"dump\.json"):
        load(Database(url), folder)


def test_an_installation_is_never_overwritten(url: str, tmp_path: Path) -> None:
    database = Database(url)
    fill(database, metadata)
    dump(database, tmp_path / "dump")
    before = everything(database)
    with pytest.raises(RunyardError, match="empty"):
        load(database, tmp_path / "dump")
    assert everything(database) == before
    database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    return request.getfixturevalue("empty_postgres_url")


def old_schema(url: str, revision: str) -> Database:
    """A database of an older revision, made by the migrations themselves, with rows in every table."""
    database = Database(url)
    with database.write() as tx:
        upgrade(tx.connection, revision)
    found = sa.MetaData()
    with database.read() as tx:
        found.reflect(tx.connection)
    found.remove(found.tables["alembic_version"])
    fill(database, found)
    return database


@pytest.mark.parametrize("revision", [each for each in revisions() if each != HEAD])
def test_every_older_schema_comes_forward_with_a_copy_and_one_way_back(
    empty_url: str, revision: str, tmp_path: Path
) -> None:
    database = old_schema(empty_url, revision)
    before = dump(database, tmp_path / "before")
    told: list[tuple[str, int]] = []
    store = open_store(empty_url, tmp_path / "copies", tell=lambda what, count: told.append((what, count)))
    try:
        assert ("runs", ROWS) in told
        assert revision_of(database) == HEAD
        runs = store.runs_of([f"training-fill{number:05d}" for number in (1, 2, 3)])
        assert [run.name for run in runs] == ["name 1", "name 2", "name 3"]
        snapshot = latest(tmp_path / "copies")
        assert snapshot.revision == revision
        kept = check(snapshot.folder)
        assert {name: table.rows for name, table in kept.tables.items()} == {
            name: table.rows for name, table in before.tables.items()
        }
        go_back(database, snapshot, lambda *_: None)
        assert revision_of(database) == revision
        again = dump(database, tmp_path / "again")
        same = {name for name in before.tables if name != "counters"}
        assert {name: again.tables[name] for name in same} == {name: before.tables[name] for name in same}
    finally:
        store.close()
        database.close()


def test_a_migration_that_fails_changes_nothing(empty_url: str, tmp_path: Path) -> None:
    oldest = revisions()[0]
    database = old_schema(empty_url, oldest)
    with database.write() as tx:
        tx.connection.exec_driver_sql("CREATE TABLE queue_blocks (mine INTEGER)")  # the last migration makes one
    before = dump(database, tmp_path / "before").tables
    with pytest.raises(RunyardError, match="nothing was changed"):
        open_store(empty_url, tmp_path / "copies")
    assert revision_of(database) == oldest
    assert dump(database, tmp_path / "after").tables == before
    assert latest(tmp_path / "copies").revision == oldest
    database.close()


def test_there_is_no_way_back_without_a_copy(tmp_path: Path, sqlite_url: str) -> None:
    open_store(sqlite_url, tmp_path / "copies").close()
    with pytest.raises(NotFound, match="never migrated"):
        latest(tmp_path / "copies")


def test_the_copy_tells_which_version_wrote_it(empty_url: str, tmp_path: Path) -> None:
    open_store(empty_url).close()
    database = Database(empty_url)
    with database.write() as tx:
        keep_before(tmp_path, tx, HEAD)
        tx.change("UPDATE settings SET value = '9.9' WHERE name = 'written_by'")
        keep_before(tmp_path, tx, HEAD)
    assert latest(tmp_path).version == "9.9"
    database.close()


def test_the_last_copies_are_kept(tmp_path: Path, sqlite_url: str) -> None:
    open_store(sqlite_url).close()
    database = Database(sqlite_url)
    made: list[Path] = []
    for _ in range(KEPT + 2):
        with database.write() as tx:
            made.append(keep_before(tmp_path / "copies", tx, HEAD))
    assert sorted((tmp_path / "copies").iterdir()) == made[-KEPT:]
    assert latest(tmp_path / "copies").folder == made[-1]
    database.close()


def _accounts(store: SqlStore) -> None:
    store.ensure_account(Account("acme", "acme"))


def test_numbers_are_not_given_out_twice(url: str) -> None:
    store = open_store(url)
    _accounts(store)
    store.submit(a_submission(first=1))
    first = store.run(a_run_id(1))
    assert first is not None
    database = Database(url)
    for _ in range(2):
        with database.write() as tx:
            leave_gap(tx)
    store.submit(a_submission(first=2))
    second = store.run(a_run_id(2))
    assert second is not None
    assert second.spec_id == first.spec_id + 2 * GAP + 1
    assert second.seq == first.seq + 2 * GAP + 1
    assert store.last_seq() == 2 * GAP + 2
    database.close()
    store.close()


def test_what_a_dump_says_is_plain(url: str, tmp_path: Path) -> None:
    fill(Database(url), metadata)
    dump(Database(url), tmp_path / "dump")
    index = json.loads((tmp_path / "dump" / "dump.json").read_text())
    runs = index["tables"]["runs"]
    assert (index["format"], index["revision"], runs["rows"]) == (1, HEAD, 3)
    first = json.loads(gzip.decompress((tmp_path / "dump" / "runs.jsonl.gz").read_bytes()).splitlines()[0])
    assert dict(zip(runs["columns"], first, strict=True))["id"] == "training-fill00001"
