"""``status``, ``version`` and ``completion``."""

from __future__ import annotations

from collections import Counter

import click
from click.shell_completion import get_completion_class

from runyard import __version__
from runyard.cli.session import Session, common
from runyard.cli.table import pairs, table
from runyard.cli.times import age
from runyard.client.decode import Json, integer, number, text, texts, truth


@click.command()
@common
@click.pass_obj
def status(session: Session) -> None:
    """Show the service, its machines and what they do."""
    found = session.client.status()
    if session.json:
        session.emit(found.raw)
        return
    counts = ", ".join(f"{count} {session.state(state)}" for state, count in found.counts.items() if count)
    session.out(
        pairs(
            [
                ("service", f"{session.client.url}, version {found.version}"),
                ("up for", age(found.started_at)),
                ("you are", f"{found.member} of account {found.account}" if found.member else found.account),
                ("slots", f"{found.slots_used} of {found.slots_total} in use"),
                ("runs", counts or "none yet"),
                ("queue", "held: `queue resume` lets it go" if found.queue_paused else ""),
            ]
        )
    )
    if found.nodes:
        rows = [_node(node) for node in found.nodes]
        session.out("\n" + table(("MACHINE", "STATE", "GPUS", "CPUS", "MEMORY", "VERSION"), rows, flexible=1))


def _node(node: Json) -> tuple[str, ...]:
    closed = text(node, "closed")
    state = f"closed: {closed}" if closed else "connected" if truth(node, "connected") else "not heard of"
    state = " ".join([state, *texts(node, "shut_gpus")])
    names = Counter(texts(node, "gpus"))
    kind = " (logical)" if truth(node, "logical_gpus") else ""
    gpus = ", ".join(f"{count} {name}".rstrip() for name, count in names.items()) + kind if names else "none"
    memory = f"{integer(node, 'memory_mib') / 1024:.0f} GB"
    return text(node, "name"), state, gpus, f"{number(node, 'cpus'):g}", memory, text(node, "version")


@click.command()
@common
@click.pass_obj
def version(session: Session) -> None:
    """Print the version of this program."""
    if session.json:
        session.emit({"version": __version__})
    else:
        session.out(f"runyard {__version__}")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
@click.pass_obj
def completion(session: Session, shell: str) -> None:
    """Print the completion script of a shell.

    bash: eval "$(runyard completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc;
    fish: runyard completion fish > ~/.config/fish/completions/runyard.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    variable = f"_{session.program.upper()}_COMPLETE"
    session.out(kind(root, {}, session.program, variable).source())
