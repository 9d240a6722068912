"""The migrations make exactly the schema that the code uses, and a current schema costs nothing at start-up."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from runyard.adapters.sql import open_store
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.migrate import HEAD, MIGRATIONS, STAMP, make, migrate, revision_of, upgrade
from runyard.adapters.sql.schema import metadata
from runyard.core.errors import RunyardError

DESCRIPTIONS = {
    # By what each table has, not by its text: a column that was added later stands in another place of it.
    "sqlite": (
        "WITH t AS (SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'alembic_version') "
        'SELECT t.name, c.name, c.type, c."notnull", c.dflt_value, c.pk FROM t, pragma_table_xinfo(t.name) c '
        'UNION ALL SELECT t.name, f."table", f."from", f."to", f.on_delete, f.on_update '
        "FROM t, pragma_foreign_key_list(t.name) f "
        'UNION ALL SELECT t.name, l.origin, l."unique", l.partial, '
        "(SELECT group_concat(coalesce(i.name, '?')) FROM pragma_index_info(l.name) i), "
        "(SELECT sql FROM sqlite_schema WHERE name = l.name) FROM t, pragma_index_list(t.name) l"
    ),
    "postgresql": (
        "SELECT table_name, column_name, data_type, is_nullable, collation_name, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version' "
        "UNION ALL SELECT tablename, indexname, indexdef, '', '', '' FROM pg_indexes "
        "WHERE schemaname = 'public' AND tablename <> 'alembic_version' "
        "UNION ALL SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', '' "
        "FROM pg_constraint WHERE connamespace = 'public'::regnamespace "
        "AND conrelid::regclass::text <> 'alembic_version'"
    ),
}


def describe(database: Database) -> set[tuple[object, ...]]:
    """All that the database knows of its schema."""
    with database.read() as tx:
        rows = tx.connection.execute(sa.text(DESCRIPTIONS[database.url.get_backend_name()])).all()
    return {tuple(row) for row in rows}


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    return request.getfixturevalue("empty_postgres_url")


def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """All rows, the stamp among them."""
    with database.read() as tx:
        tables = {table.name: sorted(tx.rows(f"SELECT * FROM {table.name}")) for table in metadata.sorted_tables}
        return {**tables, STAMP: list(tx.rows(f"SELECT * FROM {STAMP}"))}


def test_the_migrations_come_to_what_an_empty_database_is_made_as(empty_url: str) -> None:
    database = Database(empty_url)
    with database.write() as tx:
        make(tx)
    wanted, rows = describe(database), contents(database)
    with database.write() as tx:
        upgrade(tx.connection, HEAD)  # Alembic finds its own stamp, and nothing to do
    assert (describe(database), contents(database)) == (wanted, rows)
    with database.write() as tx:
        metadata.drop_all(tx.connection)
        tx.change(f"DROP TABLE {STAMP}")
    assert describe(database) == set()
    with database.write() as tx:
        upgrade(tx.connection, HEAD)
    assert len(wanted) > 40
    assert any(rows.values())
    assert (describe(database), contents(database)) == (wanted, rows)
    database.close()


def test_an_empty_database_is_made_without_alembic(tmp_path: Path) -> None:
    assert loaded_by_opening(f"sqlite:///{tmp_path}/empty.db") == "[]"


def test_opening_stamps_and_opens_again(empty_url: str) -> None:
    open_store(empty_url).close()
    database = Database(empty_url)
    assert revision_of(database) == HEAD
    before = describe(database)
    migrate(database)
    assert describe(database) == before
    database.close()


def test_the_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_a_current_schema_loads_no_alembic(sqlite_url: str) -> None:
    assert loaded_by_opening(sqlite_url) == "[]"


def loaded_by_opening(url: str) -> str:
    probe = (
        "import sys; from runyard.adapters.sql import open_store; open_store(sys.argv[1]).close(); "
        "print([name for name in ('alembic', 'mako', 'psycopg') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", probe, url], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_newer_schema_is_refused_and_left_alone(url: str) -> None:
    open_store(url).close()
    database = Database(url)
    with database.write() as tx:
        tx.change("UPDATE alembic_version SET version_num = 'from-the-future'")
    before = describe(database)
    try:
        with pytest.raises(RunyardError, match="newer"):
            open_store(url)
        assert (revision_of(database), describe(database)) == ("from-the-future", before)
    finally:
        with database.write() as tx:
            tx.change("UPDATE alembic_version SET version_num = :head", head=HEAD)
        database.close()


def test_several_openers_of_a_new_database(empty_url: str) -> None:
    failures: list[BaseException] = []
    barrier = threading.Barrier(12)

    def opener() -> None:
        barrier.wait(30)
        try:
            open_store(empty_url).close()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=opener) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    database = Database(empty_url)
    assert revision_of(database) == HEAD
    database.close()
