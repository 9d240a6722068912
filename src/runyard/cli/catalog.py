"""Every command: where it is defined, under which heading and with which words help shows it.

Help is printed from this table alone, so that it loads no command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: the module below ``runyard.cli``, the name in it, and one line of help."""

    module: str
    attribute: str
    help: str


SECTIONS: Final[dict[str, dict[str, Entry]]] = {
    "This machine": {
        "up": Entry("embedded", "up", "Start the service on this machine."),
        "down": Entry("embedded", "down", "Stop it; running programs go on unless told otherwise."),
        "status": Entry("about", "status", "Show the service, its machines and what they do."),
        "doctor": Entry("embedded", "doctor", "Look for what is wrong with this machine or installation."),
        "login": Entry("contexts", "login", "Sign in to a service elsewhere."),
        "logout": Entry("contexts", "logout", "Forget a service elsewhere."),
        "context": Entry("contexts", "context", "Choose among the services that you are signed in to."),
        "service": Entry("embedded", "service", "Start the service with this machine (systemd)."),
        "backup": Entry("keeping", "backup", "Keep the whole installation in one file, while it runs."),
        "restore": Entry("keeping", "restore", "Bring an installation back from its backup."),
        "version": Entry("about", "version", "Print the version."),
        "completion": Entry("about", "completion", "Print the completion script of a shell."),
    },
    "Training runs": {
        "run": Entry("running", "run", "Run a command in this folder: no manifest needed."),
        "train": Entry("train", "train", "Submit training runs: one, or a sweep."),
        "wait": Entry("waiting", "wait", "Wait until runs are final."),
        "list": Entry("listing", "list_command", "List training runs."),
        "show": Entry("showing", "show", "Show all that is known of a run."),
        "logs": Entry("logs", "logs", "Print a run's log, or follow it."),
        "metrics": Entry("metrics", "metrics", "Show a run's metrics and their curves."),
        "monitor": Entry("monitoring", "monitor", "Follow a run: its log, or its metrics."),
        "events": Entry("telling", "events", "Print what happened to a run, and when."),
        "explain": Entry("telling", "explain", "Say why a run is where it is."),
        "cancel": Entry("changing", "cancel", "Stop runs."),
        "delete": Entry("changing", "delete", "Remove the records of final runs."),
        "download": Entry("downloading", "download", "Fetch what runs have stored."),
        "generate-manifest": Entry("manifests", "generate_manifest", "Print a manifest to start from."),
    },
    "Queue, quota, bill": {
        "queue": Entry("queueing", "queue", "Show, hold, let go or reorder the queue."),
        "quota": Entry("quotas", "quota", "Show or set what an account may hold and spend."),
        "nodes": Entry("nodes", "nodes", "Show the machines; let nothing new start on one."),
        "usage": Entry("usage", "usage", "Show what was held and what it costs; --disk: what takes room."),
        "retention": Entry("room", "retention", "Show or set how long what runs leave behind is kept."),
        "gc": Entry("room", "gc", "Let go what is kept no longer; --dry-run: only say what."),
    },
    "Data and access": {
        "data": Entry("data", "data", "Put data into the embedded store and get them back."),
        "connections": Entry("connections", "connections", "Keep connections to object stores."),
        "secrets": Entry("secrets", "secrets", "Keep secrets that programs get by name."),
        "frameworks": Entry("frameworks", "frameworks", "List frameworks; register environments of your own."),
        "tokens": Entry("tokens", "tokens", "Make and revoke tokens."),
        "accounts": Entry("accounts", "accounts", "Keep accounts: who pays."),
        "members": Entry("members", "members", "Keep the members of an account and their roles."),
        "plans": Entry("plans", "plans", "Keep plans: what accounts may have at once."),
        "audit": Entry("auditing", "audit", "Show who did what."),
    },
}
COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}

LATER: Final = (
    "top", "compare", "tensorboard", "import", "rerun", "store", "deploy",
    "score", "experiments", "shell",
)  # fmt: skip
"""Commands that are promised and not there yet."""

RUN_NOUNS: Final = frozenset({"training-run", "training-runs"})
LATER_NOUNS: Final = frozenset(
    {
        f"{noun}{ending}"
        for noun in (
            "training-definition", "experiment", "experiment-run", "model", "deployment",
        )
        for ending in ("", "s")
    }
)  # fmt: skip
"""Nouns that the grammar knows and this version does not."""
