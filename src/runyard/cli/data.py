"""``data``: the embedded store, from and to folders."""

from __future__ import annotations

from pathlib import Path

import click

from runyard.cli.caching import cache
from runyard.cli.progress import Line
from runyard.cli.session import Session, common
from runyard.cli.table import table
from runyard.cli.times import local
from runyard.client.errors import Misuse
from runyard.client.sizes import counted, human_size
from runyard.client.transfer import pull as pull_objects
from runyard.client.transfer import push as push_files


@click.group()
def data() -> None:
    """Put data into the embedded store and get them back: push, ls, pull, rm. What machines have at hand: cache."""


@data.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.argument("target", metavar="BUCKET[/PREFIX]")
@click.option("--all", "everything", is_flag=True, help="Also send files that are there unchanged.")
@common
@click.pass_obj
def push(session: Session, path: Path, target: str, everything: bool) -> None:
    """Send a file, or all files of a folder. Prints their keys. Files that are there unchanged are left out."""
    bucket, prefix = _split(target)
    with Line() as line:
        pushed = push_files(
            session.client, path, bucket, prefix, unchanged_too=everything, progress=line.bytes_moved("sending:")
        )
    if session.json:
        items = [{"key": each.key, "size": each.size} for each in pushed.sent]
        session.emit({"bucket": bucket, "items": items, "unchanged": pushed.unchanged})
        return
    for each in pushed.sent:
        session.out(f"{bucket}/{each.key}")
    size = sum(each.size for each in pushed.sent)
    kept = f", {pushed.unchanged} unchanged" if pushed.unchanged else ""
    session.say(f"Sent {counted(len(pushed.sent), 'file')}, {human_size(size)}{kept}.")


@data.command()
@click.argument("target", metavar="[BUCKET[/PREFIX]]", required=False)
@common
@click.pass_obj
def ls(session: Session, target: str | None) -> None:
    """List the buckets, or the objects of one."""
    if target is None:
        names = session.client.buckets()
        if session.json:
            session.emit([{"name": name} for name in names])
        for name in () if session.json else names:
            session.out(name)
        return
    bucket, prefix = _split(target)
    found = list(session.client.objects(bucket, prefix))
    if session.json:
        session.emit([{"key": e.key, "size": e.size, "etag": e.etag, "modified_at": e.modified_at} for e in found])
        return
    rows = [(each.key, str(each.size), local(each.modified_at)) for each in found]
    session.out(table(("KEY", "SIZE", "MODIFIED"), rows, flexible=0))
    session.say(f"{len(found)} objects, {human_size(sum(each.size for each in found))}")


@data.command()
@click.argument("target", metavar="BUCKET[/PREFIX]")
@click.argument("path", type=click.Path(file_okay=False, path_type=Path))
@common
@click.pass_obj
def pull(session: Session, target: str, path: Path) -> None:
    """Fetch the objects of a bucket to a folder. Prints their paths."""
    bucket, prefix = _split(target)
    with Line() as line:
        fetched = pull_objects(session.client, bucket, prefix, path, progress=line.bytes_moved("fetching:"))
    if not fetched:
        raise Misuse(f"There is nothing at {target}: `{session.program} data ls {bucket}` shows what there is.")
    if session.json:
        session.emit({"files": [str(each) for each in fetched]})
        return
    for each in fetched:
        session.out(str(each))
    session.say(f"Fetched {counted(len(fetched), 'file')}, {human_size(sum(each.stat().st_size for each in fetched))}.")


@data.command()
@click.argument("target", metavar="BUCKET[/KEY]")
@click.option("--recursive", "-r", is_flag=True, help="All below BUCKET or BUCKET/PREFIX.")
@common
@click.pass_obj
def rm(session: Session, target: str, recursive: bool) -> None:
    """Remove an object; with -r all below a prefix, or the whole bucket."""
    bucket, key = _split(target)
    if recursive:
        prefix = f"{key}/" if key else ""
        count = session.client.delete_objects(bucket, prefix)
        if key and session.client.has_object(bucket, key):
            session.client.delete_object(bucket, key)
            count += 1
    elif not key:
        raise Misuse(f"{target} is a whole bucket: `data rm -r {target}` removes all that is in it.")
    else:
        session.client.delete_object(bucket, key)
        count = 1
    if session.json:
        session.emit({"removed": count})
    else:
        session.say(f"Removed {count} object{'s' * (count != 1)}.")


data.add_command(cache)


def _split(target: str) -> tuple[str, str]:
    bucket, _, prefix = target.strip("/").partition("/")
    if not bucket:
        raise Misuse("Name a bucket: BUCKET or BUCKET/PREFIX.")
    return bucket, prefix
