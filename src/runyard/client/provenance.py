"""What ran can be told: the commit and the changes of the folder that is sent, and who sent it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Final

from runyard import __version__

DIFF_LIMIT: Final = 256 * 1024
"""The most characters of a diff that are kept; a longer one is cut, and says so."""


def provenance(model: Path | None, names: Collection[str], agent: str) -> dict[str, object]:
    """Facts about a submission: client and, for a folder in a git repository, its commit, branch and the diff of the
    files that are sent (``names``), never of others."""
    facts: dict[str, object] = {
        "client": f"runyard {__version__} ({agent}, Python {platform.python_version()}, {platform.system()})",
    }
    if model is None or not model.is_dir():
        return facts
    if not any((each / ".git").exists() for each in (model.resolve(), *model.resolve().parents)):
        return facts
    commit = _git(model, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return facts
    facts["git_commit"] = commit.strip()
    branch = (_git(model, "rev-parse", "--abbrev-ref", "HEAD") or "").strip()
    if branch and branch != "HEAD":
        facts["git_branch"] = branch
    return facts | _changes(model, frozenset(names))


def _changes(model: Path, names: frozenset[str]) -> dict[str, object]:
    listed = _git(model, "diff", "HEAD", "--relative", "--name-only", "-z", "--", ".")
    if listed is None:
        return {}
    changed = sorted(name for name in listed.split("\0") if name in names)
    if not changed:
        return {"git_dirty": False}
    diff = (
        _git(model, "diff", "HEAD", "--relative", "--no-color", "--no-ext-diff", "--no-textconv", "--", *changed[:1000])
        or ""
    )
    if len(diff) > DIFF_LIMIT:
        diff = diff[:DIFF_LIMIT] + "\n(cut here)\n"
    return {"git_dirty": True, "git_diff": diff}


def _git(folder: Path, *words: str) -> str | None:
    """The output of git, None when it failed or is not installed."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "--literal-pathspecs", "-C", str(folder), *words],
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
