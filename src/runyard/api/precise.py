"""What the OpenAPI document says of texts that the engine and the stores judge by themselves: their forms, as far as
JSON Schema (2020-12) has words for them, so that what fits the document is accepted. The sentences of refusals stay
where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

from runyard.manifest import RESERVED

Json: TypeAlias = dict[str, Any]

_BUCKET: Final = {"pattern": "^(?:[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}|[.][A-Za-z0-9_-][A-Za-z0-9._-]{0,61})$"}
"""``stores.keys.check_bucket``, without names that begin with two dots."""
_SEGMENT: Final = r"(?:\.{0,2}[^/.\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*|\.{3,}[^/.\\\x00-\x1f\x7f]*)"
_KEY: Final = {
    "pattern": f"^{_SEGMENT}(?:/{_SEGMENT})*$",
    "anyOf": [{"maxLength": 256}, {"pattern": r"^[\x20-\x7e]*$", "maxLength": 1024}],
}
"""``stores.keys.check_key``: 1,024 bytes of UTF-8 are as many characters of ASCII, and 256 of any at the least."""
_CURSOR: Final = {"pattern": "^[0-9]{1,18}$"}
_DAY: Final = "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_ZONE: Final = "(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])"
_TIME: Final = rf"T(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{{1,6}})?)?{_ZONE}?"
_LEAP: Final = "(?:19(?:[79][26]|8[048])|20(?:[02468][048]|[13579][26]))-02-29"
_DATE: Final = f"(?:(?:19[7-9][0-9]|20[0-9][0-9])-{_DAY}|{_LEAP})"
_MOMENT: Final = {"pattern": f"^{_DATE}(?:{_TIME})?$"}
"""The forms of ISO 8601 that people write; ``api.limits.moment_ms`` reads more of them."""
_VARIABLE: Final = {"pattern": "^(?!DATA_DIR_|RUNYARD_)[A-Za-z_][A-Za-z0-9_]*$"}
_MONEY: Final = {"pattern": r"^[0-9]{1,9}(?:\.[0-9]{1,6})?$"}

_PARAMETERS: Final[Mapping[str, Mapping[str, Json]]] = {
    "/data/{bucket}": {"bucket": _BUCKET},
    "/data/{bucket}/{key}": {"bucket": _BUCKET, "key": _KEY},
    "/definitions/{sha256}": {"sha256": {"pattern": "^[0-9a-f]{64}$"}},
    "/secrets/{name}": {"name": _VARIABLE},
    "/audit": {"cursor": _CURSOR, "since": _MOMENT},
    "/training-runs": {"cursor": _CURSOR},
    "/usage": {"since": _MOMENT, "until": _MOMENT, "by": {"enum": ["account", "user", "day", "tag"]}},
    "/training-runs/{run}/metrics": {"format": {"enum": ["json", "csv"]}},
}
_SPACE: Final = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
r"""White space as Python's `\s` has it: ECMAScript's has U+FEFF and lacks U+0085."""
_LINE: Final = {"pattern": rf"^(?![{_SPACE}]*$)[^\x00-\x1f\x7f\x85\u2028\u2029]+$"}
_NAMES: Final = {"pattern": f"^(?!DATA_DIR_|RUNYARD_|(?:{'|'.join(sorted(RESERVED))})$)[A-Za-z_][A-Za-z0-9_]{{0,127}}$"}
_RUN: Final = {"pattern": "^training-[0-9A-Za-z]{9}(?:_[0-9]{1,9})?$"}
_TAG: Final = {"pattern": rf"^[^{_SPACE},\x00-\x1f\x7f]{{1,64}}$"}
_MANIFEST: Final = {
    "format": "runyard-manifest",
    "description": "YAML of either dialect. What it may be is told by the JSON Schema at `/api/v1/manifests/schema`.",
}
_DURATION: Final = {"format": "runyard-duration", "description": "Such as `2h`, `1h30m`, `30s`; a number is seconds."}
_FIELDS: Final[Mapping[str, Mapping[str, Json]]] = {
    "BudgetBody": {"money": _MONEY},
    "CacheBody": {"bucket": _BUCKET},
    "FrameworkBody": {
        "name": {"pattern": "^(?![Cc][Uu][Ss][Tt][Oo][Mm]$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
        "version": {"pattern": "^(?:[A-Za-z0-9][A-Za-z0-9._+-]{0,63})?$"},
    },
    "ConnectionBody": {"access_key_id": {"minLength": 1}, "secret_access_key": {"minLength": 1}},
    "SubmitBody": {"manifest": _MANIFEST},
    "OldManifest": {"manifest": _MANIFEST},
    "OverridesBody": {
        "name": {**_LINE, "maxLength": 256},
        "python": {**_LINE, "maxLength": 4096},
        "framework": {"format": "runyard-framework", "description": "`NAME` or `NAME:VERSION`."},
        "max_runtime": _DURATION,
    },
    "SecretBody": {"value": {"minLength": 1, "pattern": "^[^\\x00]+$", "description": "At most 65,536 bytes."}},
}
_PARTS: Final[Mapping[str, Mapping[str, Json]]] = {
    "OverridesBody": {
        "tags": {"items": {"type": "string", **_TAG}},
        "after": {"items": {"type": "string", **_RUN}},
        "data": {"items": {"type": "string", "format": "runyard-data"}, "uniqueItems": True},
        "env": {
            "propertyNames": _NAMES,
            "additionalProperties": {"type": "string", "pattern": r"^[^\x00]*$"},
            "maxProperties": 1000,
        },
        "paths": {
            "propertyNames": {"format": "runyard-key"},
            "additionalProperties": {"type": "string", "format": "runyard-value"},
        },
    },
}
"""Lists and tables. ``runyard-data``: a bucket, or one and a prefix; ``runyard-key`` and ``runyard-value``: a path in a
manifest, and what may stand there."""
_NUMBERS: Final[Mapping[str, Mapping[str, Json]]] = {
    "OverridesBody": {
        "priority": {"minimum": 0, "maximum": 100},
        "gpus": {"minimum": 0, "maximum": 1000},
        "max_runtime": {"minimum": 0.001, "maximum": 315_360_000},
    },
}


def _some(*names: str, kind: str | list[str]) -> list[Json]:
    return [{"required": [name], "properties": {name: {"type": kind}}} for name in names]


def _none(*names: str) -> Json:
    return {"properties": {name: {"type": "null"} for name in names}}


def _both(*names: str) -> Json:
    return {"required": list(names), "properties": {name: {"type": "string"} for name in names}}


_WHOLES: Final[Mapping[str, Json]] = {
    "BudgetBody": {"anyOf": _some("gpu_hours", "money", kind=["number", "string"])},
    "CacheBody": {"anyOf": [{"properties": {"action": {"const": "clear"}}}, *_some("bucket", kind="string")]},
    "ConnectionBody": {
        "anyOf": [
            _none("access_key_id", "secret_access_key"),
            _both("access_key_id", "secret_access_key"),
        ]
    },
    "FrameworkBody": {"oneOf": _some("python", "instead", kind="string")},
    "RetentionBody": {"minProperties": 1},
    "ShareBody": {"minProperties": 1},
}
"""Which fields go together."""


def made_precise(document: Json) -> None:
    """Add what is known of texts to the parameters and bodies of the document."""
    for path, forms in _PARAMETERS.items():
        for operation in document["paths"]["/api/v1" + path].values():
            for parameter in operation.get("parameters", []):
                _add(parameter["schema"], forms.get(parameter["name"]))
    schemas = document["components"]["schemas"]
    for name, fields in _FIELDS.items():
        for field, form in fields.items():
            _add(schemas[name]["properties"][field], form)
    for name, fields in _PARTS.items():
        for field, form in fields.items():
            schemas[name]["properties"][field] |= form
    for name, fields in _NUMBERS.items():
        for field, form in fields.items():
            _add(schemas[name]["properties"][field], form, ("integer", "number"))
    for name, whole in _WHOLES.items():
        schemas[name] |= whole


def _add(schema: Json, form: Json | None, kinds: tuple[str, ...] = ("string",)) -> None:
    """To a text, or to what may also be null or a number the part that is of one of these kinds."""
    if form is None:
        return
    parts = cast("list[Json]", schema.get("anyOf", [schema]))
    text = next(part for part in parts if part.get("type") in kinds)
    text |= form
