"""Sign-ins by OpenID Connect that have begun and are not over, in a memory of a fixed size."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from runyard.core.account import Scope
from runyard.core.errors import AccessDenied
from runyard.core.oidc import Oidc
from runyard.ports.issuer import Issuer

MOST: Final = 1000
MOST_OF_ONE: Final = 100
"""From one address; a proxy in front has one for all."""
_THREADS: Final = 4
_WAITERS: Final = 16
T = TypeVar("T")


@dataclass(slots=True)
class SignIn:
    """One that has begun. ``state``, ``nonce``, ``verifier`` (RFC 7636) and ``redirect_uri`` of the code grant,
    ``device_code`` of the device grant, ``next_ms``: when the issuer may be asked about it; ``asking``: it is now."""

    scope: Scope
    address: str
    expires_ms: int
    redirect_uri: str = ""
    device_code: str = field(default="", repr=False)
    interval_ms: int = 0
    next_ms: int = 0
    asking: bool = False
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


class SignIns:
    """Each under a word that only who has begun it knows; only a digest of that is kept. For the event loop alone."""

    def __init__(self) -> None:
        self._begun: dict[str, SignIn] = {}

    def insist_on_room(self, address: str, now_ms: int) -> None:
        """That one more may begin. Raises :class:`AccessDenied`."""
        for word in [word for word, one in self._begun.items() if one.expires_ms <= now_ms]:
            del self._begun[word]
        mine = sum(one.address == address for one in self._begun.values())
        if len(self._begun) >= MOST or mine >= MOST_OF_ONE:
            raise _too_many()

    def keep(self, one: SignIn, now_ms: int) -> str:
        """Keep one; returns its word. Raises :class:`AccessDenied` where there is no room."""
        self.insist_on_room(one.address, now_ms)
        word = secrets.token_urlsafe(32)
        self._begun[_digest(word)] = one
        return word

    def get(self, word: str, now_ms: int) -> SignIn | None:
        """The one of that word, None when it is unknown, over or too old."""
        one = self._begun.get(_digest(word))
        return one if one is not None and one.expires_ms > now_ms else None

    def end(self, word: str) -> None:
        """It is over, however it ended: its word is worth nothing any more."""
        self._begun.pop(_digest(word), None)

    def __len__(self) -> int:
        return len(self._begun)


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode("utf-8", "surrogatepass")).hexdigest()


def _too_many() -> AccessDenied:
    return AccessDenied("Too many sign in at this moment: try again in some seconds.", code="too_many_tries")


class Entrance:
    """The way in by OpenID Connect: what the operator says, whom we ask, and who is on the way. An issuer that does not
    answer holds some threads of this entrance, and nobody else's."""

    def __init__(self, oidc: Oidc, issuer: Issuer) -> None:
        self.oidc = oidc
        self.issuer = issuer
        self.sign_ins = SignIns()
        self._threads = ThreadPoolExecutor(_THREADS, "issuer")
        self._waiting = 0

    async def ask(self, question: Callable[[], T]) -> T:
        """Ask the issuer in a thread. Raises :class:`AccessDenied` where too many wait for that."""
        if self._waiting >= _WAITERS:
            raise _too_many()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, question)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let go of the threads; what they wait for ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
