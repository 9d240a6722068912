"""``runyard backup``: a live installation in one file, and whether such a file is whole.

The database comes first, as it is at one moment. What it refers to is in files that are only added to (definitions,
logs, points of metrics) or replaced whole (objects), so what is copied after it holds all that it knows of; of attempts
that it does not know nothing is copied.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import runyard
from runyard import settings as settings_room
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.dump import Dump, check, dump, rows_of
from runyard.adapters.sql.snapshots import BEFORE
from runyard.cli.options import BackupOptions
from runyard.core.errors import RunyardError
from runyard.server import server_folder, store_url
from runyard.up import sealing
from runyard.up.archive import DATABASE, FORMAT, SECRETS, SERVER, SETTINGS, BrokenBackup, Contents, Writer, read
from runyard.up.progress import Progress
from runyard.up.say import answer, say

SECRET_FILES: Final = ("token", "node/token")
KEY: Final = "server/key"
_LOGS: Final = "logs"


def backup(options: BackupOptions) -> int:
    """Make a backup, or look at one. Returns the exit code: 0, 1 for one that is damaged, 4 when refused."""
    try:
        return _verify(options) if options.verify else _make(options)
    except BrokenBackup as error:
        say(error.message)
        return 1
    except RunyardError as error:
        say(error.message)
        return 4
    except OSError as error:
        say(f"The backup could not be made: {error}.")
        return 4


def _make(options: BackupOptions) -> int:
    home = Path(options.home).expanduser().absolute()
    settings = settings_room.load(home)
    server = server_folder(home, settings)
    url = store_url(server, settings)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise RunyardError(f"There is no installation in {home}: name its folder with --home.")
    target = _target(Path(options.file).expanduser().absolute())
    began, progress = time.monotonic(), Progress()
    with tempfile.TemporaryDirectory(prefix=".runyard-backup-", dir=target.parent) as beside:
        folder = Path(beside) / "database"
        created_ms = time.time_ns() // 1_000_000
        database = Database(url)
        try:
            dumped = dump(database, folder, progress.tell)
        finally:
            database.close()
        with Writer(target) as writer:
            for path in sorted(folder.iterdir()):
                writer.add(DATABASE + path.name, path)
            _add_files(writer, home, server, _attempts(folder, dumped), progress)
            kind = _add_secrets(writer, home, server, options)
            tables = {name: table.rows for name, table in dumped.tables.items()}
            nodes = tuple(str(row["id"]) for row in _rows(folder, dumped, "nodes") if row["connected"])
            contents = Contents(
                FORMAT, runyard.__version__, dumped.revision, created_ms, kind, nodes, tables, writer.members
            )
            size = writer.finish(contents)
    progress.done()
    _tell(options, target, contents, size, time.monotonic() - began, "kept in")
    return 0


def _target(path: Path) -> Path:
    """The file to write: within a folder it gets a name by the time."""
    if path.is_dir():
        path = path / f"runyard-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}.tar"
    if path.exists():
        raise RunyardError(f"{path} is there already: name another file, or remove it first.")
    if not path.parent.is_dir():
        raise RunyardError(f"There is no folder {path.parent}: make it first.")
    return path


def _rows(folder: Path, dumped: Dump, table: str) -> Iterator[Mapping[str, object]]:
    found = dumped.tables[table]
    for row in rows_of(folder, table, found):
        yield dict(zip(found.columns, row, strict=True))


def _attempts(folder: Path, dumped: Dump) -> Mapping[str, int]:
    """Every run that the database knows, and its latest attempt."""
    return {str(row["id"]): int(str(row["attempt"])) for row in _rows(folder, dumped, "runs")}


def _add_files(writer: Writer, home: Path, server: Path, attempts: Mapping[str, int], progress: Progress) -> None:
    writer.add(SETTINGS, home / "settings.toml")
    for count, path in enumerate(_walk(server), 1):
        name = path.relative_to(server)
        if _belongs(name.parts, attempts):
            writer.add(SERVER + name.as_posix(), path)
        progress.tell("files", count)


def _walk(folder: Path) -> Iterator[Path]:
    """All plain files, an index before what it tells of: it may say less than there is, never more."""
    try:
        entries = sorted(folder.iterdir(), reverse=True)
    except FileNotFoundError:
        return  # it was deleted meanwhile
    for path in entries:
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _walk(path)
        elif path.is_file():
            yield path


def _belongs(parts: tuple[str, ...], attempts: Mapping[str, int]) -> bool:
    first, last = parts[0], parts[-1]
    if first in (BEFORE, "key") or first.startswith(("runyard.db", ".")) or parts[:2] == ("store", ".incoming"):
        return False
    if first == "definitions":
        return not last.startswith(".")
    if first != _LOGS or len(parts) < 2:
        return True
    if parts[1] not in attempts:
        return False
    return len(parts) < 4 or not parts[2].isdigit() or int(parts[2]) <= attempts[parts[1]]


def _add_secrets(writer: Writer, home: Path, server: Path, options: BackupOptions) -> str:
    if options.without_key:
        return "absent"
    texts = {name: (home / name).read_text() for name in SECRET_FILES if (home / name).exists()}
    if (server / "key").exists():
        texts[KEY] = (server / "key").read_text()
    if options.passphrase_file is None:
        writer.add_bytes(SECRETS, sealing.plain(texts))
        return "plain"
    writer.add_bytes(SECRETS, sealing.seal(texts, sealing.read_passphrase(options.passphrase_file)))
    return "sealed"


def _verify(options: BackupOptions) -> int:
    path = Path(options.file).expanduser().absolute()
    began, progress = time.monotonic(), Progress()
    with tempfile.TemporaryDirectory(prefix="runyard-verify-") as beside:
        folder = Path(beside) / "database"
        folder.mkdir()
        kept = folder.parent / SECRETS

        def sink(name: str):  # the type is inferred: it is a Sink
            if name.startswith(DATABASE):
                return (folder / name.removeprefix(DATABASE)).open("wb")
            return kept.open("wb") if name == SECRETS else None

        contents = read(path, sink, progress.tell)
        examine(folder, contents)
        if contents.secrets == "sealed" and options.passphrase_file is not None:
            sealing.open_sealed(kept.read_bytes(), sealing.read_passphrase(options.passphrase_file))
    progress.done()
    _tell(options, path, contents, path.stat().st_size, time.monotonic() - began, "whole:")
    return 0


def examine(folder: Path, contents: Contents) -> Dump:
    """Compare the database of a backup with what the rest of it says. Raises :class:`BrokenBackup`."""
    found = check(folder)
    if found.revision != contents.revision or {n: t.rows for n, t in found.tables.items()} != contents.tables:
        raise BrokenBackup("The backup's database is not the one that its index tells of: it is damaged.")
    for row in _rows(folder, found, "definitions"):
        sha256 = str(row["sha256"])
        member = contents.members.get(f"{SERVER}definitions/{sha256[:2]}/{sha256}")
        if member is None or member.sha256 != sha256:
            raise BrokenBackup(f"The code {sha256[:12]} is missing in the backup: it is damaged.")
    return found


def _tell(options: BackupOptions, path: Path, contents: Contents, size: int, seconds: float, verb: str) -> None:
    runs = contents.tables.get("runs", 0)
    if options.json:
        told = {
            "file": str(path),
            "bytes": size,
            "files": len(contents.members),
            "runs": runs,
            "rows": sum(contents.tables.values()),
            "schema": contents.revision,
            "version": contents.version,
            "created_at": datetime.fromtimestamp(contents.created_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            "secrets": contents.secrets,
            "seconds": round(seconds, 3),
        }
        answer(json.dumps(told, indent=2))
        return
    if not options.verify:
        answer(str(path))
    say(f"{runs} runs, {len(contents.members)} files, {size / 1e6:.1f} MB, schema {contents.revision}: {verb} {path}")
    if contents.secrets == "plain":
        say("The installation's key and tokens are in it: keep the file as you keep them, or use --passphrase-file.")
    elif contents.secrets == "absent":
        say("The key is not in it: keep server/key elsewhere, or stored connections and secrets cannot be opened.")
