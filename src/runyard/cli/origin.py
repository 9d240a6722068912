"""What a run was made of, as text: its data as they were listed, and the commit of its code."""

from __future__ import annotations

from runyard.client.decode import Json, child, children, integer, text, texts
from runyard.client.sizes import human_size

DIGITS = 12
"""Of a hash, for people: enough to tell two apart."""


def environment_text(environment: Json) -> str:
    """What a run's interpreter is, e.g. ``Python 3.11.7, torch==2.13.0, 66 packages: /opt/env/bin/python``; before
    it is ready what was asked of it, nothing where nothing was."""
    asked = child(environment, "asked")
    pins = ", ".join(texts(asked, "packages"))
    if not text(environment, "interpreter"):
        wanted = text(asked, "python") or pins
        return f"{wanted}, not ready yet" if wanted else ""
    packages = f"{len(child(environment, 'packages'))} packages"
    words = ", ".join(filter(None, [f"Python {text(environment, 'python')}", pins, packages]))
    return f"{words}: {text(environment, 'interpreter')}"


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
