"""Bring a database's schema forward. Alembic is loaded only where there is something to do: it costs start-up time."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from runyard.adapters.sql.database import Database
from runyard.core.errors import RunyardError

HEAD: Final = "0003"
"""The newest revision in ``migrations/versions`` (a test compares)."""

MIGRATIONS: Final = "runyard.adapters.sql:migrations"


def migrate(database: Database) -> None:
    """Migrate forward to ``HEAD``, in one transaction, unless it is there."""
    if revision_of(database) == HEAD:
        return
    with database.write() as tx:
        upgrade(tx.connection, HEAD)


def revision_of(database: Database) -> str | None:
    """The revision that the schema is stamped with, None for a database without our tables."""
    with database.read() as tx:
        if not sa.inspect(tx.connection).has_table("alembic_version"):
            return None
        revision: str | None = tx.value("SELECT version_num FROM alembic_version")
        return revision


def upgrade(connection: sa.Connection, revision: str) -> None:
    """Migrate forward to a revision inside the connection's transaction."""
    # Start-up time: a server whose schema is current never loads these.
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
