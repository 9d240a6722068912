"""``backup`` and ``restore``: thin doors to :mod:`runyard.up`, as those in :mod:`runyard.cli.embedded`."""

from __future__ import annotations

import click

from runyard.cli.embedded import HOME, call, home_of
from runyard.cli.options import BackupOptions, RestoreOptions
from runyard.cli.session import Session, common

PASSPHRASE = click.option("--passphrase-file", metavar="FILE", help="Seals the key; the first line is the passphrase.")


@click.command()
@click.argument("file", metavar="FILE|DIR")
@HOME
@click.option("--verify", is_flag=True, help="Make none: see whether FILE is whole.")
@click.option("--without-key", is_flag=True, help="Leave the key of stored secrets and the tokens out.")
@PASSPHRASE
@common
@click.pass_obj
def backup(
    session: Session, file: str, home: str | None, verify: bool, without_key: bool, passphrase_file: str | None
) -> int:
    """Keep the whole installation in one file, while it runs: records, code, logs, metrics, embedded data, key.

    Into a folder it goes under a name by the time.
    """
    options = BackupOptions(home_of(home), file, verify, without_key, passphrase_file, session.json)
    return call(session, "backup", options)


@click.command()
@click.argument("file", metavar="FILE", required=False)
@HOME
@click.option("--store-url", metavar="URL", help="Another database; sqlite: a file in the home.")
@PASSPHRASE
@click.option("--before-upgrade", is_flag=True, help="Go back to the database from before its schema was migrated.")
@common
@click.pass_obj
def restore(
    session: Session,
    file: str | None,
    home: str | None,
    store_url: str | None,
    passphrase_file: str | None,
    before_upgrade: bool,
) -> int:
    """Bring an installation back from its backup, into an empty folder and an empty database."""
    if (file is None) is not before_upgrade:
        raise click.UsageError("Name the FILE of a backup, or give --before-upgrade alone.")
    options = RestoreOptions(home_of(home), file or "", store_url, passphrase_file, before_upgrade, session.json)
    return call(session, "restore", options)
