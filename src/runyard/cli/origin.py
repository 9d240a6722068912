"""What a run was made of, as text: its data as they were listed, and the commit of its code."""

from __future__ import annotations

from runyard.client.decode import Json, child, children, integer, text
from runyard.client.packing import human_size

DIGITS = 12
"""Of a hash, for people: enough to tell two apart."""


def location_text(location: Json) -> str:
    """Where objects lie, e.g. ``s3 results/``."""
    bucket = text(location, "bucket")
    return f"{text(location, 'type')} {bucket}/{text(location, 'prefix')}".strip() if bucket else ""


def data_text(raw: Json) -> str:
    """A line for each data reference; with what was listed there, once that is known."""
    held = children(raw, "inputs")
    lines: list[str] = []
    for number, location in enumerate(children(raw, "data")):
        told = _held(held[number]) if number < len(held) else ""
        lines.append(location_text(location) + told)
    return "\n".join(lines)


def _held(listed: Json) -> str:
    digest = text(listed, "digest")
    if not digest:
        return ""
    count = integer(listed, "objects")
    objects = "1 object" if count == 1 else f"{count} objects"
    return f" ({objects}, {human_size(integer(listed, 'bytes'))}, digest {digest[:DIGITS]})"


def commit_text(raw: Json) -> str:
    """Commit and branch of the folder that was sent, and whether it had changes."""
    provenance = child(raw, "provenance")
    commit = text(provenance, "git_commit")
    if not commit:
        return ""
    branch = text(provenance, "git_branch")
    words = commit[:DIGITS] + (f" on {branch}" if branch else "")
    if provenance.get("git_dirty") is True:
        words += f", with changes (provenance.git_diff of `show {text(raw, 'id')} --json`)"
    return words
