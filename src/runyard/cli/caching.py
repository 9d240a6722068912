"""``data cache``: what the machines have at hand, so that a run need not wait for it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from runyard.cli.session import Session, common, session_of
from runyard.cli.table import table
from runyard.cli.times import local
from runyard.client.account_records import CachedBucket, NodeCache
from runyard.client.sizes import counted, human_size


@click.group(invoke_without_command=True)
@common
@click.pass_context
def cache(context: click.Context) -> None:
    """Show what the machines have at hand, or: ls, pin BUCKET, unpin BUCKET, clear."""
    if context.invoked_subcommand is None:
        _show(session_of(context))


@cache.command("ls")
@common
@click.pass_obj
def ls(session: Session) -> None:
    """List what each machine has of buckets. A pinned one stays; one in use by a run does too."""
    _show(session)


@cache.command()
@click.argument("bucket")
@common
@click.pass_obj
def pin(session: Session, bucket: str) -> None:
    """Keep what is and will be there of a bucket, on every machine (for an admin)."""
    caches = session.client.change_caches("pin", bucket)
    _tell(session, caches, f"What the machines fetch of {bucket} stays until `data cache unpin {bucket}`.")


@cache.command()
@click.argument("bucket")
@common
@click.pass_obj
def unpin(session: Session, bucket: str) -> None:
    """Let a bucket go again when room is needed (for an admin)."""
    caches = session.client.change_caches("unpin", bucket)
    _tell(session, caches, f"What there is of {bucket} goes when room is needed.")


@cache.command()
@click.argument("bucket", required=False)
@common
@click.pass_obj
def clear(session: Session, bucket: str | None) -> None:
    """Remove what no run uses or waits for and nobody has pinned; of one bucket, or all (for an admin)."""
    caches = session.client.change_caches("clear", bucket)
    removed = sum(each.removed for each in caches)
    _tell(session, caches, f"Removed {counted(removed, 'folder')}." if removed else "There was nothing to remove.")


def _tell(session: Session, caches: Sequence[NodeCache], sentence: str) -> None:
    if session.json:
        session.emit({"nodes": [each.raw for each in caches]})
        return
    away = [each.node for each in caches if not each.answered]
    session.say(sentence if len(away) < len(caches) else "No machine has answered: nothing was changed.")
    if away and len(away) < len(caches):
        session.say(f"Not changed, since away: {', '.join(away)}.")


def _show(session: Session) -> None:
    caches = session.client.caches()
    if session.json:
        session.emit({"nodes": [each.raw for each in caches]})
        return
    rows = [_row(each.node, item) for each in caches for item in each.items]
    if rows:
        header = ("NODE", "BUCKET", "STORE", "OBJECTS", "SIZE", "OWN", "LAST USED", "STATE")
        session.out(table(header, rows, flexible=1))
    for each in caches:
        if not each.answered:
            session.say(f"{each.node}: away, and did not answer.")
            continue
        session.say(
            f"{each.node}: {human_size(each.size)} of {human_size(each.limit)}, code and environments included."
        )
        if each.pins:
            session.say(f"{each.node}: pinned are {', '.join(each.pins)}.")


def _row(node: str, item: CachedBucket) -> tuple[str, ...]:
    where = f"{item.bucket}/{item.prefix}".rstrip("/")
    state = " ".join(word for word, holds in (("pinned", item.pinned), ("in use", item.in_use)) if holds)
    store = item.address or "embedded"
    return (
        node,
        where,
        store,
        str(item.objects),
        human_size(item.size),
        human_size(item.own),
        local(item.last_used_at),
        state,
    )
