"""The end of a log, in the node's words: why it ended the program, and what the program wrote outside RESULT_DIR."""

from __future__ import annotations

import os

from runyard.node.became import stopped_for
from runyard.node.home import AttemptFolder, Record, write_whole
from runyard.node.log_limit import MARK, rewrite, trim
from runyard.node.prepare import limits_of
from runyard.node.workdir import Choice, lines_of, look_at_work


def close_log(folder: AttemptFolder, exit_record: Record, note: str = "") -> bool:
    """Bring the log of an ended program below its limit and add the closing lines; a node that died in between goes
    on where it was. ``note``: how another learner ended all, the last of the lines. Returns whether the working
    directory was looked at, and nothing in it is the program's.

    The lines are put on the disk first. Where the log is within its limit, the exit record has its size before them.
    """
    log = folder.log("training-log")
    base = exit_record.get("log_bytes")
    if not isinstance(base, int) or exit_record.get("started_at_ms") is None or not os.path.exists(log):
        return False
    trimmed = trim(folder, limits_of(folder).log)
    text, left = _closing_text(folder, exit_record, base, note, is_trimmed=trimmed is not None)
    if trimmed is not None:
        rewrite(folder, text)
    elif text:
        _append(log, base, text)
    return left is not None and not (left.kept or left.over or left.unread)


def _append(log: str, base: int, text: bytes) -> None:
    """Write what is missing of the closing lines behind the program's own bytes."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CLOEXEC)
    try:
        written = os.fstat(descriptor).st_size - base
        if 0 <= written < len(text):
            os.pwrite(descriptor, text[written:], base + written)
    finally:
        os.close(descriptor)


def _closing_text(
    folder: AttemptFolder, exit_record: Record, size: int, note: str, *, is_trimmed: bool
) -> tuple[bytes, Choice | None]:
    """The closing lines, and what was found in the working directory; None: nobody has looked."""
    try:
        with open(folder.closing, "rb") as file:
            return file.read(), None
    except FileNotFoundError:
        pass
    left = look_at_work(folder)
    kept = lines_of(left or Choice(), f"{folder.run}/{folder.workdir_key}")
    lines = [line for line in (stopped_for(folder, exit_record), *kept, note) if line]
    if not lines:
        return b"", left
    broken = "" if _ends_a_line(folder, size, is_trimmed=is_trimmed) else "\n"
    text = (broken + "".join(f"{MARK} {line}\n" for line in lines)).encode()
    write_whole(folder.closing, text, lasting=True)
    return text, left


def _ends_a_line(folder: AttemptFolder, size: int, *, is_trimmed: bool) -> bool:
    """Whether what comes next begins a line. The end of a log stays as it is when it is trimmed."""
    with open(folder.log("training-log"), "rb") as file:
        at = file.seek(0, os.SEEK_END) if is_trimmed else size
        if at == 0:
            return True
        file.seek(at - 1)
        return file.read(1) == b"\n"
