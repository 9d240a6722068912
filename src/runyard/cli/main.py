"""The entry points. Commands are loaded when they are called; help loads none."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from runyard.cli.catalog import COMMANDS, LATER, SECTIONS
from runyard.cli.session import Session, common, later

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

HELP = """Deep learning as a service on machines of your own: queue, run, watch, store and meter training runs.

Runs are named by id, the beginning of an id, `last`, `last-3` or `tag:NAME`; the noun (`show training-runs ID`) may be
left out. Ids go to stdout, prose to stderr. The address comes from RUNYARD_URL and RUNYARD_TOKEN, or from what
`runyard up` left in RUNYARD_HOME (~/.runyard)."""


class Commands(click.Group):
    """The group of all commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """The names, for help and completion."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one."""
        entry = COMMANDS.get(cmd_name)
        if entry is not None:
            command = getattr(import_module(f"runyard.cli.{entry.module}"), entry.attribute)
            assert isinstance(command, click.Command)
            return command
        return later(cmd_name) if cmd_name in LATER else super().get_command(ctx, cmd_name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002  # click's
        """The commands that begin so, told from the table; click would load each of them."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  # for start-up: only completion needs it

        found = ((name, entry.help) for name, entry in COMMANDS.items() if name.startswith(incomplete))
        options = ((name, "") for name in ("--help", "--json", "--debug") if incomplete.startswith("-"))
        named = (*found, *((name, text) for name, text in options if name.startswith(incomplete)))
        return [CompletionItem(name, help=text) for name, text in named]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and args[0] not in LATER:
            from runyard.cli.meant import meant  # noqa: PLC0415  # for start-up: only a mistake needs it

            loaded = {name: self.get_command(ctx, name) for name in COMMANDS}
            near = meant(args[0], {name: command for name, command in loaded.items() if command is not None})
            words = " or ".join(f"`{each}`" for each in near)
            hint = f"did you mean {words}?" if near else f"`{ctx.info_name} --help` lists them."
            raise click.UsageError(f"There is no command `{args[0]}`: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """The commands under their headings."""
        for heading, entries in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()])


@click.command(
    cls=Commands,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    invoke_without_command=False,
)
@common
def runyard() -> None:
    """The root of all commands."""


def main() -> int:
    """The entry point ``runyard``: run the command line and tell the exit code."""
    return run("runyard", sys.argv[1:])


def main_ml() -> int:
    """The entry point ``ml``: the same commands in the words of the older service."""
    return run("ml", sys.argv[1:])


def run(program: str, words: list[str]) -> int:
    """Run one call; the exit code as docs/cli.md has it."""
    session = Session(program)
    try:
        outcome: object = runyard.main(words, prog_name=program, standalone_mode=False, obj=session)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except BrokenPipeError:
        # The reader of our output has had enough; the interpreter must not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except Exception as error:
        from runyard.cli.failures import report  # noqa: PLC0415  # for start-up: only a failure needs it

        return report(session, error)
    except KeyboardInterrupt:
        return 130
