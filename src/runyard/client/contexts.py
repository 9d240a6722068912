"""Named services that a person is signed in to: `runyard login` keeps them, every command finds them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, cast

from runyard.client.errors import Misuse

LOCAL: Final = "local"
"""Names what ``runyard up`` left on this machine; no context is called so."""


@dataclass(frozen=True, slots=True)
class Named:
    """A service under a name of one's own. ``authority``: certificates (PEM) that are trusted there instead of the
    system's, empty for the system's."""

    name: str
    url: str
    token: str | None = field(default=None, repr=False)
    authority: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Contexts:
    """All that are kept. ``current``: the one that is used when nothing else is said, None for this machine's."""

    named: tuple[Named, ...] = ()
    current: str | None = None

    def get(self, name: str) -> Named | None:
        """The one of that name."""
        return next((each for each in self.named if each.name == name), None)

    def with_one(self, one: Named) -> Contexts:
        """Put one in, in the place of another of its name, and make it current."""
        others = tuple(each for each in self.named if each.name != one.name)
        return Contexts(tuple(sorted((*others, one), key=lambda each: each.name)), one.name)

    def without(self, name: str) -> Contexts:
        """Take one out; this machine's is current when it was."""
        left = tuple(each for each in self.named if each.name != name)
        return Contexts(left, None if self.current == name else self.current)

    def using(self, name: str) -> Contexts:
        """Make another one current. Raises :class:`Misuse` when there is none of that name."""
        if name == LOCAL:
            return replace(self, current=None)
        if self.get(name) is None:
            raise Misuse(absent(name))
        return replace(self, current=name)


def absent(name: str) -> str:
    """The sentence about a context that is not there."""
    return f"There is no context {name!r}: `runyard context list` shows what there is, `runyard login` makes one."


def file_of(environment: Mapping[str, str] | None = None) -> Path:
    """Where they are kept: RUNYARD_CONTEXTS, else ``runyard/contexts.json`` below XDG_CONFIG_HOME (``~/.config``)."""
    environment = os.environ if environment is None else environment
    if environment.get("RUNYARD_CONTEXTS"):
        return Path(environment["RUNYARD_CONTEXTS"])
    return Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "runyard" / "contexts.json"


def load(path: Path) -> Contexts:
    """Read them; none when there is no file. Raises :class:`Misuse` for a file that cannot be used."""
    try:
        document: object = json.loads(path.read_text(encoding="utf-8"))
        return _contexts(cast("Mapping[str, object]", document))
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise Misuse(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Misuse(f"{path} is damaged: remove it, and sign in again with `runyard login`.") from None


def _contexts(document: Mapping[str, object]) -> Contexts:
    kept = cast("Mapping[str, Mapping[str, object]]", document["contexts"])
    current = document.get("current")
    named = tuple(
        Named(name, _text(one["url"]), _maybe(one.get("token")), _text(one.get("authority") or ""))
        for name, one in kept.items()
    )
    return Contexts(named, _maybe(current))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _maybe(value: object) -> str | None:
    return None if value is None else _text(value)


def save(path: Path, contexts: Contexts) -> None:
    """Keep them, for the owner's eyes alone; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = {
        each.name: {"url": each.url, "token": each.token, "authority": each.authority or None}
        for each in contexts.named
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump({"current": contexts.current, "contexts": kept}, file, indent=2)
        file.write("\n")
    temporary.replace(path)
