"""Calls about the service itself, the queue, usage and connections."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from runyard.client.calls import Calls
from runyard.client.decode import children, truth
from runyard.client.later import Later
from runyard.client.transport import Request, path_of

if TYPE_CHECKING:
    from runyard.client import account_records
    from runyard.client.account_records import Connection, Queue, Status, Usage
else:
    account_records = Later("runyard.client.account_records")


class AccountCalls(Calls):
    """The service, the queue, and who may use what."""

    def status(self) -> Status:
        """The service as this account sees it."""
        return account_records.Status.of(self._get("/status"))

    def healthy(self) -> bool:
        """Whether the service answers; needs no token. Raises :class:`Unreachable` when nothing does."""
        return self._transport.call(Request("GET", "//healthz")).status == 200

    def clock_difference(self) -> float:
        """By how many seconds the service's clock is ahead of ours, to a second; infinite when it does not tell."""
        told = self._transport.call(Request("GET", "//healthz")).headers.get("date", "")
        try:
            return parsedate_to_datetime(told).timestamp() - time.time()
        except (TypeError, ValueError):
            return math.inf

    def queue(self) -> Queue:
        """Who waits, in the order in which runs will start."""
        return account_records.Queue.of(self._get("/queue"))

    def pause_queue(self, *, everybody: bool = False) -> bool:
        """Start nothing new of this account (of nobody: ``everybody``, for an admin); whether it is held now."""
        return self._hold("pause", everybody)

    def resume_queue(self, *, everybody: bool = False) -> bool:
        """Undo :meth:`pause_queue`; whether it is held now."""
        return self._hold("resume", everybody)

    def _hold(self, verb: str, everybody: bool) -> bool:
        document = {"all": True} if everybody else {}
        return truth(self._send("POST", path_of("queue", verb), document, repeatable=True), "paused")

    def move(self, run: str, position: int) -> None:
        """Put a waiting run at a place in its account's queue, from 1."""
        self._send("POST", "/queue/move", {"id": run, "position": position}, repeatable=True)

    def usage(self, by: str = "account", *, since: str | None = None, until: str | None = None) -> Usage:
        """What was held and what it costs, by account, user, day or tag; ``since`` and ``until`` are ISO times."""
        return account_records.Usage.of(self._get("/usage", {"by": by, "since": since, "until": until}))

    def connections(self) -> tuple[Connection, ...]:
        """The stored connections, without their secrets."""
        return tuple(account_records.Connection.of(each) for each in children(self._get("/connections"), "items"))

    def add_connection(
        self,
        name: str,
        *,
        type: str = "s3",
        endpoint_url: str | None = None,
        region: str | None = None,
        path: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
    ) -> Connection:
        """Store a connection under a name that manifests can use."""
        document = {
            "name": name,
            "type": type,
            "endpoint_url": endpoint_url,
            "region": region,
            "path": path,
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
        }
        given = {key: value for key, value in document.items() if value is not None}
        return account_records.Connection.of(self._send("POST", "/connections", given))

    def remove_connection(self, name: str) -> None:
        """Forget a stored connection."""
        self._send("DELETE", path_of("connections", name))
