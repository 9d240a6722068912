"""Which command may have been meant by a word that is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import click

_MOST = 4


def meant(word: str, commands: Mapping[str, click.Command]) -> Sequence[str]:
    """The command that is spelled most alike; of those below others (``queue pause``) all that have the name."""
    below: dict[str, list[str]] = {}
    for name, command in commands.items():
        if isinstance(command, click.Group):
            for each in command.commands:
                below.setdefault(each, []).append(f"{name} {each}")
    near = get_close_matches(word, [*commands, *below], 1)
    if near and near[0] not in commands:
        return below[near[0]][:_MOST]
    return near
