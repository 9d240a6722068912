"""What the routers work on, and who is asking."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from runyard.core.account import Principal, Scope
from runyard.core.errors import AccessDenied
from runyard.engine.world import World
from runyard.ports.definitions import Definitions
from runyard.ports.embedded import EmbeddedStore
from runyard.ports.links import NodeLinks
from runyard.ports.store import Store

_REMEMBERED = 1000
_REMEMBERED_MS = 1000


class Doorkeeper:
    """Remembers for a second who a token speaks for: nodes ask many times a second.

    A token that this server revokes is forgotten at once; one that another server on the same store revokes is good for
    a second more.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Principal]] = {}

    async def who(self, store: Store, token: str, now_ms: int) -> Principal | None:
        """Who a token speaks for, None for nobody."""
        digest = token_digest(token)
        until, principal = self._known.get(digest, (0, None))
        if now_ms < until:
            return principal
        found = await asyncio.to_thread(store.principal, digest, now_ms)
        if found is not None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[digest] = (now_ms + _REMEMBERED_MS, found)
        return found

    def node(self, authorization: str, now_ms: int) -> str | None:
        """The id of the node that a header speaks for; None where that is not in memory, or it speaks for no node."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        until, principal = self._known.get(token_digest(token.strip()), (0, None))
        if principal is None or now_ms >= until or principal.scope is not Scope.node:
            return None
        return principal.node_id

    def forget(self) -> None:
        """A token was revoked: ask the store again for all."""
        self._known.clear()


@dataclass(frozen=True, slots=True)
class Context:
    """The engine's world and what only the API needs beside it. ``definition_limit``: bytes of one upload. ``url``:
    what the service is called; ``authority``: certificate (PEM) of the authority that signed its own, or empty."""

    world: World
    links: NodeLinks
    definitions: Definitions
    embedded: EmbeddedStore
    version: str
    url: str
    started_ms: int
    definition_limit: int = 512 * 1024 * 1024
    authority: str = field(default="", repr=False)
    doorkeeper: Doorkeeper = field(default_factory=Doorkeeper)


async def context_of(request: Request) -> Context:
    """The context that the application was made with."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


def token_digest(token: str) -> str:
    """How a token is kept: SHA-256, hexadecimal. Tokens are random, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def _token_of(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[2]
        except ValueError:
            return ""
    return ""


async def principal_of(request: Request) -> Principal:
    """Who asks. Raises :class:`AccessDenied`."""
    context = await context_of(request)
    token, world = _token_of(request), context.world
    found = await context.doorkeeper.who(world.store, token, world.clock.now_ms()) if token else None
    if found is None:
        raise AccessDenied("No valid token: set RUNYARD_TOKEN, or use the token that `runyard up` has stored.")
    return found


async def member_of(request: Request) -> Principal:
    """A person (not a node) asks."""
    who = await principal_of(request)
    if who.scope is Scope.node:
        raise AccessDenied("A node's token does not reach so far.", code="forbidden")
    return who


async def admin_of(request: Request) -> Principal:
    """An administrator asks."""
    who = await member_of(request)
    if who.scope is not Scope.admin:
        raise AccessDenied("This needs an administrator's token.", code="forbidden")
    return who


async def node_of(request: Request) -> Principal:
    """A node asks."""
    who = await principal_of(request)
    if who.scope is not Scope.node or who.node_id is None:
        raise AccessDenied("This end-point is for nodes.", code="forbidden")
    return who


Ctx = Annotated[Context, Depends(context_of)]
Who = Annotated[Principal, Depends(member_of)]
Admin = Annotated[Principal, Depends(admin_of)]
NodeWho = Annotated[Principal, Depends(node_of)]
