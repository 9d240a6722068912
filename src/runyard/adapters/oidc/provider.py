"""An issuer by its own description of itself (OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, cast
from urllib.parse import quote_plus, urlencode

from runyard.adapters.oidc.fetching import Document, Fetched, Fetching
from runyard.adapters.oidc.signatures import NotGood, UnknownKey, verified
from runyard.core.errors import AccessDenied, IssuerAway
from runyard.core.id_tokens import insist_on, refuse
from runyard.core.oidc import Claims, Oidc, insist_on_safe
from runyard.ports.issuer import Device, Pending

_KEPT_S: Final = 3600.0
_MOST_KEYS: Final = 100
_DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
_NOT_FOR_US: Final = ("unauthorized_client", "unsupported_grant_type")
_MOST_SECRET: Final = 4096


@dataclass(frozen=True, slots=True)
class _Found:
    """What the issuer says of itself. ``device``: None where it has no device grant. ``basic``: whether it wants our
    secret in a header."""

    authorization: str
    token: str
    keys: str
    device: str | None
    basic: bool
    until: float


class Provider:
    """A :class:`runyard.ports.issuer.Issuer`. What it says of itself and its keys are kept for an hour; keys are looked
    for once more when a token names one that is not among them."""

    def __init__(self, oidc: Oidc, fetching: Fetching) -> None:
        self._oidc = oidc
        self._fetching = fetching
        self._found: _Found | None = None
        self._keys: tuple[float, Sequence[Document]] = (0.0, ())

    def begin_device(self) -> Device | None:
        """See :class:`runyard.ports.issuer.Issuer`."""
        found = self._discovered()
        if found.device is None:
            return None
        answer = self._ask(found, found.device, {"scope": " ".join(self._oidc.scopes)})
        if answer.status != 200:
            if answer.document.get("error") in _NOT_FOR_US:
                return None
            self._denied(answer)
        return self._device(answer.document)

    def authorization_url(self, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        """See :class:`runyard.ports.issuer.Issuer`."""
        asked = {
            "response_type": "code",
            "client_id": self._oidc.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._oidc.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        where = self._discovered().authorization
        return f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}"

    def redeem_code(self, code: str, redirect_uri: str, verifier: str, nonce: str, now_ms: int) -> Claims:
        """See :class:`runyard.ports.issuer.Issuer`."""
        found = self._discovered()
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        answer = self._ask(found, found.token, form | {"code_verifier": verifier})
        if answer.status != 200:
            self._denied(answer)
        return self._claims(found, answer.document, nonce, now_ms)

    def redeem_device(self, device_code: str, now_ms: int) -> Claims | Pending:
        """See :class:`runyard.ports.issuer.Issuer`."""
        found = self._discovered()
        answer = self._ask(found, found.token, {"grant_type": _DEVICE, "device_code": device_code})
        error = answer.document.get("error")
        if answer.status != 200 and error in ("authorization_pending", "slow_down"):
            return Pending(slower=error == "slow_down")
        if answer.status != 200:
            self._denied(answer)
        return self._claims(found, answer.document, None, now_ms)

    # ------------------------------------------------------------------------------------------------- what it is
    def _discovered(self) -> _Found:
        found = self._found
        if found is None or time.monotonic() >= found.until:
            found = self._found = self._discover()
        return found

    def _discover(self) -> _Found:
        issuer = self._oidc.issuer
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        document = self._fetching.get(url)
        if document.get("issuer") != issuer:
            raise IssuerAway(
                f"{url} is about another issuer than {issuer}: an administrator writes `issuer` in settings.toml "
                "exactly as it stands there, with or without a slash at its end."
            )
        ways = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return _Found(
            authorization=self._safe(document, "authorization_endpoint"),
            token=self._safe(document, "token_endpoint"),
            keys=self._safe(document, "jwks_uri"),
            device=self._safe(document, _DEVICE_AT) if _DEVICE_AT in document else None,
            basic=not isinstance(ways, list) or "client_secret_post" not in ways,
            until=time.monotonic() + _KEPT_S,
        )

    def _safe(self, document: Document, name: str) -> str:
        """An address that the issuer names: https, unless the issuer itself is on this machine."""
        url = document.get(name)
        here = self._oidc.issuer.startswith("http://")
        try:
            insist_on_safe(url if isinstance(url, str) else "", loopback=here)
        except ValueError as error:
            raise IssuerAway(f"The {name} of the issuer {self._oidc.issuer} {error}: tell an administrator.") from None
        return str(url)

    def _keys_now(self, found: _Found, *, fresh: bool) -> tuple[bool, Sequence[Document]]:
        """Whether they were just fetched, and the issuer's keys."""
        until, keys = self._keys
        if not fresh and time.monotonic() < until:
            return False, keys
        listed = self._fetching.get(found.keys).get("keys")
        made = [cast("Document", each) for each in cast("list[object]", listed if isinstance(listed, list) else [])
                if isinstance(each, Mapping)]  # fmt: skip
        if len(made) > _MOST_KEYS:
            raise IssuerAway(f"The issuer {self._oidc.issuer} publishes more than {_MOST_KEYS} keys.")
        self._keys = time.monotonic() + _KEPT_S, made
        return True, made

    # ------------------------------------------------------------------------------------------------ what it says
    def _ask(self, found: _Found, url: str, form: Mapping[str, str]) -> Fetched:
        secret, client_id = self._secret(), self._oidc.client_id
        if secret is None:
            return self._fetching.post(url, {**form, "client_id": client_id}, {})
        if not found.basic:
            return self._fetching.post(url, {**form, "client_id": client_id, "client_secret": secret}, {})
        # RFC 6749, section 2.3.1: both are encoded as in a form, first
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
        return self._fetching.post(url, form, {"Authorization": f"Basic {base64.b64encode(pair).decode()}"})

    def _secret(self) -> str | None:
        """The client's secret, read anew each time: who replaces the file need not start anything again."""
        where = self._oidc.client_secret_file
        return None if where is None else read_secret(where)

    def _device(self, document: Document) -> Device:
        code, shown, where = (document.get(key) for key in ("device_code", "user_code", "verification_uri"))
        where = document.get("verification_url") if where is None else where  # an old draft's name, still in use
        if not (isinstance(code, str) and code and isinstance(shown, str) and shown.isprintable() and len(shown) < 99):
            raise IssuerAway(
                f"The issuer {self._oidc.issuer} began a sign-in without its codes: tell an administrator."
            )
        whole = document.get("verification_uri_complete")
        return Device(
            code,
            shown,
            self._safe({"verification_uri": where}, "verification_uri"),
            None if whole is None else self._safe(document, "verification_uri_complete"),
            _seconds(document.get("expires_in"), 600),
            _seconds(document.get("interval"), 5),
        )

    def _claims(self, found: _Found, document: Document, nonce: str | None, now_ms: int) -> Claims:
        token = document.get("id_token")
        if not isinstance(token, str):
            refuse("there is none; does `scopes` in the settings hold `openid`?")
        try:
            claims = self._verified(found, token)
        except NotGood as error:
            refuse(str(error))
        insist_on(claims, issuer=self._oidc.issuer, client_id=self._oidc.client_id, nonce=nonce, now_ms=now_ms)
        return claims

    def _verified(self, found: _Found, token: str) -> Document:
        just_fetched, keys = self._keys_now(found, fresh=False)
        try:
            return verified(token, keys)
        except UnknownKey:
            if just_fetched:
                raise
            return verified(token, self._keys_now(found, fresh=True)[1])

    def _denied(self, answer: Fetched) -> NoReturn:
        """The issuer said no. Its error is a word of RFC 6749 or 8628; what else it says is for its own log."""
        error = answer.document.get("error")
        if answer.status >= 500:
            raise IssuerAway(f"The issuer {self._oidc.issuer} answered {answer.status}: try again later.")
        word = error if isinstance(error, str) and error.replace("_", "").isalnum() and len(error) < 50 else "no reason"
        raise AccessDenied(f"The issuer did not let you in ({word}): sign in again.", code="login_failed")


_DEVICE_AT: Final = "device_authorization_endpoint"


def read_secret(path: str) -> str:
    """The secret in a file. Raises :class:`IssuerAway` when there is none to be had."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            secret = file.read(_MOST_SECRET + 1).strip()
    except (OSError, UnicodeDecodeError):
        secret = ""
    if not 0 < len(secret) <= _MOST_SECRET:
        raise IssuerAway(f"{path} (`client_secret_file`) holds no secret that the server can read: mend it.")
    return secret


def _seconds(value: object, otherwise: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 3600:
        return otherwise
    return float(value)
