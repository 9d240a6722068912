"""Older manifests brought over to what this installation accepts."""

from __future__ import annotations

from dataclasses import dataclass

from runyard.core.account import Principal
from runyard.core.errors import ManifestError, NotFound, Refused
from runyard.core.frameworks import NotHere
from runyard.engine import frameworks
from runyard.engine.intake import fit_somewhere, resolve_connections
from runyard.engine.world import World
from runyard.manifest import Conversion, Parsed, modernise, parse


@dataclass(frozen=True, slots=True)
class Converted:
    """A manifest as it may be submitted here, the sentences on what was changed, and on what is ``left`` to do by
    hand. Both stand at the top of the text, too. It holds the secrets that the original held."""

    manifest: str
    notes: tuple[str, ...]
    left: tuple[str, ...]


def convert(world: World, who: Principal, text: str) -> Converted:
    """Bring a manifest of either dialect over. Raises :class:`ManifestError` for what is no manifest at all."""
    conversion = modernise(text)
    try:
        parsed = parse(conversion.body, configurations=world.rules.configurations)
    except ManifestError as error:
        left = tuple(f"{each.path}: {each.message}" if each.path else each.message for each in error.problems)
        return Converted(conversion.text(left), conversion.notes, left)
    conversion, left = _with_framework(world, who, conversion, parsed)
    left = (*left, *_refusals(world, who, parsed))
    return Converted(conversion.text(left), conversion.notes, left)


def _with_framework(
    world: World, who: Principal, conversion: Conversion, parsed: Parsed
) -> tuple[Conversion, tuple[str, ...]]:
    """With a framework that can be had, where the one asked for cannot, and what is left to do."""
    asked = parsed.spec.framework
    try:
        frameworks.resolve(world, who.account_id, parsed.spec)
    except NotHere as error:
        if error.instead is None:
            return conversion, (error.message,)
        was = f"{asked.name} {asked.version}".rstrip()
        note = f"The framework was {was}, which cannot be had here; {error.instead} is the nearest. The program may "
        return conversion.with_framework(error.instead, note + "need changes for it."), ()
    except Refused as error:
        return conversion, (error.message,)
    return conversion, ()


def _refusals(world: World, who: Principal, parsed: Parsed) -> tuple[str, ...]:
    """What else intake would refuse, save for object stores, which are not asked."""
    found: list[str] = []
    for ask in (lambda: fit_somewhere(world, parsed.spec), lambda: resolve_connections(world, who.account_id, parsed)):
        try:
            ask()
        except (Refused, NotFound) as error:
            found.append(error.message)
    return tuple(found)
