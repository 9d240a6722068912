"""Frameworks that manifests may name, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from runyard.client.decode import Json, children, moment, text, text_or_none, texts


@dataclass(frozen=True, slots=True)
class KnownFramework:
    """A framework that manifests may name. ``installed``: versions for which nothing has to be built."""

    name: str
    distribution: str
    aliases: tuple[str, ...]
    installed: tuple[str, ...]

    @staticmethod
    def of(raw: Json) -> KnownFramework:
        """Read one."""
        return KnownFramework(
            text(raw, "name"), text(raw, "distribution"), texts(raw, "aliases"), texts(raw, "installed")
        )


@dataclass(frozen=True, slots=True)
class RegisteredFramework:
    """A name (and a version, or empty: any) that the account has given to an environment of the machines, ``python``,
    or to another framework, ``instead`` (``NAME:VERSION``)."""

    name: str
    version: str
    python: str | None
    instead: str | None
    created_at: datetime | None
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> RegisteredFramework:
        """Read one."""
        return RegisteredFramework(
            text(raw, "name"),
            text(raw, "version"),
            text_or_none(raw, "python"),
            text_or_none(raw, "instead"),
            moment(raw, "created_at"),
            raw,
        )


@dataclass(frozen=True, slots=True)
class Frameworks:
    """All that a manifest's ``framework`` may name."""

    known: tuple[KnownFramework, ...]
    registered: tuple[RegisteredFramework, ...]
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Frameworks:
        """Read them."""
        known = tuple(KnownFramework.of(each) for each in children(raw, "known"))
        return Frameworks(known, tuple(RegisteredFramework.of(each) for each in children(raw, "registered")), raw)
