"""HTTP to the service: kept connections, time limits, retries of what may be sent twice, answers as values.

``ssl`` contexts are made only for https addresses; they trust the address's own
authority where it has one, else the system's, or those of SSL_CERT_FILE.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BytesIO
from typing import BinaryIO, cast
from urllib.parse import quote, urlencode

from runyard import __version__
from runyard.client.address import Address
from runyard.client.errors import ClientError, Unreachable, read_report, refusal

API = "/api/v1"
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
TRY_AGAIN = frozenset({429, 502, 503, 504})
"""Statuses of a server that is starting, stopping or overloaded: nothing was done."""

Query = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds and the retries of calls that may be sent twice (each pause doubles)."""

    connect: float = 5.0
    read: float = 60.0
    tries: int = 4
    first_pause: float = 0.1


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: ``open`` gives a fresh reader of ``size`` bytes for each try."""

    size: int
    open: Callable[[], BinaryIO]
    kind: str = "application/octet-stream"

    @staticmethod
    def of_json(value: object) -> Body:
        """A JSON document."""
        text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return Body(len(text), lambda: BytesIO(text), "application/json")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer with status < 400, or 404 and the like where the caller asked for it."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> object:
        """The body as JSON. Raises :class:`Unreachable` when something else than the service answered."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Unreachable("What answers at this address is not Runyard: check RUNYARD_URL.") from None


class Stream:
    """An answer whose body is read as it comes."""

    def __init__(self, response: HTTPResponse, sock: socket.socket | None = None) -> None:
        self._response = response
        self._sock = sock
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.getheaders()}

    def chunks(self, size: int = 65536, patience: Callable[[], float] | None = None) -> Iterator[bytes]:
        """The body in pieces, each as soon as it is there; ``patience``: for how many seconds to wait for the next one.
        Raises ``OSError`` or ``HTTPException`` when cut off."""
        while True:
            if patience is not None and self._sock is not None:
                self._sock.settimeout(patience())
            chunk = self._response.read1(size)
            if not chunk:
                break
            yield chunk
        left = cast("int | None", getattr(self._response, "length", None))
        if left:
            raise ConnectionError(f"the answer ended {left} bytes early")
        self._response.read()  # nothing is left, but only this marks the connection as free


@dataclass(frozen=True, slots=True)
class Request:
    """One call. ``path`` is quoted already, below ``/api/v1``; with ``//`` in front, below the server's root."""

    method: str
    path: str
    query: Query = field(default_factory=dict[str, object])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Body | None = None
    repeatable: bool = False
    read_limit: float | None = None


def path_of(*segments: str) -> str:
    """A path of quoted segments, e.g. ``/training-runs/last``."""
    return "".join("/" + quote(segment, safe="") for segment in segments)


