"""``run``: a command in this folder becomes training runs, without a manifest."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from runyard.cli.progress import Line
from runyard.cli.session import Session, common
from runyard.cli.staying import stay
from runyard.cli.submitting import assignments, earlier, order_of, send, send_data, submission_options
from runyard.client.commands import EXAMPLE, Command
from runyard.client.errors import Misuse
from runyard.client.recipe import FIRST_LINE, Recipe
from runyard.client.run_calls import Overrides
from runyard.client.running import Given, Inferred, code_in, infer, refuse_whole_homes


class _AfterDashes(click.Command):
    """A command whose words stand behind ``--``: an option behind the program's name is the program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insist on the ``--``."""
        dashes, asked = "--" in args, list(args)
        rest = super().parse_args(ctx, args)
        words: tuple[str, ...] = ctx.params.get("words", ())
        if words and not dashes and not ctx.resilient_parsing:
            given = shlex.join(asked[: len(asked) - len(words)])
            shown = " ".join(filter(None, [given, "--", shlex.join(words)]))
            raise click.UsageError(f"Put `--` before the command: {ctx.command_path} {shown}", ctx)
        return rest


@click.command(cls=_AfterDashes, context_settings={"allow_interspersed_args": False})
@click.argument("words", nargs=-1, metavar="-- COMMAND")
@submission_options
@click.option("--cpus", type=click.FloatRange(min=0, min_open=True), metavar="N", help="CPUs of each run.")
@click.option("--memory", metavar="SIZE", help="Memory of each run, such as 8Gb.")
@click.option("--save", metavar="FILE", help="Write the manifest (with --dry-run: that alone; `-`: to stdout).")
@common
@click.pass_obj
def run(session: Session, words: tuple[str, ...], **options: Any) -> int:
    """Run COMMAND in this folder: no manifest is needed.

    The folder is sent as the model definition, the Python of the command is its environment, and a share of a machine
    is its size; what was inferred is told, and --save writes it down as a manifest. COMMAND is words, or one quoted
    text for bash. With --set, one run for each combination of values.
    """
    if not words:
        raise click.UsageError(f"There is no command to run. For example: {EXAMPLE}")
    command, folder = Command.of(words), Path()
    if not options["force"]:
        refuse_whole_homes(folder)
    with Line() as line:
        inferred = infer(session.client, command, folder, _given(options))
        data = send_data(session, options["data"], line, dry=options["dry_run"])
        inferred = replace(inferred, recipe=replace(inferred.recipe, data=data))
        _tell(session, inferred)
        if options["save"] is not None:
            _save(session, inferred.recipe, options)
            if options["dry_run"]:
                return 0
        overrides = Overrides(after=earlier(session, options), paths=assignments("--override", options["override"]))
        order = order_of(session, code_in(folder), inferred.recipe.text(), options, overrides)
        done = send(session, order, options, line, written=True)
    return done if isinstance(done, int) else stay(session, done, follow=options["follow"], wait=options["stay"])


def _given(options: dict[str, Any]) -> Given:
    return Given(
        name=options["name"],
        gpus=options["gpus"],
        cpus=options["cpus"],
        memory=options["memory"],
        framework=options["framework"],
        python=options["python"],
        env=assignments("--env", options["env"]),
        tags=options["tag"],
        priority=options["priority"],
        max_runtime=options["max_runtime"],
    )


def _tell(session: Session, inferred: Inferred) -> None:
    recipe = inferred.recipe
    session.say(f"Command: {recipe.command}   (in {Path().resolve()})")
    session.say(f"Environment: {inferred.environment}.")
    session.say(f"Each run: {inferred.size}. Results: the bucket `results`.")
    if inferred.warning is not None:
        session.say(f"warning: {inferred.warning}")


def _save(session: Session, recipe: Recipe, options: dict[str, Any]) -> None:
    """Write the manifest to the file that ``--save`` names; a file that is not of our writing is left alone."""
    if options["save"] == "-":
        if not options["dry_run"]:
            raise Misuse("`--save -` needs --dry-run: stdout holds the ids of what is submitted.")
        click.echo(recipe.text(), nl=False)
        return
    target = Path(options["save"])
    if target.exists() and not options["force"] and not target.read_bytes().startswith(FIRST_LINE.encode()):
        raise Misuse(f"There is a file {target} already, which `run` did not write: choose another, or add --force.")
    target.write_text(recipe.text(), encoding="utf-8")
    session.say(f"Saved: {target}. The same again: {session.program} train . {_again(target, options)}")


def _again(target: Path, options: dict[str, Any]) -> str:
    """The words that make the same runs of the saved manifest."""
    words = [str(target)]
    for name, values in (
        ("--set", options["sets"]),
        ("--override", options["override"]),
        ("--after", options["after"]),
    ):
        words += [part for value in values for part in (name, value)]
    words += [name for name, key in (("--zip", "zipped"), ("--args", "append_args")) if options[key]]
    return shlex.join(words)
