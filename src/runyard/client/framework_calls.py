"""Calls about frameworks: those known by name, and environments of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from runyard.client.calls import Calls
from runyard.client.decode import texts
from runyard.client.later import Later
from runyard.client.transport import path_of

if TYPE_CHECKING:
    from runyard.client import framework_records
    from runyard.client.framework_records import Frameworks, RegisteredFramework
else:
    framework_records = Later("runyard.client.framework_records")


class FrameworkCalls(Calls):
    """What programs run with."""

    def frameworks(self) -> Frameworks:
        """The frameworks that manifests may name."""
        return framework_records.Frameworks.of(self._get("/frameworks"))

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
        return framework_records.RegisteredFramework.of(self._send("POST", "/frameworks", given))

    def remove_framework(self, name: str, version: str = "") -> None:
        """Forget a registration."""
        self._send("DELETE", path_of("frameworks", name) + _query(version))


def _query(version: str) -> str:
    return f"?version={quote(version, safe='')}" if version else ""
