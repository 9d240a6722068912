"""The table of docs/cli.md, taken apart into every form of every command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
_ITEM = re.compile(r"\[(?P<optional>[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*)\](?=\s|$)|(?P<word>\S+)")


def lines() -> list[str]:
    """The lines of the table."""
    found = re.search(r"```synopsis\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert found is not None
    return found[1].splitlines()


def options() -> list[list[str]]:
    """What `[OPTIONS]` stands for, each as its words."""
    told = [line.removeprefix("OPTIONS ") for line in lines() if line.startswith("OPTIONS ")]
    return [choices[0] for line in told for choices in _items(line)]


def forms() -> list[list[str]]:
    """Every form as words without the program's name: each line with none, with each, and with each choice of what is
    optional. Words in capitals stand for something."""
    commands = [line.removeprefix("runyard ") for line in lines() if line.startswith("runyard ")]
    return [form for line in commands for form in _forms(line)]


def _forms(line: str) -> Iterator[list[str]]:
    items = _items(line)
    plain = [choices[0] if not optional else [] for optional, choices in zip(_optional(line), items, strict=True)]
    yield [word for words in plain for word in words]
    for index, choices in enumerate(items):
        for choice in choices if _optional(line)[index] else choices[1:]:
            yield [word for words in (*plain[:index], choice, *plain[index + 1 :]) for word in words]


def _optional(line: str) -> list[bool]:
    return [match["optional"] is not None for match in _ITEM.finditer(line)]


def _items(line: str) -> list[list[list[str]]]:
    """The items of a line in turn, each as its choices, each of these as its words."""
    return [list(_choices(match["optional"] or match["word"])) for match in _ITEM.finditer(line)]


def _choices(text: str) -> Iterator[list[str]]:
    if text == "OPTIONS":
        yield from options()
    elif " " in text:  # an option and its value, which may be one of several
        *head, value = text.split()
        yield from ([*head, each] for each in value.split("|"))
    elif "[" in text and not text.startswith("["):  # BUCKET[/PREFIX]
        yield [re.sub(r"\[.*\]", "", text)]
        yield [text.replace("[", "").replace("]", "")]
    else:
        yield from ([each] for each in text.split("|"))
