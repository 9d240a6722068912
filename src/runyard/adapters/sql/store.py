"""The store of record on SQL. What each method does stands at the port, :class:`runyard.ports.store.Store`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from runyard.adapters.sql.accounts import AccountTables
from runyard.adapters.sql.audit import AuditTables
from runyard.adapters.sql.canceling import CancelTables
from runyard.adapters.sql.changes import ChangeTables
from runyard.adapters.sql.connections import ConnectionTables
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.dependencies import DependencyTables
from runyard.adapters.sql.environments import EnvironmentTables
from runyard.adapters.sql.history import HistoryTables
from runyard.adapters.sql.members import MemberTables
from runyard.adapters.sql.migrate import HEAD, Tell, migrate, revision_of, unheard
from runyard.adapters.sql.nodes import NodeTables
from runyard.adapters.sql.notes import NoteTables
from runyard.adapters.sql.queue import QueueTables
from runyard.adapters.sql.retention import RetentionTables
from runyard.adapters.sql.runs import RunTables
from runyard.adapters.sql.sealed import SealedTables
from runyard.adapters.sql.secrets import SecretTables
from runyard.adapters.sql.shares import ShareTables
from runyard.adapters.sql.snapshots import keep_before
from runyard.adapters.sql.staging import StagingTables
from runyard.adapters.sql.submissions import SubmissionTables
from runyard.adapters.sql.summaries import SummaryTables
from runyard.core.scheduling.snapshot import HALF_LIFE_MS

_log = logging.getLogger(__name__)


class SqlStore(
    AccountTables,
    MemberTables,
    ConnectionTables,
    SecretTables,
    SealedTables,
    SubmissionTables,
    RunTables,
    ChangeTables,
    CancelTables,
    DependencyTables,
    StagingTables,
    QueueTables,
    NodeTables,
    HistoryTables,
    EnvironmentTables,
    SummaryTables,
    ShareTables,
    NoteTables,
    AuditTables,
    RetentionTables,
):
    """The store over one database. Its methods may be called from any number of threads."""

    def __init__(self, database: Database, half_life_ms: int = HALF_LIFE_MS) -> None:
        self._db = database
        self._half_life_ms = half_life_ms

    def when_back(self, call: Callable[[], None]) -> None:
        """Have something called when the database answers again after it was away; it must not ask the store."""
        self._db.returned = call

    def close(self) -> None:
        self._db.close()


def open_store(
    url: str,
    snapshots: Path | None = None,
    *,
    holder: str = "",
    epoch: int | None = None,
    half_life_ms: int = HALF_LIFE_MS,
    tell: Tell = unheard,
) -> SqlStore:
    """Open the store at ``sqlite:///FILE`` or ``postgresql://...``; its schema is made, or migrated forward, after a
    copy of an older one was put into a new folder of ``snapshots``. ``holder`` and ``epoch``: as
    :class:`Database` takes them; ``half_life_ms``: of what accounts have used; ``tell`` hears of how far that is.

    Raises ``ValueError`` for any other URL, ``RunyardError`` when a newer Runyard made the schema.
    """
    database = Database(url, holder, epoch)
    keep = None if snapshots is None else partial(keep_before, snapshots, tell=tell)
    before = migrate(database, keep, tell=tell)
    if before is not None:
        _log.warning("the database was brought from schema %s to %s", before, HEAD)
    return SqlStore(database, half_life_ms)


def is_current(url: str) -> bool:
    """Whether the schema at a URL is this version's. What is not there yet is not. Raises as :func:`open_store`."""
    database = Database(url)
    try:
        return revision_of(database) == HEAD
    finally:
        database.close()
