"""Typed looks into JSON objects. A field that is absent or of another type reads as empty, never as an error."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeAlias, cast

Json: TypeAlias = Mapping[str, object]


def as_object(value: object) -> Json:
    """A JSON object, empty for anything else."""
    return cast("Json", value) if isinstance(value, dict) else {}


def text(raw: Json, key: str) -> str:
    """A string, empty when absent."""
    value = raw.get(key)
    return value if isinstance(value, str) else "" if value is None else str(value)


def text_or_none(raw: Json, key: str) -> str | None:
    """A string or None."""
    return None if raw.get(key) is None else text(raw, key)


def integer(raw: Json, key: str) -> int:
    """A whole number, 0 when absent."""
    return integer_or_none(raw, key) or 0


def integer_or_none(raw: Json, key: str) -> int | None:
    """A whole number or None."""
    value = raw.get(key)
    return int(value) if isinstance(value, int | float) else None


def number(raw: Json, key: str) -> float:
    """A number, 0 when absent."""
    value = raw.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def number_or_none(raw: Json, key: str) -> float | None:
    """A number or None."""
    value = raw.get(key)
    return float(value) if isinstance(value, int | float) else None


def truth(raw: Json, key: str) -> bool:
    """A boolean, False when absent."""
    return raw.get(key) is True


def child(raw: Json, key: str) -> Json:
    """A nested object, empty when absent."""
    return as_object(raw.get(key))


def children(raw: Json, key: str) -> tuple[Json, ...]:
    """A list of objects, empty when absent."""
    value = raw.get(key)
    return tuple(as_object(item) for item in cast("list[object]", value)) if isinstance(value, list) else ()


def texts(raw: Json, key: str) -> tuple[str, ...]:
    """A list of strings, empty when absent."""
    value = raw.get(key)
    return tuple(str(item) for item in cast("list[object]", value)) if isinstance(value, list) else ()


def integers(raw: Json, key: str) -> tuple[int, ...]:
    """A list of whole numbers, empty when absent."""
    value = raw.get(key)
    items = cast("list[object]", value) if isinstance(value, list) else []
    return tuple(item for item in items if isinstance(item, int))


def moment(raw: Json, key: str) -> datetime | None:
    """A time (ISO 8601, with its zone), None when absent or malformed."""
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None
