"""docs/cli.md tells every command, every option and every exit code."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from runyard.cli.catalog import COMMANDS, LATER
from runyard.cli.failures import EXIT_CODES, INTERRUPTED, OURS
from runyard.cli.main import runyard

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
OPTIONS_OF_TRAIN = PAGE.split("| option | does |")[1].split("\n\n")[0]
EVERYWHERE = {"--json", "--debug", "--help", "-h"}


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The commands without sub-commands, each with its whole name."""
    if isinstance(command, click.Group):
        for sub, each in command.commands.items():
            yield from leaves(each, f"{name} {sub}")
    else:
        yield name, command


def paragraph(name: str) -> str:
    """The paragraph that tells a command."""
    for block in re.split(r"\n\n(?=\*\*`|## )", PAGE):
        if re.search(rf"\*\*`{name}`\*\*", block.replace("\n", " ")):
            return block
    return ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_told(name: str) -> None:
    found = runyard.get_command(click.Context(runyard), name)
    assert found is not None
    for whole, command in leaves(found, name):
        if command.short_help == "Not in this version.":
            assert f"`{whole.split()[0]}" in PAGE.split("## Not in this version")[1]
            continue
        text = paragraph(whole)
        assert text, f"{whole} has no paragraph"
        if whole == "run":  # its other options are those of `train`, which it says
            text += paragraph("train") + OPTIONS_OF_TRAIN
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                missing = [each for each in parameter.opts if each not in EVERYWHERE and f"{each}" not in text]
                assert missing == [], f"{whole} {missing}"


def test_what_is_not_there_is_told() -> None:
    last = PAGE.split("## Not in this version")[1]
    assert [name for name in LATER if f"`{name}`" not in last] == []


def test_every_exit_code_is_told() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert told == {0, 1, 3, INTERRUPTED, OURS, *EXIT_CODES.values()}
