"""Signing in by OpenID Connect: this server asks the issuer who somebody is, and gives a token of its own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from runyard.api.asking import asking, audited, concerns
from runyard.api.context import Context, Ctx
from runyard.api.login import LoggedIn, insist_on_patience, refuse_guesses, token_of
from runyard.api.numbers import A_NUMBER
from runyard.api.sign_ins import Entrance, SignIn
from runyard.core.account import Member, Principal, Role, Scope, member_id
from runyard.core.errors import AccessDenied, Conflict, NotFound, Refused
from runyard.core.oidc import Claims, Entrant, entrant, refuse_foreign
from runyard.engine.views import iso
from runyard.ports.issuer import Pending
from runyard.ports.store import Store

router = APIRouter(tags=["accounts"])
LASTS_MS: Final = 10 * 60_000
"""So long somebody has to sign in at the issuer with a browser."""
_SLOWER_MS: Final = 5000
_Word = Annotated[str, Field(min_length=1, max_length=4096)]
_log = logging.getLogger(__name__)
_OFF: Final = (
    "Nobody signs in by OpenID Connect here: use a token or a password, or ask the operator for a table [oidc] in "
    "settings.toml (docs/accounts.md)."
)


class BeginBody(BaseModel):
    """``redirect_port``: where the asker listens on loopback for the browser to come back; without it only a sign-in on
    another device can begin. ``scope``: of the token."""

    model_config = ConfigDict(extra="forbid")
    redirect_port: Annotated[int, Field(ge=1024, le=65535), A_NUMBER] | None = None
    scope: Literal["read", "submit", "member", "admin"] = "member"


class Begun(BaseModel):
    """A sign-in that has begun; ``login`` is for the asker alone. By ``device``: the person types ``user_code`` at
    ``verification_uri``, and the asker asks every ``interval_s``; by ``code``: the browser goes to
    ``authorization_url`` and comes back to ``http://127.0.0.1:PORT/callback``."""

    way: Literal["device", "code"]
    login: str
    expires_at: str | None
    authorization_url: str | None = None
    verification_uri: str | None = None
    verification_uri_complete: str | None = None
    user_code: str | None = None
    interval_s: float | None = None


