"""What a key may hold: each kind reads a node into a value, reports what is wrong, and has a JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from runyard.core.errors import ManifestError
from runyard.core.spec import Scalar
from runyard.core.sweep import HYPER_PARAMETER, parse_scalar
from runyard.manifest.durations import parse as parse_duration
from runyard.manifest.durations import parse_size
from runyard.manifest.findings import Place
from runyard.manifest.nodes import Entry, ListNode, MapNode, Node, ScalarNode, describe

Json: TypeAlias = dict[str, object]
T_co = TypeVar("T_co", covariant=True)

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}(?:\.0*)?")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})")
SWITCH: Final = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
ONE_LINE: Final = re.compile(r"(?!\s*\Z)[^\x00-\x1f\x7f\x85\u2028\u2029]+")


class Kind(Protocol[T_co]):
    """Reads a node into a ``T_co``, or reports why not at ``place`` and answers None."""

    def read(self, node: Node, place: Place) -> T_co | None: ...

    def schema(self) -> Json: ...


def scalar(node: Node, place: Place, wanted: str) -> ScalarNode | None:
    """The node as a single value, None after reporting that ``wanted`` must stand here."""
    if isinstance(node, ScalarNode):
        return node
    place.say(f"This must be {wanted}, not {describe(node)}.")
    return None


@dataclass(frozen=True, slots=True)
class Text:
    """Text; a plain number keeps the characters it was written with. ``pattern`` must match all of it."""

    pattern: re.Pattern[str] | None = ONE_LINE
    rule: str = "This must be text on one line, and not empty."
    limit: int = 4096

    def read(self, node: Node, place: Place) -> str | None:
        found = scalar(node, place, "text")
        if found is None:
            return None
        if len(found.text) > self.limit:
            place.say(f"This has more than {self.limit} characters.")
        elif self.pattern is not None and not self.pattern.fullmatch(found.text):
            place.say(self.rule)
        else:
            return found.text
        return None

    def schema(self) -> Json:
        shape: Json = {"type": ["string", "number"], "maxLength": self.limit}
        if self.pattern is not None and not self.pattern.flags & re.S and r"\Z" not in self.pattern.pattern:
            shape["pattern"] = f"^{self.pattern.pattern}$"  # editors know no more of Python's expressions than this
        return shape


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds."""

    low: int
    high: int

    def read(self, node: Node, place: Place) -> int | None:
        wanted = f"a whole number from {self.low} to {self.high}"
        if (found := scalar(node, place, wanted)) is None:
            return None
        if found.plain and _WHOLE.fullmatch(found.text):
            number = int(found.text.partition(".")[0])
            if self.low <= number <= self.high:
                return number
        place.say(f"This must be {wanted}{'' if found.plain else ', without quotes'}.")
        return None

    def schema(self) -> Json:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Thousandths:
    """A decimal number above zero, read in thousandths, rounded up: 0.5 is 500."""

    high: int

    def read(self, node: Node, place: Place) -> int | None:
        wanted = f"a number above 0, at most {self.high}"
        if (found := scalar(node, place, wanted)) is None:
            return None
        if found.plain and _DECIMAL.fullmatch(found.text):
            whole, _, fraction = found.text.lstrip("+").partition(".")
            thousandths = -(-int(f"{whole}{fraction}") * 1000 // 10 ** len(fraction))
            if 0 < thousandths <= self.high * 1000:
                return thousandths
        place.say(f"This must be {wanted}{'' if found.plain else ', without quotes'}.")
        return None

    def schema(self) -> Json:
        return {"type": "number", "exclusiveMinimum": 0, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off, in any of YAML's spellings."""

    def read(self, node: Node, place: Place) -> bool | None:
        found = scalar(node, place, "on or off")
        if found is not None and (answer := SWITCH.get(found.text.lower())) is not None:
            return answer
        if found is not None:
            place.say("This must be on or off.")
        return None

    def schema(self) -> Json:
        return {"enum": [True, False, *SWITCH]}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words; ``words`` maps each spelling to its meaning."""

    words: tuple[tuple[str, str], ...]

    @staticmethod
    def of(*words: str) -> Choice:
        return Choice(tuple((word, word) for word in words))

    def read(self, node: Node, place: Place) -> str | None:
        known = dict(self.words)
        found = scalar(node, place, f"one of {', '.join(known)}")
        if found is None:
            return None
        if (meaning := known.get(found.text)) is None:
            place.say(f"{place.shown(found.text, 'This')} is none of the words known here: {', '.join(known)}.")
        return meaning

    def schema(self) -> Json:
        return {"enum": [word for word, _ in self.words]}


@dataclass(frozen=True, slots=True)
class Measure:
    """A duration in milliseconds or a size in MiB, not below ``low`` and not above ``high``, in words ``most``."""

    parse: Callable[[str], int]
    low: int
    wanted: str
    shape: tuple[tuple[str, object], ...]
    high: int | None = None
    most: str = ""

    def read(self, node: Node, place: Place) -> int | None:
        if (found := scalar(node, place, self.wanted)) is None:
            return None
        try:
            amount = self.parse(found.text)
        except ManifestError as error:
            place.say(error.problems[0].message)
            return None
        if amount < self.low:
            place.say(f"This must be {self.wanted} above zero.")
            return None
        if self.high is not None and amount > self.high:
            place.say(f"This must be {self.wanted} of at most {self.most}.")
            return None
        return amount

    def schema(self) -> Json:
        return dict(self.shape)


def duration(low_ms: int, high_ms: int | None = None, most: str = "") -> Measure:
    """A duration of at least ``low_ms`` milliseconds, and at most ``high_ms`` (in words: ``most``)."""
    return Measure(parse_duration, low_ms, "a duration", _DURATION_SHAPE, high_ms, most)


_DURATION_SHAPE: Final = (
    ("type", ["string", "number"]),
    ("pattern", r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$|^[0-9]+(\.[0-9]+)?$"),
    ("minimum", 0),
)
SIZE: Final = Measure(
    parse_size,
    1,
    "a size",
    (("type", "string"), ("pattern", r"^[0-9]+(\.[0-9]+)? *([KMGTkmgt][Ii]?[Bb]?)$"), ("examples", ["512MiB", "2Gb"])),
)


@dataclass(frozen=True, slots=True)
class Many(Generic[T_co]):
    """A list of one kind; a single one may stand without the list. At most ``limit``."""

    kind: Kind[T_co]
    limit: int = 1000

    def read(self, node: Node, place: Place) -> tuple[T_co, ...] | None:
        nodes = node.items if isinstance(node, ListNode) else (node,)
        if len(nodes) > self.limit:
            place.say(f"This lists more than {self.limit}.")
            return None
        values: list[T_co] = []
        for index, each in enumerate(nodes):
            inner = place.item(index, each.line) if isinstance(node, ListNode) else place
            value = self.kind.read(each, inner)
            if value is not None:
                values.append(value)
        return tuple(values)

    def schema(self) -> Json:
        return {"oneOf": [self.kind.schema(), {"type": "array", "items": self.kind.schema(), "maxItems": self.limit}]}


@dataclass(frozen=True, slots=True)
class Pairs(Generic[T_co]):
    """A table whose keys are the user's own. ``check`` tells what is wrong with a key, None where nothing is."""

    value: Kind[T_co]
    check: Callable[[str], str | None]
    limit: int = 1000

    def read(self, node: Node, place: Place) -> tuple[tuple[str, T_co], ...] | None:
        if not isinstance(node, MapNode):
            place.say(f"This must be a table of names and values, not {describe(node)}.")
            return None
        if len(node.entries) > self.limit:
            place.say(f"This table has more than {self.limit} names.")
            return None
        pairs: dict[str, T_co] = {}
        for entry in node.entries:
            value = self._value(entry, place, pairs)
            if value is not None:
                pairs[entry.key] = value
        return tuple(pairs.items())

    def _value(self, entry: Entry, place: Place, seen: Container[str]) -> T_co | None:
        wrong = "is given twice." if entry.key in seen else self.check(entry.key)
        if wrong is not None:
            shown = place.shown(entry.key, "A name here")
            Place(place.findings, place.path, entry.line).say(f"{shown} {wrong}")
            return None
        return self.value.read(entry.value, place.key(entry.key, entry.value.line))

    def schema(self) -> Json:
        return {"type": "object", "additionalProperties": self.value.schema(), "maxProperties": self.limit}


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a hyper-parameter: quoted text stays text, plain words are read as ``--set`` reads them."""

    def read(self, node: Node, place: Place) -> Scalar | None:
        found = scalar(node, place, "one value (--set gives several to a sweep)")
        if found is None:
            return None
        if found.null or (found.plain and found.text.lower().lstrip("+-") in (".inf", ".nan")):
            place.say('This must be a number, true, false or text; "" is the empty text.')
            return None
        try:
            return parse_scalar(found.text) if found.plain else found.text
        except ValueError as error:
            place.say(str(error))
            return None

    def schema(self) -> Json:
        return {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True, slots=True)
class Environment:
    """The value of an environment variable; nothing is the empty text."""

    def read(self, node: Node, place: Place) -> str | None:
        found = scalar(node, place, "one value")
        if found is None:
            return None
        if "\0" in found.text:
            place.say("This holds a NUL character, which no environment variable can have.")
            return None
        return "" if found.null else found.text

    def schema(self) -> Json:
        return {"type": ["string", "number", "boolean", "null"]}


def hyper_parameter_name(name: str) -> str | None:
    """What is wrong with the name of a hyper-parameter."""
    if HYPER_PARAMETER.fullmatch(name) and len(name) <= 128:
        return None
    return "cannot be a hyper-parameter: use letters, digits, `_`, `.` and `-`, and begin with a letter."
