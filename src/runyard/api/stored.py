"""How much accounts have in the embedded store, and that it stays within their quota."""

from __future__ import annotations

from runyard.api.context import Context
from runyard.core.errors import Refused


def insist_on_storage(context: Context, account_id: str, more: int = 0) -> None:
    """That an account is below its quota of storage, and so many more bytes are too. Raises :class:`Refused`.

    Who has no such quota pays one small query. The sum is some seconds old at most.
    """
    most = context.world.store.quota_of(account_id).storage_bytes
    if most is None:
        return
    there = context.stored.bytes_of(context.embedded, account_id)
    if there + more > most or there >= most:
        raise Refused(
            f"{there} bytes are in the embedded store, of the {most} that this account may have: remove some "
            "(`runyard data rm`), or ask an administrator for more.",
            code="quota_storage",
        )
