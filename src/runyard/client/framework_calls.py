"""Calls about frameworks: those known by name, and environments of one's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from runyard.client.calls import Calls
from runyard.client.decode import Json, children, moment, text, text_or_none, texts
from runyard.client.transport import path_of


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


class FrameworkCalls(Calls):
    """What programs run with."""

    def frameworks(self) -> Frameworks:
        """The frameworks that manifests may name."""
        return Frameworks.of(self._get("/frameworks"))

    def framework_versions(self, name: str) -> tuple[str, ...] | None:
        """The versions of a known framework on the package index, newest first; None when it cannot be asked."""
        raw = self._get(path_of("frameworks", name, "versions"))
        return None if raw.get("versions") is None else texts(raw, "versions")

    def add_framework(
        self, name: str, version: str = "", *, python: str | None = None, instead: str | None = None
    ) -> RegisteredFramework:
        """Give a name (and a version, or any) to an environment of the machines, or to another framework."""
        document = {"name": name, "version": version, "python": python, "instead": instead}
        given = {key: value for key, value in document.items() if value is not None}
        return RegisteredFramework.of(self._send("POST", "/frameworks", given))

    def remove_framework(self, name: str, version: str = "") -> None:
        """Forget a registration."""
        self._send("DELETE", path_of("frameworks", name) + _query(version))


def _query(version: str) -> str:
    return f"?version={quote(version, safe='')}" if version else ""
