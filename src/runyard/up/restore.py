"""``runyard restore``: an installation from its backup in an empty place, or the database from before an upgrade."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import IO, Final

from runyard import settings as settings_room
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.dump import load_in
from runyard.adapters.sql.migrate import HEAD, check_known, upgrade
from runyard.adapters.sql.notes import PREFIX
from runyard.adapters.sql.renumber import leave_gap
from runyard.adapters.sql.snapshots import BEFORE, go_back, latest
from runyard.cli.options import RestoreOptions
from runyard.core.errors import RunyardError
from runyard.engine.restored import note_of
from runyard.server import server_folder, store_url
from runyard.up import record, sealing
from runyard.up.archive import DATABASE, SECRETS, BrokenBackup, Contents, read
from runyard.up.backup import KEY, examine
from runyard.up.progress import Progress
from runyard.up.say import answer, say

_PARTIAL: Final = ".restoring"
_THERE: Final = ("server", "settings.toml", "token")
_STORE_URL: Final = re.compile(r"^\s*(store_url|shared_folder)\s*=.*\n?", re.MULTILINE)


def restore(options: RestoreOptions) -> int:
    """Restore. Returns the exit code: 0, 1 for a damaged backup, 4 when refused."""
    home = Path(options.home).expanduser().absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = record.lock(home)
    if held is None:
        say(f"Runyard runs in {home}: stop it first, with `runyard down --home {home}`.")
        return 4
    try:
        return _go_back(home, options) if options.before_upgrade else _restore(home, options)
    except BrokenBackup as error:
        say(error.message)
        return 1
    except (RunyardError, ValueError) as error:
        say(str(error))
        return 4
    except OSError as error:
        say(f"The backup could not be restored: {error}.")
        return 4
    finally:
        os.close(held)


def _restore(home: Path, options: RestoreOptions) -> int:
    there = [name for name in _THERE if (home / name).exists()]
    if there:
        raise RunyardError(f"There is an installation in {home} ({', '.join(there)}): restore into an empty folder.")
    began, progress = time.monotonic(), Progress()
    partial = home / _PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        contents = read(Path(options.file).expanduser(), lambda name: _sink(partial, name), progress.tell)
        check_known(contents.revision)
        _set_times(partial, contents)
        (partial / "server").mkdir(exist_ok=True, mode=0o700)
        _open_secrets(partial, contents, options)
        _settings(partial, options.store_url)
        settings = settings_room.load(partial)
        _load(store_url(partial / "server", settings), partial, contents, progress)
        shutil.rmtree(partial / DATABASE)
        _move(partial, home)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    progress.done()
    _tell(home, contents, options, time.monotonic() - began)
    return 0


def _sink(partial: Path, name: str) -> IO[bytes]:
    path = partial / name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = 0o644 if name.startswith("server/store/") else 0o600
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb")


def _set_times(partial: Path, contents: Contents) -> None:
    for name, member in contents.members.items():
        if member.mtime_ns:
            os.utime(partial / name, ns=(member.mtime_ns, member.mtime_ns))


def _open_secrets(partial: Path, contents: Contents, options: RestoreOptions) -> None:
    path = partial / SECRETS
    if contents.secrets == "absent":
        say(f"The backup holds no key: put the old {KEY} into its place, or stored secrets cannot be opened.")
        return
    if contents.secrets == "plain":
        texts = sealing.read_plain(path.read_bytes())
    elif options.passphrase_file is None:
        raise RunyardError("The backup's key is sealed: name the file with its passphrase by --passphrase-file.")
    else:
        texts = sealing.open_sealed(path.read_bytes(), sealing.read_passphrase(options.passphrase_file))
    path.unlink()
    for name, text in texts.items():
        target = partial / name
        target.parent.mkdir(exist_ok=True, mode=0o700)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)


def _settings(partial: Path, url: str | None) -> None:
    """Keep the settings, with another store where one is named; ``sqlite`` is the file in the home."""
    path = partial / "settings.toml"
    text = path.read_text() if path.exists() else ""
    if url is not None:
        text = _STORE_URL.sub("", text)
        if url != "sqlite":
            text = f"store_url = {json.dumps(url)}\n{text}"
        path.write_text(text)
        path.chmod(0o600)
    elif settings_room.load(partial).shared_folder is not None:
        raise RunyardError(
            "The backup is of servers that share a database and a folder: name the store of the new one by --store-url "
            "(`sqlite` for a file in the home), and set shared_folder again where two servers are to run."
        )


def _load(url: str, partial: Path, contents: Contents, progress: Progress) -> None:
    """Fill the database, bring its schema up to this version's, and note that it was restored."""
    folder = partial / DATABASE
    found = examine(folder, contents)
    database = Database(url)
    try:
        with database.write() as tx:
            load_in(tx, folder, found, progress.tell)
            if found.revision != HEAD:
                upgrade(tx.connection, HEAD)
            leave_gap(tx)
            name, value = note_of(contents.nodes)
            name = PREFIX + name
            tx.change("DELETE FROM settings WHERE name = :name", name=name)
            tx.change("INSERT INTO settings (name, value) VALUES (:name, :value)", name=name, value=value)
    finally:
        database.close()


def _move(partial: Path, home: Path) -> None:
    for path in sorted(partial.iterdir(), key=lambda path: path.name == "server"):  # the server's folder last
        target = home / path.name
        if path.name == "node":
            target.mkdir(exist_ok=True, mode=0o700)
            for each in path.iterdir():
                each.replace(target / each.name)
        else:
            path.replace(target)


def _tell(home: Path, contents: Contents, options: RestoreOptions, seconds: float) -> None:
    runs = contents.tables.get("runs", 0)
    if options.json:
        told = {"home": str(home), "runs": runs, "files": len(contents.members), "seconds": round(seconds, 3),
                "nodes": contents.nodes, "schema": HEAD, "from_schema": contents.revision}  # fmt: skip
        answer(json.dumps(told, indent=2))
        return
    say(f"{runs} runs and {len(contents.members)} files are in {home}: `runyard up --home {home}` starts it.")
    if contents.nodes:
        say(
            f"Machines that were connected then ({', '.join(contents.nodes)}) are waited for before anything starts: "
            "what they have begun since is taken over, not begun again."
        )


def _go_back(home: Path, options: RestoreOptions) -> int:
    settings = settings_room.load(home)
    server = server_folder(home, settings)
    snapshot = latest(server / BEFORE)
    database, progress = Database(store_url(server, settings)), Progress()
    with contextlib.closing(database):
        go_back(database, snapshot, progress.tell)
    progress.done()
    version = f"Runyard {snapshot.version}" if snapshot.version else "the version of Runyard that wrote it"
    if options.json:
        told = {"schema": snapshot.revision, "copy": str(snapshot.folder), "version": snapshot.version}
        answer(json.dumps(told, indent=2))
    say(
        f"The database is as it was before the upgrade (schema {snapshot.revision}, {snapshot.folder.name}): start it "
        f"with {version}; this version would bring it forward again."
    )
    return 0
