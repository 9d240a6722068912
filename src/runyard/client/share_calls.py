"""Calls about machines, shares of them, and budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runyard.client.calls import Calls
from runyard.client.decode import children
from runyard.client.later import Later
from runyard.client.transport import path_of

if TYPE_CHECKING:
    from runyard.client import account_records
    from runyard.client.account_records import Machine
else:
    account_records = Later("runyard.client.account_records")

if TYPE_CHECKING:
    from runyard.client import access_records
    from runyard.client.access_records import Quota
else:
    access_records = Later("runyard.client.access_records")


class ShareCalls(Calls):
    """The machines, and who may have how much of them."""

    def nodes(self) -> tuple[Machine, ...]:
        """The machines."""
        return tuple(account_records.Machine.of(each) for each in children(self._get("/nodes"), "items"))

    def drain(self, node: str, *, preempt: bool = False) -> Machine:
        """Let nothing new start on a machine; ``preempt``: what runs there makes room, too. For an admin."""
        document = {"preempt": True} if preempt else {}
        return account_records.Machine.of(
            self._send("POST", path_of("nodes", node, "drain"), document, repeatable=True)
        )

    def resume_node(self, node: str) -> Machine:
        """Undo :meth:`drain`, and let runs have GPUs again that the machine keeps back for errors."""
        return account_records.Machine.of(self._send("POST", path_of("nodes", node, "resume"), {}, repeatable=True))

    def set_share(self, account: str, **changes: float | str | None) -> Quota:
        """Set ``weight`` (of the account's due share; None: 1) and ``window`` (the hours in which its runs may start,
        such as ``22:00-06:00``; None: all). For an admin."""
        return access_records.Quota.of(self._send("PUT", path_of("quota", account, "share"), changes))

    def set_budget(
        self,
        account: str,
        per: str,
        *,
        gpu_hours: float | None = None,
        money: str | None = None,
        warn_percent: int | None = None,
    ) -> Quota:
        """Set what an account may spend in each ``week`` or ``month``. For an admin."""
        limits = {"gpu_hours": gpu_hours, "money": money, "warn_percent": warn_percent}
        document = {"per": per} | {key: value for key, value in limits.items() if value is not None}
        return access_records.Quota.of(self._send("PUT", path_of("quota", account, "budget"), document))

    def remove_budget(self, account: str) -> Quota:
        """Let an account spend what it likes. For an admin."""
        return access_records.Quota.of(self._send("DELETE", path_of("quota", account, "budget")))
