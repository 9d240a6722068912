"""Calls about stored secrets. Their values go in and never come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from runyard.client.calls import Calls
from runyard.client.decode import Json, children, moment, text
from runyard.client.transport import path_of


@dataclass(frozen=True, slots=True)
class Secret:
    """A stored secret: its name, and since when it has its value."""

    name: str
    created_at: datetime | None
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Secret:
        """Read one."""
        return Secret(text(raw, "name"), moment(raw, "created_at"), raw)


class SecretCalls(Calls):
    """What programs get by name (``secrets:`` in a manifest)."""

    def secrets(self) -> tuple[Secret, ...]:
        """The stored secrets, without their values."""
        return tuple(Secret.of(each) for each in children(self._get("/secrets"), "items"))

    def put_secret(self, name: str, value: str) -> Secret:
        """Store a secret, in the place of an older one of that name."""
        return Secret.of(self._send("PUT", path_of("secrets", name), {"value": value}, repeatable=True))

    def remove_secret(self, name: str) -> None:
        """Forget a secret."""
        self._send("DELETE", path_of("secrets", name))
