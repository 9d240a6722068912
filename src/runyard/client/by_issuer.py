"""Signing in by OpenID Connect: the service asks the issuer, the person answers there, in any browser."""

from __future__ import annotations

import hmac
import threading
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Final
from urllib.parse import parse_qs, urlsplit

from runyard.client.access_records import Login, SignInBegun
from runyard.client.address import address_of
from runyard.client.client import Client
from runyard.client.contexts import Named
from runyard.client.errors import Broken, NotSignedIn, TimedOut, Unreachable

LONGEST_S: Final = 600.0
"""So long a person has, whatever the service says."""
_LOOK_S: Final = 0.5
_PATH: Final = "/callback"
_LATE: Final = "Nobody signed in at the issuer in time: call `runyard login --oidc` again."
_PAGE: Final = "<!doctype html><meta charset=utf-8><title>Runyard</title><p>{}</p>"


@dataclass(slots=True)
class _Back:
    """What the browser brought back. ``state``: what it has to bring with it."""

    state: str = field(default="", repr=False)
    code: str | None = field(default=None, repr=False)
    error: str | None = None


class _Return(TCPServer):
    """Waits on loopback for a browser (RFC 8252, section 7.3)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.timeout = _LOOK_S
        self.back = _Back()

    @property
    def port(self) -> int:
        """Where it waits."""
        return int(self.socket.getsockname()[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Who breaks off is not the browser that is waited for."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 5.0

    def do_GET(self) -> None:
        """The browser comes back; whoever lacks the state of this sign-in is somebody else."""
        assert isinstance(self.server, _Return)
        back = self.server.back
        path, _, query = self.path.partition("?")
        said = {key: values[0] for key, values in parse_qs(query).items()}
        mine = hmac.compare_digest(said.get("state", "").encode("utf-8", "replace"), back.state.encode())
        if path != _PATH or not back.state or not mine:
            self._answer(404, "This is not the sign-in that is waited for.")
            return
        back.code, back.error = said.get("code"), said.get("error")
        done = "Signed in at the issuer: go back to the terminal." if back.code else "Not signed in: see the terminal."
        self._answer(200, done)

    def _answer(self, status: int, words: str) -> None:
        content = _PAGE.format(words).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what it would log holds the code."""


def sign_in_by_issuer(one: Named, tell: Callable[[str], None]) -> Login:
    """A token by the issuer that the service trusts. ``tell``: says a line to the person.

    Raises :class:`NotSignedIn` when the issuer or the service says no, :class:`TimedOut` when nobody signs in,
    :class:`NotFound` where the service has no such way in.
    """
    with Client(address=address_of(one)) as client, _Return() as server:
        begun = client.begin_login(server.port)
        if begun.way == "device":
            server.server_close()
            return _by_device(client, begun, tell)
        return _by_browser(client, begun, server, tell)


def _by_device(client: Client, begun: SignInBegun, tell: Callable[[str], None]) -> Login:
    tell(f"Open {_safe(begun.verification_uri)} on any device and type the code\n  {begun.user_code}")
    if begun.verification_uri_complete:
        tell(f"or open {_safe(begun.verification_uri_complete)} and compare the code.")
    tell("Type a code of your own call alone: who gets you to type theirs is signed in as you.")
    pause, until = begun.interval_s, time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        time.sleep(min(max(pause, 0.1), 60.0))
        try:
            found = client.finish_login(begun.login)
        except Broken as error:
            if error.code != "issuer_away":
                raise
            continue  # it may come back while the code is good
        if isinstance(found, Login):
            return found
        pause = found
    raise TimedOut(_LATE)


def _by_browser(client: Client, begun: SignInBegun, server: _Return, tell: Callable[[str], None]) -> Login:
    url = _safe(begun.authorization_url)
    server.back.state = (parse_qs(urlsplit(url).query).get("state") or [""])[0]
    tell(f"Sign in with a browser on this machine:\n  {url}")
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()  # some return at their end
    until = time.monotonic() + LONGEST_S
    while server.back.code is None and server.back.error is None:
        if time.monotonic() >= until:
            raise TimedOut(_LATE)
        server.handle_request()
    if server.back.code is None:
        raise NotSignedIn("The issuer did not let you in: sign in again, or ask an administrator.")
    found = client.finish_login(begun.login, server.back.code, server.back.state)
    if not isinstance(found, Login):
        raise Unreachable("The service did not say whether you are signed in: call `runyard login --oidc` again.")
    return found


def _safe(url: str) -> str:
    """An address that may be shown and opened: a service that is not what it seems may send any text."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host, parts = None, urlsplit("")
    here = parts.scheme == "http" and host in ("127.0.0.1", "localhost", "::1")
    plain = url.isascii() and url.isprintable() and " " not in url
    if not (plain and host and (parts.scheme == "https" or here)):
        raise NotSignedIn("The service sent an address to sign in at that is not https: nothing was opened.")
    return url
