"""Bring a database's schema forward. Alembic is loaded only where there is something to do: it costs start-up time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

import sqlalchemy as sa

import runyard
from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.schema import metadata
from runyard.core.errors import RunyardError

HEAD: Final = "0009"
"""The newest revision in ``migrations/versions`` (a test compares)."""

MIGRATIONS: Final = "runyard.adapters.sql:migrations"
STAMP: Final = "alembic_version"
WRITTEN_BY: Final = "written_by"
"""The setting that names the version of Runyard that made or last migrated the schema."""

Keep = Callable[[Transaction, str], object]
"""Keeps a copy of all that a transaction sees, at a revision, before it is migrated."""
Tell = Callable[[str, int], None]
"""Told of what is being done, and how many of it there were so far."""


def unheard(_what: str, _count: int) -> None:
    """Nobody is told."""


def migrate(database: Database, keep: Keep | None = None, head: str = HEAD, tell: Tell = unheard) -> str | None:
    """Migrate forward to ``HEAD``, in one transaction, unless it is there; an empty database is made at once. What was
    there before is given to ``keep`` first; ``tell`` hears that SQLite is at work. Returns the revision that it was
    migrated from, None when there was none or nothing to do.

    Raises ``RunyardError`` when the schema is a newer one, or when the migration failed: then nothing has changed.
    """
    if revision_of(database) == head:
        return None
    with database.write() as tx:
        before = revision_in(tx)  # looked at again: another server may have been faster
        if before == head:
            return None
        if before is not None:
            check_known(before)
            if keep is not None:
                keep(tx, before)
        try:
            if before is None and head == HEAD:
                make(tx)
            else:
                ticks = count(1)
                with tx.telling(lambda: tell("schema", next(ticks))):
                    upgrade(tx.connection, head)
        except RunyardError:
            raise
        except Exception as error:
            raise RunyardError(
                f"The database's schema could not be brought from {before} to {head} ({error}): nothing was changed. "
                "Go on with the version of Runyard that wrote it, and tell its makers.",
                code="migration_failed",
            ) from error
        _sign(tx)
    return before


def make(tx: Transaction) -> None:
    """In an empty database: all that the migrations come to (a test compares), without them and their library."""
    metadata.create_all(tx.connection, checkfirst=False)
    tx.change("INSERT INTO counters (name, value) VALUES ('event', 0), ('run', 0)")
    tx.change(
        f"CREATE TABLE {STAMP} (version_num VARCHAR(32) NOT NULL, "
        f"CONSTRAINT {STAMP}_pkc PRIMARY KEY (version_num))"  # as Alembic makes it
    )
    tx.change(f"INSERT INTO {STAMP} (version_num) VALUES (:head)", head=HEAD)


def _sign(tx: Transaction) -> None:
    tx.change("DELETE FROM settings WHERE name = :name", name=WRITTEN_BY)
    tx.change("INSERT INTO settings (name, value) VALUES (:name, :value)", name=WRITTEN_BY, value=runyard.__version__)


def revision_of(database: Database) -> str | None:
    """The revision that the schema is stamped with, None for a database without our tables."""
    with database.read() as tx:
        return revision_in(tx)


def revision_in(tx: Transaction) -> str | None:
    """The same, as a transaction sees it."""
    if not sa.inspect(tx.connection).has_table(STAMP):
        return None
    revision: str | None = tx.value(f"SELECT version_num FROM {STAMP}")
    return revision


def written_by(tx: Transaction) -> str | None:
    """The version of Runyard that made or last migrated the schema, where it said so."""
    return tx.value("SELECT value FROM settings WHERE name = :name", name=WRITTEN_BY)


def revisions() -> list[str]:
    """All that this version knows, the oldest first."""
    # Start-up time: a server whose schema is current never loads these.
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def check_known(revision: str) -> None:
    """Refuse a schema that this version does not know: only a newer one can have made it."""
    if revision not in revisions():
        raise RunyardError(
            f"The database has schema {revision}, and this version of Runyard ({runyard.__version__}) knows no newer "
            f"one than {HEAD}: use the version that wrote it, or a newer one; or go back to the copy from before the "
            "upgrade with `runyard restore --before-upgrade`.",
            code="newer_schema",
        )


def upgrade(connection: sa.Connection, revision: str) -> None:
    """Migrate forward to a revision inside the connection's transaction."""
    # Start-up time, as above.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise RunyardError(
            f"The database's schema is not one that this version knows ({error}): "
            "use the version of Runyard that wrote it, or a newer one."
        ) from error
