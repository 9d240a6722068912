"""The node's closing lines of a log: what the program wrote in its working directory. Nothing is lost in silence."""

from __future__ import annotations

import os
from collections.abc import Sequence

from runyard.node.evidence import human
from runyard.node.home import AttemptFolder, Record, write_whole
from runyard.node.prepare import read_order
from runyard.node.results import Choice, choose, files_of, over_limit, prepared_ns
from runyard.node.sweep import Found, Tree

MOST_LINES = 40
MARK = "[runyard]"


def closing_lines(run: str, choice: Choice) -> str:
    """The lines; empty when the program wrote nothing outside ``RESULT_DIR``."""
    files = [*choice.kept, *choice.over]
    if not files:
        return ""
    lines = [f"Written in the working directory, outside RESULT_DIR, and kept in {run}/workdir/:"]
    over = set(choice.over)
    for file in files[:MOST_LINES]:
        lines.append(
            f"  {shown(file)}{': NOT kept: ' + over_limit(file) if file in over else f' ({human(file.size)})'}"
        )
    if len(files) > MOST_LINES:
        lines.append(f"  and {len(files) - MOST_LINES} more, {len(choice.over)} in all not kept for their size.")
    return "".join(f"{MARK} {line}\n" for line in lines)


def shown(file: Found) -> str:
    """A path on one line, whatever is in its name."""
    return "".join(letter if letter.isprintable() else "?" for letter in file.path)


def close_log(folder: AttemptFolder, exit_record: Record) -> None:
    """Add the closing lines to the log of an ended attempt; a node that died in between goes on where it was.

    The lines are put on the disk first, and the exit record has the size that the log had before them.
    """
    log = folder.log("training-log")
    base = exit_record.get("log_bytes")
    if not isinstance(base, int) or exit_record.get("started_at_ms") is None or not os.path.exists(log):
        return
    text = _kept_lines(folder, exit_record)
    descriptor = os.open(log, os.O_WRONLY | os.O_CLOEXEC)
    try:
        written = os.fstat(descriptor).st_size - base
        if 0 <= written < len(text):
            os.pwrite(descriptor, text[written:], base + written)
    finally:
        os.close(descriptor)


def _kept_lines(folder: AttemptFolder, exit_record: Record) -> bytes:
    try:
        with open(folder.closing, "rb") as file:
            return file.read()
    except FileNotFoundError:
        pass
    kept = read_order(folder)
    lines = "" if kept is None else closing_lines(folder.run, look_at_work(folder, kept.outputs, kept.uid))
    if not lines:
        return b""
    text = (_missing_newline(folder, int(exit_record["log_bytes"])) + lines).encode()
    write_whole(folder.closing, text, lasting=True)
    return text


def look_at_work(folder: AttemptFolder, outputs: Sequence[str], uid: int | None) -> Choice:
    """What is kept of a working directory; nothing, when there is none."""
    try:
        with Tree(folder.path, "own/work", uid) as tree:
            return choose(files_of(tree), prepared_ns(folder), outputs)
    except OSError:
        return Choice((), ())


def _missing_newline(folder: AttemptFolder, size: int) -> str:
    if size == 0:
        return ""
    with open(folder.log("training-log"), "rb") as file:
        file.seek(size - 1)
        return "" if file.read(1) == b"\n" else "\n"
