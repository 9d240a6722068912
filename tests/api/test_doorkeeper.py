"""Who a token speaks for is remembered for a second, and no longer."""

import asyncio

from bench.soak.holding import lengths
from runyard.api.doorkeeper import Doorkeeper, token_digest
from runyard.core.account import Account, Role, Scope
from runyard.ports.accounts import TokenRecord
from runyard.testing.builders import NOW
from runyard.testing.memory_store import MemoryStore


def test_tokens_that_are_used_no_more_leave_the_memory() -> None:
    store = MemoryStore()
    store.ensure_account(Account("acme", "acme"))
    store.ensure_member("mia", "acme", "mia", Role.user)
    for number in range(200):
        digest = token_digest(f"token{number}")
        store.add_token(TokenRecord(f"t{number}", digest, "t", Scope.member, "acme", "mia", "", NOW))

    async def ask_all() -> tuple[int, int, int]:
        doorkeeper, most = Doorkeeper(), (0, 0)
        for number in range(200):
            now = NOW + number * 500
            who = await doorkeeper.who(store, f"token{number}", now)
            assert who is not None
            assert who.token_id == f"t{number}"
            found = lengths(doorkeeper)
            most = max(most[0], found["._known"]), max(most[1], found["._noted"])
        assert await doorkeeper.who(store, "token0", NOW + 200_000) is not None
        return *most, lengths(doorkeeper)["._known"]

    assert asyncio.run(ask_all()) == (2, 120, 1)
    assert {token.id: token.used_ms for token in store.tokens("acme")}["t150"] == NOW + 75_000
