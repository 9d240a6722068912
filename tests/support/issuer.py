"""A small OpenID Connect issuer on loopback that does what a test says, hostile things too.

Tokens are signed by ``joserfc``, which shares no code with what verifies them here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

CLIENT = "runyard-test"
Key = RSAKey | ECKey | OKPKey


def a_key(kid: str, kind: str = "RSA", curve: Any = "P-256", bits: int = 2048) -> Key:
    """A new key."""
    words: Any = {"kid": kid, "use": "sig"}
    if kind == "RSA":
        return RSAKey.generate_key(bits, words, private=True)
    return ECKey.generate_key(curve, words) if kind == "EC" else OKPKey.generate_key(curve, words)


def signed(claims: dict[str, Any], key: Key, alg: str = "RS256", **header: Any) -> str:
    """A token."""
    head = {"alg": alg, "kid": key.kid} | header
    kept = {name: value for name, value in head.items() if value is not None}
    return jws.serialize_compact(kept, json.dumps(claims), key, algorithms=[alg])


def plain(part: Any) -> str:
    """A part of a token made by hand."""
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@dataclass
class Seen:
    """A request that came."""

    path: str
    form: dict[str, str]
    authorization: str | None


@dataclass
class FakeIssuer:
    """``claims``: of the next person, over the defaults. ``mint``: makes the token of the claims. ``pages``: answers
    by path (status, headers, content), before anything else. ``device``: whether it has the device grant;
    ``answers``: what its token end-point says for devices before the person is there."""

    url: str = ""
    keys: list[Key] = field(default_factory=list)
    published: list[Key] = field(default_factory=list)
    claims: dict[str, Any] = field(default_factory=dict)
    discovery: dict[str, Any] = field(default_factory=dict)
    pages: dict[str, Callable[[], tuple[int, dict[str, str], bytes]]] = field(default_factory=dict)
    device: bool = True
    interval: float = 0.05
    answers: list[str] = field(default_factory=list)
    secret: str | None = None
    seen: list[Seen] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    mint: Callable[[dict[str, Any]], str] | None = None
    release: threading.Event = field(default_factory=threading.Event)

    def document(self) -> dict[str, Any]:
        """What it says of itself."""
        said: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        if self.device:
            said["device_authorization_endpoint"] = f"{self.url}/device"
        return {key: value for key, value in (said | self.discovery).items() if value is not None}

    def token(self, nonce: str | None = None) -> str:
        """An ID token for the next person."""
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": CLIENT, "sub": "u-1", "exp": now + 300, "iat": now, "nonce": nonce,
            "preferred_username": "mia", "email": "mia@lab.example", "email_verified": True, "groups": ["ml"],
        } | self.claims  # fmt: skip
        kept = {key: value for key, value in claims.items() if value is not None}
        return self.mint(kept) if self.mint is not None else signed(kept, self.keys[0])

    def visit(self, authorization_url: str) -> dict[str, str]:
        """A person signs in with a browser: what it brings back."""
        asked = {key: values[0] for key, values in parse_qs(urlsplit(authorization_url).query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return {"code": code, "state": asked["state"], "redirect_uri": asked["redirect_uri"]}

    def count(self, path: str) -> int:
        """So many requests came there."""
        return sum(each.path == path for each in self.seen)

    def _answer(self, seen: Seen) -> tuple[int, Any]:
        if seen.path == "/.well-known/openid-configuration":
            return 200, self.document()
        if seen.path == "/keys":
            return 200, {"keys": [key.as_dict(private=False) for key in self.published or self.keys]}
        if self.secret is not None and not self._knows(seen):
            return 401, {"error": "invalid_client"}
        if seen.path == "/device":
            uri = f"{self.url}/activate"
            return 200, {
                "device_code": "d-1",
                "user_code": "WDJB-MJHT",
                "verification_uri": uri,
                "verification_uri_complete": f"{uri}?user_code=WDJB-MJHT",
                "expires_in": 300,
                "interval": self.interval,
            }
        return self._redeemed(seen.form) if seen.path == "/token" else (404, {})

    def _knows(self, seen: Seen) -> bool:
        pair = base64.b64encode(f"{CLIENT}:{self.secret}".encode()).decode()
        return seen.authorization == f"Basic {pair}" or seen.form.get("client_secret") == self.secret

    def _redeemed(self, form: dict[str, str]) -> tuple[int, Any]:
        if form["grant_type"].endswith("device_code"):
            if self.answers:
                return 400, {"error": self.answers.pop(0)}
            return 200, {"access_token": "a", "token_type": "Bearer", "id_token": self.token()}
        asked = self.codes.pop(form["code"], None)
        challenge = plain(hashlib.sha256(form["code_verifier"].encode()).digest())
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": self.token(asked["nonce"])}


class _Handler(BaseHTTPRequestHandler):
    issuer: FakeIssuer

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        form = {key: values[0] for key, values in parse_qs(body).items()}
        seen = Seen(self.path.partition("?")[0], form, self.headers.get("Authorization"))
        self.issuer.seen.append(seen)
        if seen.path in self.issuer.pages:
            status, headers, content = self.issuer.pages[seen.path]()
        else:
            status, answer = self.issuer._answer(seen)
            headers, content = {"Content-Type": "application/json"}, json.dumps(answer).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _do  # noqa: N815  # the framework's names

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def an_issuer(keys: list[Key], **more: Any) -> Iterator[FakeIssuer]:
    """One that answers on a free port; stopped at the end."""
    issuer = FakeIssuer(keys=list(keys), **more)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"issuer": issuer}))
    server.daemon_threads = True
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield issuer
    finally:
        issuer.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
