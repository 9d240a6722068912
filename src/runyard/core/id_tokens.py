"""Whether the claims of an ID token are meant for us and hold now (OpenID Connect Core 1.0, section 3.1.3.7)."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, cast

from runyard.core.errors import AccessDenied
from runyard.core.oidc import Claims

LEEWAY_S: Final = 60
"""So far two clocks may be apart."""
_LONGEST: Final = 255


def insist_on(claims: Claims, *, issuer: str, client_id: str, nonce: str | None, now_ms: int) -> None:
    """Check all but the signature. ``nonce``: what was asked with; None where the grant takes none (RFC 8628).
    Raises :class:`AccessDenied`."""
    if claims.get("iss") != issuer:
        refuse("it is another issuer's than the one in the settings")
    _insist_on_audience(claims, client_id)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST:
        refuse("it names nobody (`sub`)")
    now = now_ms / 1000
    if _time(claims, "exp") <= now - LEEWAY_S:
        refuse("it has expired; is the clock of this machine right?")
    if _time(claims, "iat") > now + LEEWAY_S:
        refuse("it was made in the future; is the clock of this machine right?")
    if "nbf" in claims and _time(claims, "nbf") > now + LEEWAY_S:
        refuse("it does not hold yet; is the clock of this machine right?")
    said = claims.get("nonce")
    if nonce is not None and not (
        isinstance(said, str) and hmac.compare_digest(said.encode("utf-8", "surrogatepass"), nonce.encode())
    ):
        refuse("it answers another question than ours (`nonce`)")


def _insist_on_audience(claims: Claims, client_id: str) -> None:
    audience = claims.get("aud")
    whose = cast("list[object]", audience) if isinstance(audience, list) else [audience]
    if client_id not in whose:
        refuse("it is for another client than the one in the settings (`aud`)")
    party = claims.get("azp")
    if party != client_id and (party is not None or len(whose) > 1):
        refuse("it was given to another client than the one in the settings (`azp`)")


def _time(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(f"it has no time `{name}`")
    return value


def refuse(why: str) -> NoReturn:
    """Raise :class:`AccessDenied` for an ID token."""
    raise AccessDenied(f"The issuer's ID token is not good: {why}. Sign in again, or tell an administrator.",
                       code="login_failed")  # fmt: skip