class FinishBody(BaseModel):
    """``code`` and ``state`` are those that the browser brought back, where one did."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    login: _Word = Field(repr=False)
    code: _Word | None = Field(default=None, repr=False)
    state: _Word | None = Field(default=None, repr=False)


class StillWaiting(BaseModel):
    """The person has not signed in yet: ask again after so many seconds."""

    interval_s: float


_WAITING: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": StillWaiting, "description": "The person has not signed in yet"}
}


def _entrance(context: Context) -> Entrance:
    if context.entrance is None:
        raise NotFound(_OFF)
    return context.entrance


@router.post("/login/oidc")
@audited("login.oidc.begin")
async def begin(body: BeginBody, context: Ctx) -> Begun:
    """Begin to sign in by OpenID Connect. 404 where the operator has set up none."""
    entrance, now = _entrance(context), context.world.clock.now_ms()
    address = asking().address
    insist_on_patience(context, (f"oidc {address}",), now)
    entrance.sign_ins.insist_on_room(address, now)
    way, scope = entrance.oidc.way, Scope(body.scope)
    device = await entrance.ask(entrance.issuer.begin_device) if way != "code" else None
    now = context.world.clock.now_ms()
    if device is not None:
        interval_ms = round(device.interval_s * 1000)
        one = SignIn(scope, address, now + round(device.expires_s * 1000), device_code=device.device_code,
                     interval_ms=interval_ms, next_ms=now + interval_ms)  # fmt: skip
        return Begun(
            way="device",
            login=entrance.sign_ins.keep(one, now),
            expires_at=iso(one.expires_ms),
            verification_uri=device.verification_uri,
            verification_uri_complete=device.verification_uri_complete,
            user_code=device.user_code,
            interval_s=device.interval_s,
        )
    if way == "device":
        raise Refused("The issuer has no sign-in on another device for this service: the operator sets another `way`.")
    if body.redirect_port is None:
        raise Refused(
            "This issuer needs a browser: give `redirect_port`, where you listen on 127.0.0.1 for its return."
        )
    one = SignIn(scope, address, now + LASTS_MS, f"http://127.0.0.1:{body.redirect_port}/callback")
    challenge = base64.urlsafe_b64encode(hashlib.sha256(one.verifier.encode()).digest()).decode().rstrip("=")
    url = await entrance.ask(
        lambda: entrance.issuer.authorization_url(one.redirect_uri, one.state, one.nonce, challenge)
    )
    word = entrance.sign_ins.keep(one, now)
    return Begun(way="code", login=word, expires_at=iso(one.expires_ms), authorization_url=url)


@router.post("/login/oidc/finish", response_model=LoggedIn, responses=_WAITING)
@audited("login.oidc")
async def finish(body: FinishBody, context: Ctx) -> LoggedIn | Response:
    """The token, once the person has signed in at the issuer; 202 while they have not. A sign-in ends with its first
    answer that is neither."""
    entrance, now = _entrance(context), context.world.clock.now_ms()
    one = entrance.sign_ins.get(body.login, now)
    if one is None:
        refuse_guesses(context, (f"oidc {asking().address}",), now)
        raise AccessDenied(
            "This sign-in is not known here: it is over, too old, or the server was started again. Begin again.",
            code="login_failed",
        )
    try:
        found = await (
            _by_device(entrance, body.login, one, now) if one.device_code else _by_code(entrance, body, one, now)
        )
        if isinstance(found, Pending):
            waits = StillWaiting(interval_s=one.interval_ms / 1000)
            return Response(waits.model_dump_json(), 202, media_type="application/json")
        return await asyncio.to_thread(_entered, context, entrance, entrant(entrance.oidc, found), one.scope)
    except AccessDenied as error:
        _log.warning("a sign-in by OpenID Connect was refused: %s", error.message)
        raise


async def _by_code(entrance: Entrance, body: FinishBody, one: SignIn, now: int) -> Claims:
    entrance.sign_ins.end(body.login)  # whatever comes, this was its one try
    state, code = body.state or "", body.code
    if code is None or not hmac.compare_digest(state.encode("utf-8", "surrogatepass"), one.state.encode()):
        raise AccessDenied("What the browser brought back belongs to another sign-in: begin again.",
                           code="login_failed")  # fmt: skip
    return await entrance.ask(lambda: entrance.issuer.redeem_code(code, one.redirect_uri, one.verifier, one.nonce, now))


async def _by_device(entrance: Entrance, word: str, one: SignIn, now: int) -> Claims | Pending:
    """Ask the issuer, no more often than it wants and never twice at once. While it is away the sign-in goes on."""
    if one.asking or now < one.next_ms:
        return Pending()
    one.asking = True
    try:
        found = await entrance.ask(lambda: entrance.issuer.redeem_device(one.device_code, now))
        if isinstance(found, Pending):
            one.interval_ms += _SLOWER_MS if found.slower else 0
            return found
        entrance.sign_ins.end(word)
        return found
    except AccessDenied as error:
        if error.code != "too_many_tries":
            entrance.sign_ins.end(word)
        raise
    finally:
        one.asking, one.next_ms = False, now + one.interval_ms


def _entered(context: Context, entrance: Entrance, who: Entrant, scope: Scope) -> LoggedIn:
    store = context.world.store
    member = _member(store, entrance, who)
    asking().who = Principal("", Scope.member, member.account_id, member.id, role=member.role)
    concerns(member.name)
    if who.role not in (None, member.role):
        store.set_role(member.account_id, member.name, who.role)
        context.doorkeeper.forget()
    current = store.member(member.id) or member
    return token_of(context, current, scope, "login by OpenID Connect", entrance.oidc.token_ms)


def _member(store: Store, entrance: Entrance, who: Entrant) -> Member:
    """The member that this person is, made or bound to them where the settings let it be. Raises
    :class:`AccessDenied`."""
    if store.account(who.account) is None:
        raise _denied(f"The settings send you to the account {who.account}, which is not there")
    known = store.by_subject(who.account, who.subject)
    if known is not None:
        member, there = known
        if not there:
            raise _denied(f"{member.name} was removed from {who.account}")
        return member
    named = {each.name: each for each in store.members(who.account)}
    if who.name in named:
        refuse_foreign(named[who.name], who.role)
    elif store.member(member_id(who.account, who.name)) is not None:
        raise _denied(f"{who.name} was removed from {who.account}")
    elif not entrance.oidc.create_members:
        raise _denied(f"There is no member {who.name} in {who.account}, and none is made by signing in")
    else:
        try:
            store.add_member(who.account, who.name, who.role or Role.user)
        except Conflict:
            pass  # made this moment, by this person's other sign-in or another's: the next line tells
    if not store.bind_subject(who.account, who.name, who.subject):
        raise _denied(f"The member {who.name} of {who.account} is somebody else at the issuer")
    known = store.by_subject(who.account, who.subject)
    if known is None:
        raise _denied(f"{who.name} was removed from {who.account}")
    return known[0]


def _denied(what: str) -> AccessDenied:
    return AccessDenied(f"{what}: ask who manages the account (`runyard members add`).", code="login_failed")
