"""Where the service is and how to get in: arguments, environment, a context, or what `runyard up` left in its home."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from runyard.client import contexts
from runyard.client.errors import Unreachable

UNKNOWN = (
    "No address of a service is known: `runyard up --detach` starts one here; for another, `runyard login URL`, or set "
    "RUNYARD_URL and RUNYARD_TOKEN."
)
AUTHORITY = Path("tls") / "ca.pem"
"""In the home of an installation with a certificate authority of its own: its certificate."""


@dataclass(frozen=True, slots=True)
class Address:
    """An end-point. ``base`` is the path in front of ``/api/v1``; ``authorization`` the header's value, never shown.
    ``authority``: certificates (PEM) that are trusted instead of the system's, empty for the system's.
    ``others``: servers that can be asked in its place."""

    scheme: str
    host: str
    port: int
    base: str
    authorization: str | None = field(default=None, repr=False)
    authority: str = field(default="", repr=False)
    others: tuple[Address, ...] = ()

    @property
    def url(self) -> str:
        """The address as text, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.base}"


def home_folder(environment: Mapping[str, str] | None = None) -> Path:
    """The folder of the embedded installation: RUNYARD_HOME, else ``~/.runyard``."""
    environment = os.environ if environment is None else environment
    return Path(environment.get("RUNYARD_HOME") or Path.home() / ".runyard")


def find_address(
    url: str | None = None, token: str | None = None, environment: Mapping[str, str] | None = None
) -> Address:
    """Find the address: ``url`` and ``token``, RUNYARD_URL and RUNYARD_TOKEN, ML_ENV with ML_USERNAME and ML_PASSWORD,
    RUNYARD_CONTEXT, a RUNYARD_HOME, the current context, or the files ``url`` and ``token`` of the home. A token is
    never sent to an address that it was not given for. Several addresses, with commas between them, are of servers on
    one database: whichever answers is asked.

    Raises :class:`Unreachable` when no address is known or it is no http(s) URL, and :class:`Misuse` when there is no
    such context.
    """
    environment = os.environ if environment is None else environment
    ours, theirs = environment.get("RUNYARD_URL"), environment.get("ML_ENV")
    told = url or ours or ""
    if "," in told:
        first, *more = [each.strip() for each in told.split(",") if each.strip()] or [told]
        found = find_address(first, token, environment)
        others = tuple(_address(_split(each), found.authorization, found.authority) for each in more)
        return replace(found, others=others)
    kept = _kept(environment, named=not (url or ours or theirs))
    where = url or ours or theirs or (kept.url if kept is not None else None)
    if not where:
        raise Unreachable(UNKNOWN)
    parts = _split(where)
    if kept is None or not _same(where, kept.url):
        kept = _known(environment, where)
    authority = kept.authority if kept is not None else ""
    token = token or _token_in(parts) or environment.get("RUNYARD_TOKEN")
    if token is None and theirs and _same(where, theirs) and environment.get("ML_PASSWORD"):
        basic = _basic(environment.get("ML_USERNAME") or "user", environment["ML_PASSWORD"])
        return _address(parts, basic, authority)
    if token is None and kept is not None:
        token = kept.token
    return _address(parts, f"Bearer {token}" if token else None, authority)


def address_of(one: contexts.Named) -> Address:
    """The address of a context. Raises :class:`Unreachable` when its URL is none."""
    return _address(_split(one.url), f"Bearer {one.token}" if one.token else None, one.authority)


def _kept(environment: Mapping[str, str], *, named: bool) -> contexts.Named | None:
    """What is used where no address is told: a context, or this machine's installation."""
    if named and not environment.get("RUNYARD_CONTEXT") and environment.get("RUNYARD_HOME"):
        return local(environment)
    wanted = environment.get("RUNYARD_CONTEXT") if named else None
    if wanted == contexts.LOCAL or not named:
        return local(environment)
    found = contexts.load(contexts.file_of(environment))
    name = wanted or found.current
    if name is None:
        return local(environment)
    return found.get(name) or found.using(name).get(name)


def _known(environment: Mapping[str, str], where: str) -> contexts.Named | None:
    """What is kept of an address that was told."""
    here = local(environment)
    if here is not None and _same(where, here.url):
        return here
    found = contexts.load(contexts.file_of(environment))
    return next((each for each in found.named if _same(where, each.url)), None)


def local(environment: Mapping[str, str] | None = None) -> contexts.Named | None:
    """This machine's own installation, as ``runyard up`` left it; None when there is none."""
    home = home_folder(environment)
    url = _read(home / "url")
    if url is None:
        return None
    authority = (_read(home / AUTHORITY) or "") if url.startswith("https") else ""
    return contexts.Named(contexts.LOCAL, url, _read(home / "token"), authority)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _split(url: str) -> SplitResult:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise Unreachable("The service's address is no URL such as http://127.0.0.1:8642: correct it, or RUNYARD_URL.")
    return parts


def _token_in(parts: SplitResult) -> str | None:
    return unquote(parts.password) if parts.password else None


def _same(one: str, other: str) -> bool:
    return _address(_split(one), None) == _address(_split(other), None)


def _address(parts: SplitResult, authorization: str | None, authority: str = "") -> Address:
    base = parts.path.rstrip("/").removesuffix("/api/v1")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Address(parts.scheme, parts.hostname or "", port, base, authorization, authority)


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")
