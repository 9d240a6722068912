"""Short notes that an installation keeps about itself."""

from __future__ import annotations

from typing import Protocol


class Notes(Protocol):
    """Texts by name."""

    def note(self, name: str) -> str | None:
        """The text under a name, None without one."""
        ...

    def put_note(self, name: str, text: str | None) -> None:
        """Keep a text in the place of an older one; None: forget it."""
        ...