def _target(address: Address, request: Request) -> str:
    path = request.path[1:] if request.path.startswith("//") else API + request.path
    pairs: list[tuple[str, str]] = []
    for key, value in request.query.items():
        several = cast("Sequence[object]", value) if isinstance(value, list | tuple) else (value,)
        pairs += [(key, _word(each)) for each in several if each is not None]
    return address.base + path + ("?" + urlencode(pairs) if pairs else "")


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Transport:
    """Calls to one address. Safe to use from several threads: each call takes a connection out of the pool."""

    def __init__(self, address: Address, limits: Limits | None = None, agent: str = "") -> None:
        self._addresses = (address, *address.others)
        self._at = 0
        self.limits = limits or Limits()
        self._idle: list[HTTPConnection] = []
        self._lock = threading.Lock()
        self._tls: object | None = None
        self._headers = {"User-Agent": f"runyard/{__version__} {agent}".strip(), "Accept": "application/json"}
        if address.authorization:
            self._headers["Authorization"] = address.authorization

    @property
    def address(self) -> Address:
        """The server that is asked: of several, the one that answered last."""
        return self._addresses[self._at]

    def close(self) -> None:
        """Close the kept connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def call(self, request: Request, *, accept: frozenset[int] = frozenset()) -> Answer:
        """Send and read the whole answer. Statuses >= 400 raise, except those in ``accept``."""
        pause = self.limits.first_pause
        for left in range(self.limits.tries - 1, -1, -1):
            try:
                with self._exchange(request) as (response, _):
                    answer = Answer(response.status, dict(_lower(response)), response.read())
            except (OSError, HTTPException) as error:
                if not left or not _may_repeat(request):
                    raise self._explained(error) from error
            else:
                if answer.status not in TRY_AGAIN or not left or not _may_repeat(request):
                    again = left < self.limits.tries - 1
                    # What a first try removed without our hearing of it is gone, as was wished.
                    return _checked(answer, accept | {404} if again and request.method == "DELETE" else accept)
                pause = max(pause, _retry_after(answer.headers))
            time.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable: the last try returns or raises")

    @contextmanager
    def stream(self, request: Request) -> Generator[Stream]:
        """Send once and hand out the body as it comes. Statuses >= 400 raise as in :meth:`call`; connection errors
        raise :class:`Unreachable` while connecting and ``OSError`` or ``HTTPException`` afterwards."""
        with self._opened(request) as (response, sock):
            if response.status >= 400:
                _checked(Answer(response.status, dict(_lower(response)), response.read()), frozenset())
            yield Stream(response, sock)

    @contextmanager
    def _opened(self, request: Request) -> Generator[tuple[HTTPResponse, socket.socket]]:
        connected = False
        try:
            with self._exchange(request) as answer:
                connected = True
                yield answer
        except (OSError, HTTPException) as error:
            if connected:
                raise
            raise self._explained(error) from error

    @contextmanager
    def _exchange(self, request: Request) -> Generator[tuple[HTTPResponse, socket.socket]]:
        connection = self._take(fresh=not _may_repeat(request))
        kept = False
        try:
            sock = cast("socket.socket", connection.sock)
            sock.settimeout(request.read_limit or self.limits.read)
            response = self._send(connection, request)
            try:
                yield response, sock
                kept = response.isclosed() and not response.will_close
            finally:
                response.close()
        finally:
            self._give_back(connection, kept)

    def _send(self, connection: HTTPConnection, request: Request) -> HTTPResponse:
        headers = {**self._headers, **request.headers}
        body = request.body
        if body is None:
            if request.method in ("POST", "PUT"):
                headers["Content-Length"] = "0"
            connection.request(request.method, _target(self.address, request), headers=headers)
            return connection.getresponse()
        headers |= {"Content-Length": str(body.size), "Content-Type": body.kind}
        with body.open() as reader:
            try:
                connection.request(request.method, _target(self.address, request), reader, headers)
            except (BrokenPipeError, ConnectionResetError):
                # A server that refuses a body before its end may have said why.
                return _early_answer(connection)
        return connection.getresponse()

    def _take(self, *, fresh: bool) -> HTTPConnection:
        while not fresh:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            if _quiet(connection.sock):
                return connection
            connection.close()
        return self._connected()

    def _connected(self) -> HTTPConnection:
        """A new connection, to another server where one does not answer: nothing was sent to that one."""
        for left in range(len(self._addresses) - 1, -1, -1):
            connection = self._connection()
            try:
                connection.connect()
            except OSError:
                if not left:
                    raise
                self._at = (self._at + 1) % len(self._addresses)
            else:
                return connection
        raise AssertionError("unreachable: the last try returns or raises")

    def _give_back(self, connection: HTTPConnection, kept: bool) -> None:
        if not kept:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    def _connection(self) -> HTTPConnection:
        address = self.address
        if address.scheme == "http":
            return HTTPConnection(address.host, address.port, timeout=self.limits.connect)
        import ssl  # noqa: PLC0415  # for start-up: most addresses are plain http on loopback

        if self._tls is None:
            self._tls = ssl.create_default_context(cadata=address.authority or None)
        context = cast("ssl.SSLContext", self._tls)
        return HTTPSConnection(address.host, address.port, timeout=self.limits.connect, context=context)

    def _explained(self, error: Exception) -> ClientError:
        url = self.address.url
        if isinstance(error, ConnectionRefusedError):
            advice = "`runyard up --detach` starts a service here; for one elsewhere, correct RUNYARD_URL."
            return Unreachable(f"Nothing answers at {url}: {advice}")
        if isinstance(error, socket.gaierror):
            return Unreachable(f"The host {self.address.host!r} is not known: check RUNYARD_URL.")
        if type(error).__name__ == "SSLCertVerificationError":
            return Unreachable(
                f"The certificate of {url} is not trusted ({error}): sign in again with `runyard login {url}`, or name "
                "its authority in SSL_CERT_FILE."
            )
        if isinstance(error, TimeoutError):
            return Unreachable(f"{url} did not answer in time: check that it runs and can be reached, then try again.")
        what = str(error) or type(error).__name__
        return Unreachable(f"The connection to {url} failed ({what}): check that it runs, then try again.")


def _may_repeat(request: Request) -> bool:
    return request.repeatable or request.method in IDEMPOTENT


def _quiet(sock: object) -> bool:
    """Whether an idle connection is still open: one that has anything to read was closed by the server."""
    if not isinstance(sock, socket.socket):
        return False
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return not selector.select(0)


def _early_answer(connection: HTTPConnection) -> HTTPResponse:
    # http.client refuses to read before the request is sent whole; the response is read from the socket directly.
    response = HTTPResponse(cast("socket.socket", connection.sock), method="PUT")
    response.begin()
    if response.status < 400:
        raise ConnectionError("the connection broke while sending")
    return response


def _lower(response: HTTPResponse) -> Iterator[tuple[str, str]]:
    return ((name.lower(), value) for name, value in response.getheaders())


def _retry_after(headers: Mapping[str, str]) -> float:
    value = headers.get("retry-after", "")
    return min(float(value), 5.0) if value.isdigit() else 0.0


def _checked(answer: Answer, accept: frozenset[int]) -> Answer:
    if answer.status in accept or 200 <= answer.status < 300:
        return answer
    if answer.status < 400:
        raise Unreachable("The address answers with a redirection: give the address it leads to.")
    try:
        document: object = json.loads(answer.body)
    except ValueError:
        document = None
    raise refusal(read_report(answer.status, document))
