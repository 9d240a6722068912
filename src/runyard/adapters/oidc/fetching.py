"""JSON from an issuer: no redirect is followed, no proxy used, and neither size nor time is without a limit."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Final, NoReturn, cast
from urllib.parse import SplitResult, urlencode, urlsplit

from runyard.core.errors import IssuerAway

MOST_BYTES: Final = 256 * 1024
PATIENCE_S: Final = 10.0
"""For a whole exchange, from the first byte sent to the last one read."""
_CONNECT_S: Final = 5.0
Document = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: a status, and a JSON object (an empty one where it is none and the status is no success)."""

    status: int
    document: Document


class Fetching:
    """Speaks to an issuer. ``ca_file``: further authorities (PEM) that are trusted. ``patience_s``: for an exchange."""

    def __init__(self, ca_file: str | None = None, patience_s: float = PATIENCE_S) -> None:
        self._ca_file = ca_file
        self._patience_s = patience_s

    def get(self, url: str) -> Document:
        """The document at an address. Raises :class:`IssuerAway`."""
        found = self._exchange("GET", url, None, {})
        if found.status != 200:
            raise IssuerAway(f"{url} answered {found.status} in the place of a document: {_TELL}")
        return found.document

    def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Fetched:
        """The answer to a form. Raises :class:`IssuerAway`."""
        more = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        return self._exchange("POST", url, urlencode(form).encode(), more)

    def _exchange(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Fetched:
        parts = urlsplit(url)
        late = threading.Event()
        try:
            sock = socket.create_connection((parts.hostname or "", _port(parts)), min(_CONNECT_S, self._patience_s))
        except OSError as error:
            _away(url, error)
        sock.settimeout(self._patience_s)
        held = sock.dup()  # a descriptor of the timer's own: TLS takes the other one over
        timer = threading.Timer(self._patience_s, _cut, (held, late))
        timer.start()
        try:
            status, content = _asked(self._secured(sock, parts), parts, method, body, headers)
        except (OSError, HTTPException, ValueError) as error:
            if late.is_set() or isinstance(error, TimeoutError):  # the timer's or the socket's own, whichever is first
                raise IssuerAway(f"{url} did not answer within {self._patience_s:g} seconds: {_TELL}") from None
            _away(url, error)
        finally:
            timer.cancel()
            held.close()
            sock.close()
        return Fetched(status, _object(url, status, content))

    def _secured(self, sock: socket.socket, parts: SplitResult) -> socket.socket:
        if parts.scheme == "http":
            return sock
        context = ssl.create_default_context()
        if self._ca_file is not None:
            context.load_verify_locations(self._ca_file)
        return context.wrap_socket(sock, server_hostname=parts.hostname)


_TELL: Final = "try again later, or tell an administrator."


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _cut(sock: socket.socket, late: threading.Event) -> None:
    """End an exchange that takes too long: its reads and writes fail."""
    late.set()
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it ended by itself


def _asked(
    sock: socket.socket, parts: SplitResult, method: str, body: bytes | None, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    connection = HTTPConnection(parts.hostname or "", _port(parts))
    connection.sock = sock
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    shown = {"Host": parts.netloc, "Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
    try:
        connection.request(method, target, body, shown | dict(headers))
        with connection.getresponse() as response:
            content = response.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"its answer is larger than {MOST_BYTES // 1024} KiB")
        return response.status, content
    finally:
        connection.close()


def _object(url: str, status: int, content: bytes) -> Document:
    try:
        return json_object(content)
    except ValueError:
        if status >= 400:
            return {}
        raise IssuerAway(f"{url} answered with something that is no JSON object: {_TELL}") from None


def _no_constant(_: str) -> NoReturn:
    raise ValueError("no JSON")


def json_object(content: bytes) -> Document:
    """A JSON object. Raises ``ValueError``."""
    try:
        found = json.loads(content.decode(), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("no object")
    return cast("Document", found)


def _away(url: str, error: Exception) -> NoReturn:
    raise IssuerAway(f"{url} cannot be asked ({error or type(error).__name__}): {_TELL}") from None
