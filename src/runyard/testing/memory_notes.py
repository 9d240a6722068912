"""Notes in memory."""

from __future__ import annotations


class MemoryNotes:
    """A :class:`runyard.ports.notes.Notes` in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._notes: dict[str, str] = {}

    def note(self, name: str) -> str | None:
        """See :class:`runyard.ports.notes.Notes`."""
        return self._notes.get(name)

    def put_note(self, name: str, text: str | None) -> None:
        """See :class:`runyard.ports.notes.Notes`."""
        if text is None:
            self._notes.pop(name, None)
        else:
            self._notes[name] = text
