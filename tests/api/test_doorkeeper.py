"""Who a token speaks for is remembered for a second, and no longer."""

import asyncio
from collections.abc import AsyncGenerator

from bench.soak.holding import lengths
from runyard.api.doorkeeper import Doorkeeper, Stream, token_digest
from runyard.core.account import Account, Principal, Role, Scope
from runyard.core.errors import StoreAway
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


class Leaving(MemoryStore):
    """A store that may be away."""

    away = False

    def principal(self, digest: str, now_ms: int) -> Principal | None:
        if self.away:
            raise StoreAway("The database does not answer.")
        return super().principal(digest, now_ms)


def test_a_stream_goes_on_while_the_store_is_away_and_ends_once_it_knows_the_token_no_more() -> None:
    store, now = Leaving(), [NOW]
    store.ensure_account(Account("acme", "acme"))
    store.ensure_member("mia", "acme", "mia", Role.user)
    digest = token_digest("token")
    store.add_token(TokenRecord("t", digest, "t", Scope.member, "acme", "mia", "", NOW))

    async def chunks() -> AsyncGenerator[bytes]:
        for number in range(10):
            now[0] += 1_500  # each is asked for anew
            store.away = number in (2, 3)
            if number == 5:
                store.revoke_token("acme", "t", now[0])
            yield b"%d" % number

    async def read() -> list[bytes]:
        stream = Stream(Doorkeeper(), store, digest, lambda: now[0])
        return [chunk async for chunk in stream.of(chunks())]

    assert asyncio.run(read()) == [b"0", b"1", b"2", b"3", b"4"]
