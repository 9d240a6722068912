"""What the routers work on, and who is asking."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import Depends, Request

from runyard.api.asking import Trail, asking
from runyard.api.doorkeeper import Doorkeeper, Stream, token_digest
from runyard.api.measuring import Stored
from runyard.api.sign_ins import Entrance
from runyard.api.throttle import Gate
from runyard.core.account import Principal, Right, Scope
from runyard.core.errors import AccessDenied
from runyard.core.run import Run
from runyard.engine.world import World
from runyard.ports.definitions import Definitions
from runyard.ports.embedded import EmbeddedStore
from runyard.ports.links import NodeLinks
from runyard.ports.passwords import PasswordHashes


@dataclass(frozen=True, slots=True)
class Context:
    """The engine's world and what only the API needs beside it. ``definition_limit``: bytes of one upload. ``url``:
    what the service is called; ``authority``: certificate (PEM) of the authority that signed its own, or empty.
    ``entrance``: by OpenID Connect, None where that is off."""

    world: World
    links: NodeLinks
    definitions: Definitions
    embedded: EmbeddedStore
    passwords: PasswordHashes
    version: str
    url: str
    started_ms: int
    definition_limit: int = 512 * 1024 * 1024
    authority: str = field(default="", repr=False)
    doorkeeper: Doorkeeper = field(default_factory=Doorkeeper)
    trail: Trail = field(default_factory=Trail)
    stored: Stored = field(default_factory=Stored)
    gate: Gate = field(default_factory=Gate)
    entrance: Entrance | None = None


async def context_of(request: Request) -> Context:
    """The context that the application was made with."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


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
    digest = token_digest(token)
    found = await context.doorkeeper.who_has(world.store, digest, world.clock.now_ms()) if token else None
    if found is None:
        raise AccessDenied("No valid token: set RUNYARD_TOKEN, or use the token that `runyard up` has stored.")
    asked = asking()
    asked.who, asked.digest = found, digest
    return found


RIGHT_OF: Final[dict[object, Right]] = {}
"""What each way in needs: the table of roles is made from it."""
_LACKS: Final = {
    Right.read: "",
    Right.tokens: "a token that may do all that its member may (scope member)",
    Right.submit: "a member with the role user, and a token that does more than read",
    Right.change: "a member with the role user, and a token that does more than read and submit",
    Right.manage: "a member with the role manager, and a token of scope member",
    Right.admin: "an administrator's token",
}


def _needs(right: Right) -> Callable[[Request], Awaitable[Principal]]:
    async def ask(request: Request) -> Principal:
        who = await principal_of(request)
        if who.scope is Scope.node:
            raise AccessDenied("A node's token does not reach so far.", code="forbidden")
        if not who.may(right):
            raise AccessDenied(
                f"This needs {_LACKS[right]}. Here are role {who.role.value} and scope {who.scope.value}.",
                code="forbidden",
            )
        return who

    RIGHT_OF[ask] = right
    return ask


member_of = _needs(Right.read)


async def node_of(request: Request) -> Principal:
    """A node asks."""
    who = await principal_of(request)
    if who.scope is not Scope.node or who.node_id is None:
        raise AccessDenied("This end-point is for nodes.", code="forbidden")
    return who


def insist_on_own(who: Principal, run: Run) -> None:
    """That a run is the asker's own, or the asker manages the account. Raises :class:`AccessDenied`."""
    if run.member_id != who.member_id and not who.may(Right.manage):
        raise AccessDenied(not_own(run.id), code="forbidden")


def not_own(run_id: str) -> str:
    """The sentence about a run that is another member's."""
    return f"{run_id} is another member's run: only they and the account's managers change it."


def guarded(context: Context, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """A stream that ends with the token of the request that is being answered."""
    world = context.world
    return Stream(context.doorkeeper, world.store, asking().digest, world.clock.now_ms).of(chunks)


Ctx = Annotated[Context, Depends(context_of)]
Who = Annotated[Principal, Depends(member_of)]
OwnTokens = Annotated[Principal, Depends(_needs(Right.tokens))]
Submits = Annotated[Principal, Depends(_needs(Right.submit))]
Changes = Annotated[Principal, Depends(_needs(Right.change))]
Manages = Annotated[Principal, Depends(_needs(Right.manage))]
Admin = Annotated[Principal, Depends(_needs(Right.admin))]
NodeWho = Annotated[Principal, Depends(node_of)]
