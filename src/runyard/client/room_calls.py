"""Calls about room: what is kept, what takes the disks, what may go."""

from __future__ import annotations

from runyard.client.calls import Calls
from runyard.client.decode import Json, children, integer_or_none
from runyard.client.transport import path_of


class RoomCalls(Calls):
    """How long things are kept, and what they take. Answers are the JSON objects of ``docs/api.md``."""

    def retention(self, account: str | None = None) -> Json:
        """For how many days an account (one's own, unless named) keeps each part of its runs."""
        if account is None:
            account = str(self._get("/status")["account"])
        return self._get(path_of("retention", account))

    def set_retention(self, account: str, **days: float | None) -> Json:
        """Set days for ``results``, ``logs``, ``metrics`` or ``records``: 0 for ever, None as the installation. For an
        admin."""
        return self._send("PUT", path_of("retention", account), days)

    def disk(self, by: str = "kind") -> Json:
        """What takes the disks, by ``account``, ``run`` or ``kind``, the biggest first."""
        return self._get("/disk", {"by": by})

    def gc(self, *, dry_run: bool = True) -> Json:
        """Let go what is kept no longer (or, with ``dry_run``, say what would go). For an admin."""
        items: list[object] = []
        after: int | None = 0
        while after is not None:
            answer = self._send("POST", "/gc", {"dry_run": dry_run, "after": after}, repeatable=True)
            items += children(answer, "items")
            after = integer_or_none(answer, "next")
        return {"dry_run": dry_run, "items": items}
