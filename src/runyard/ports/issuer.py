"""Asking an OpenID Connect issuer who somebody is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from runyard.core.oidc import Claims


@dataclass(frozen=True, slots=True)
class Device:
    """What a person types where, and what we ask with meanwhile (RFC 8628, section 3.2)."""

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_s: float
    interval_s: float


@dataclass(frozen=True, slots=True)
class Pending:
    """The person has not answered yet. ``slower``: and we ask too often."""

    slower: bool = False


class Issuer(Protocol):
    """All calls wait for the network, some seconds at most, and so belong in threads. All raise ``IssuerAway`` when the
    issuer does not answer as it should, ``AccessDenied`` when it says no or what it says does not hold."""

    def begin_device(self) -> Device | None:
        """Begin a device authorization grant; None where the issuer has none, or has none for us."""
        ...

    def authorization_url(self, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        """Where a browser goes for the authorization code grant. ``challenge``: PKCE's (RFC 7636), by S256."""
        ...

    def redeem_code(self, code: str, redirect_uri: str, verifier: str, nonce: str, now_ms: int) -> Claims:
        """Who a code is about."""
        ...

    def redeem_device(self, device_code: str, now_ms: int) -> Claims | Pending:
        """Who has answered on a device."""
        ...
