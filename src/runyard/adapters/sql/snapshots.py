"""Copies of the database from before its schema was brought forward, and the way back to them."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from runyard.adapters.sql.database import Database, Transaction
from runyard.adapters.sql.dump import BrokenDump, check, dump_in, load_in
from runyard.adapters.sql.migrate import HEAD, Tell, check_known, unheard, written_by
from runyard.adapters.sql.renumber import leave_gap
from runyard.core.errors import NotFound

BEFORE: Final = "before-upgrade"
"""The folder of the copies, in the server's."""
KEPT: Final = 3
"""Copies that are kept, the new one among them."""
_VERSION: Final = "version"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy: of which revision, by which version of Runyard that was written (None: it did not say)."""

    folder: Path
    revision: str
    version: str | None


def keep_before(root: Path, tx: Transaction, revision: str, tell: Tell = unheard) -> Path:
    """Keep all that a transaction sees in a new folder below ``root``; ``tell`` hears of each table's rows."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = root / f"{moment}-{revision}"
    _log.warning("keeping a copy of the database (schema %s) in %s before it is migrated to %s", revision, folder, HEAD)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = root / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    dump_in(tx, partial, tell)
    (partial / _VERSION).write_text(written_by(tx) or "")
    partial.rename(folder)
    for old in _copies(root)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _copies(root: Path) -> list[Path]:
    """The copies that there are, the oldest first."""
    return sorted(path for path in root.glob("[0-9]*") if path.is_dir())


def latest(root: Path) -> Snapshot:
    """The newest copy. Raises ``NotFound``."""
    found = _copies(root)
    if not found:
        raise NotFound(f"There is no copy from before an upgrade in {root}: the schema was never migrated here.")
    folder = found[-1]
    return Snapshot(folder, check(folder).revision, (folder / _VERSION).read_text().strip() or None)


def go_back(database: Database, snapshot: Snapshot, tell: Tell) -> None:
    """Put a copy in the place of what is there, in one transaction; numbers that were given out since are not given
    out again."""
    found = check(snapshot.folder)
    check_known(found.revision)
    if found.revision != snapshot.revision:
        raise BrokenDump(f"{snapshot.folder} has changed meanwhile.")
    with database.write() as tx:
        load_in(tx, snapshot.folder, found, tell, replace=True)
        leave_gap(tx)
