"""``evaluation_metrics`` of dialect two: where the metrics of a run come from."""

from __future__ import annotations

import re
from typing import Final

from runyard.core.spec import EvaluationMetrics
from runyard.manifest.findings import Place, suggestion
from runyard.manifest.kinds import Choice, Many, Pairs, Text, Whole
from runyard.manifest.tables import Key, Opened, Table

MACROS: Final = {
    "FLOAT": r"[-+]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|(?i:nan|inf(?:inity)?))",
    "INT": r"[-+]?[0-9]+",
    "TIMESTAMP": r"[0-9]{4}(?:-[0-9]{2}){2}[T ](?:[0-9]{2}:){2}[0-9]{2}(?:[.,][0-9]+)?(?:Z|[-+][0-9]{2}:?[0-9]{2})?",
}
"""What ``%{NAME:group}`` stands for: a named group of this regular expression."""

MAX_REGEX: Final = 4096
_MACRO = re.compile(r"%\{(\w+)(?::(\w+))?\}", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TYPES: Final = ("tensorboard", "regex_extractor", "emetrics_file", "none")


def expand_macros(regex: str) -> str:
    """Write out ``%{FLOAT:x}`` as a group named x and ``%{FLOAT}`` as one without a name.

    Raises ``ValueError`` for a macro that is none of :data:`MACROS`.
    """

    def written_out(match: re.Match[str]) -> str:
        if (body := MACROS.get(match[1])) is None:
            raise ValueError(f"There is no macro %{{{match[1][:32]}}}: {suggestion(match[1], MACROS)}")
        return f"(?P<{match[2]}>{body})" if match[2] else f"(?:{body})"

    return _MACRO.sub(written_out, regex)


def compile_regex(regex: str) -> re.Pattern[str]:
    """Compile a regular expression of the log, macros written out. Raises ``ValueError``, and says why."""
    if len(regex) > MAX_REGEX:
        raise ValueError(f"A regular expression has at most {MAX_REGEX} characters.")
    expanded = expand_macros(regex)
    try:
        return re.compile(expanded)
    except re.error as error:
        raise ValueError(f"This is no regular expression of Python: {error.msg}.") from None
    except (OverflowError, RecursionError):
        raise ValueError("This regular expression is too large.") from None


def _label(name: str) -> str | None:
    return None if name and len(name) <= 128 else "cannot be a name: use 1 to 128 characters."


_ANY = Text(limit=1024)
_MEASURE: Final = Table(
    (
        Key[str]("type", _ANY, "", "INT, FLOAT, STRING or JSONSTRING; numbers are recognised without it."),
        Key[str]("value", _ANY, "", "A group of the regular expression, as $group.", required=True),
    ),
    short="value",
)
_MEASURES: Final = Pairs(_MEASURE, _label)
REGEX: Final = Key[str](
    "regex", Text(None, limit=MAX_REGEX), "", "Regular expression with named groups.", required=True
)
META: Final = Key[tuple[tuple[str, str], ...]](
    "meta", Pairs(_ANY, _label), (), "As FfDL wrote it.", unused="has no effect: a line's time is when it was printed."
)
SCALARS: Final = Key[tuple[tuple[str, Opened], ...]](
    "scalars", _MEASURES, (), "Metrics, each from a group. Without it, each group is a metric.", aliases=("values",)
)
ETIMES: Final = Key[tuple[tuple[str, Opened], ...]](
    "etimes", _MEASURES, (), "What tells the time of a metric, such as iteration, each from a group."
)
_GROUP: Final = Table((REGEX, META, SCALARS, ETIMES), short="regex")
GROUPS: Final = Key[tuple[tuple[str, Opened], ...]](
    "groups", Pairs(_GROUP, _label, limit=100), (), "For regex_extractor: a name and a regular expression each."
)
TYPE: Final = Key[str](
    "type", Choice.of(*_TYPES), "none", f"Where metrics come from: {', '.join(_TYPES)}.", required=True
)
IN: Final = Key[str]("in", Text(), "", "Where they are, such as $JOB_STATE_DIR/logs/tb.")
_LOOKAHEAD: Final = Key[int](
    "line_lookahead",
    Whole(0, 1000),
    1,
    "As FfDL wrote it.",
    aliases=("linelookahead",),
    unused="has no effect: regular expressions are tried on one line at a time.",
)
_EVENTS: Final = Key[tuple[str, ...]](
    "event_types",
    Many(_ANY),
    (),
    "As FfDL wrote it.",
    aliases=("eventTypes",),
    unused="has no effect: scalars are read.",
)
_IMAGE: Final = Key[str](
    "image_tag", _ANY, "", "As FfDL wrote it.", unused="has no effect: metrics are read by Runyard itself."
)
METRICS: Final = Key[Opened | None](
    "evaluation_metrics",
    Table((TYPE, IN, GROUPS, _LOOKAHEAD, _EVENTS, _IMAGE), short="type"),
    None,
    "Where the metrics of the run come from.",
)


def metrics(opened: Opened | None) -> EvaluationMetrics:
    """The metrics of an ``evaluation_metrics:`` table. Groups keep their macros; each named group is a metric."""
    if opened is None:
        return EvaluationMetrics()
    groups = opened[GROUPS]
    if opened[TYPE] == "regex_extractor" and GROUPS not in opened:
        opened.at(GROUPS).say("This key is missing: regex_extractor needs at least one group.")
    if opened.good(TYPE) and opened[TYPE] != "regex_extractor" and groups:
        opened.at(GROUPS).say("Only `type: regex_extractor` has groups.")
    return EvaluationMetrics(opened[TYPE], opened[IN], tuple((name, _regex(group)) for name, group in groups))


def _regex(group: Opened) -> str:
    regex, place = group[REGEX], group.at(REGEX)
    if not group.good(REGEX):
        return ""
    try:
        pattern = compile_regex(regex)
    except ValueError as error:
        place.say(str(error))
        return regex
    if not pattern.groupindex:
        place.say("Name what is to be measured: (?P<loss>...) or %{FLOAT:loss}.")
    return _renamed(regex, pattern, group)


def _renamed(regex: str, pattern: re.Pattern[str], group: Opened) -> str:
    """Name each group of ``regex`` as the metric or time that ``scalars`` and ``etimes`` make of it."""
    names: dict[str, str] = {}
    for key in (SCALARS, ETIMES):
        for name, measure in group[key]:
            place = group.at(key).key(name, measure.place.line)
            source = dict(measure.values).get("value")
            if not isinstance(source, str):
                continue
            _pair(names, name, source, pattern, place)
    for old in pattern.groupindex:
        names.setdefault(old, old)
    if len(set(names.values())) < len(names):
        group.place.say("Two groups of the regular expression would have the same name: rename one of them.")
        return regex
    named = re.sub(r"\(\?P<(\w+)>|\(\?P=(\w+)\)", lambda m: m[0].replace(m[1] or m[2], names[m[1] or m[2]]), regex)
    return _MACRO.sub(lambda m: f"%{{{m[1]}:{names[m[2]]}}}" if m[2] else m[0], named)


def _pair(names: dict[str, str], name: str, source: str, pattern: re.Pattern[str], place: Place) -> None:
    """Note that group ``$source`` is called ``name``, or report why it cannot be."""
    old = source.removeprefix("$")
    if not source.startswith("$") or old not in pattern.groupindex:
        known = ", ".join(f"${each}" for each in pattern.groupindex)
        place.say(f"This must be a named group of the regular expression: {known}.")
    elif not _IDENTIFIER.fullmatch(name):
        place.say("The name of a metric has letters, digits and `_`, and begins with no digit.")
    elif names.get(old, name) != name:
        place.say(f"The group ${old} has another name already: give the expression a second group.")
    else:
        names[old] = name
