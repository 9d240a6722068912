"""Tables: the keys that a mapping may have. The parser and the JSON Schema are both made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar, cast

from runyard.manifest.findings import Place, suggestion
from runyard.manifest.kinds import Json, Kind, Measure
from runyard.manifest.nodes import Entry, MapNode, Node, ScalarNode, describe

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Key(Generic[T_co]):
    """A key of a table: what it holds, its value where it is absent, and a sentence about it.

    ``private``: secrets stand in it or below it. ``unused``: a sentence for the notes of a manifest that has it.
    ``sample``: a value as it may be written.
    """

    name: str
    kind: Kind[T_co]
    default: T_co
    about: str
    aliases: tuple[str, ...] = ()
    required: bool = False
    private: bool = False
    unused: str = ""
    sample: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A table as read. ``opened[KEY]`` is the value, or the default of a key that is absent or wrong."""

    place: Place
    values: Mapping[str, object]
    places: Mapping[str, Place]

    def __getitem__(self, key: Key[T]) -> T:
        return cast(T, self.values.get(key.name, key.default))

    def __contains__(self, key: Key[object]) -> bool:
        return key.name in self.places

    def good(self, key: Key[object]) -> bool:
        """Whether ``key`` is there and could be read."""
        return key.name in self.values

    def at(self, key: Key[object]) -> Place:
        """Where ``key`` stands, or would stand."""
        return self.places.get(key.name) or self.place.key(key.name, self.place.line)


@dataclass(frozen=True)
class Table:
    """The keys of a mapping. As a kind it reads a mapping into an :class:`Opened`.

    ``short`` is the key that a single value stands for: ``compute_configuration: k80`` is its name.
    """

    keys: tuple[Key[object], ...]
    short: str | None = None
    title: str = ""

    @cached_property
    def spellings(self) -> Mapping[str, Key[object]]:
        """Every spelling of every key."""
        return {spelling: key for key in self.keys for spelling in (key.name, *key.aliases)}

    def read(self, node: Node, place: Place) -> Opened | None:
        if isinstance(node, ScalarNode) and self.short is not None:
            node = MapNode((Entry(self.short, node.line, node),), node.line)
        if not isinstance(node, MapNode):
            place.say(f"This must be a table of keys, not {describe(node)}.")
            return None
        values: dict[str, object] = {}
        places: dict[str, Place] = {}
        for entry in node.entries:
            if place.findings.full:
                break
            self._entry(entry, place, values, places)
        for key in self.keys:
            if key.required and key.name not in places:
                place.key(key.name, place.line).say("This key is missing.")
        return Opened(place, values, places)

    def _entry(self, entry: Entry, place: Place, values: dict[str, object], places: dict[str, Place]) -> None:
        key = self.spellings.get(entry.key)
        if key is None:
            self._unknown(entry, place)
            return
        if isinstance(entry.value, ScalarNode) and entry.value.null and not key.required:
            return  # nothing said is nothing asked
        single = isinstance(entry.value, ScalarNode)
        here = place.key(entry.key, entry.value.line if single else entry.line, private=key.private)
        if key.name in places:
            here.say("This is given twice." if key.name == entry.key else f"This is given twice, as `{key.name}` too.")
            return
        places[key.name] = here
        value = key.kind.read(entry.value, here)
        if value is not None:
            values[key.name] = value
        if key.unused:
            place.findings.notes.append(f"`{here.path}` {key.unused}")

    def _unknown(self, entry: Entry, place: Place) -> None:
        advice = suggestion(entry.key, self.spellings, [key.name for key in self.keys])
        where = Place(place.findings, place.path, entry.line)
        if place.private or place.shown(entry.key, "") == "":
            where.say(f"A key here is unknown (it is not repeated, for it may hold a secret): {advice}")
        else:
            place.key(entry.key, entry.line).say(f"This key is unknown: {advice}")

    def schema(self) -> Json:
        properties: Json = {}
        for key in self.keys:
            properties[key.name] = {**key.kind.schema(), "description": key.about, **_default(key)}
            for alias in key.aliases:
                properties[alias] = {**key.kind.schema(), "description": f"The same as {key.name}."}
        shape: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        if required := [key.name for key in self.keys if key.required and not key.aliases]:
            shape["required"] = required
        return {"oneOf": [shape, {"type": ["string", "number"]}]} if self.short else shape


def _default(key: Key[object]) -> Json:
    plain = isinstance(key.default, str | int) and key.default != "" and not key.required
    return {"default": key.default} if plain and not isinstance(key.kind, Measure) else {}
