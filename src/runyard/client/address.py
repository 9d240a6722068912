"""Where the service is and how to get in: arguments, environment, or what `runyard up` left in its home."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from runyard.client.errors import Unreachable

UNKNOWN = (
    "No address of a service is known: `runyard up --detach` starts one here; for another, set RUNYARD_URL and "
    "RUNYARD_TOKEN."
)


@dataclass(frozen=True, slots=True)
class Address:
    """An end-point. ``base`` is the path in front of ``/api/v1``; ``authorization`` the header's value, never shown."""

    scheme: str
    host: str
    port: int
    base: str
    authorization: str | None = field(default=None, repr=False)

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
    or the files ``url`` and ``token`` of the home. A token is never sent to an address that it was not given for.

    Raises :class:`Unreachable` when no address is known or it is no http(s) URL.
    """
    environment = os.environ if environment is None else environment
    home = home_folder(environment)
    ours, theirs, local = environment.get("RUNYARD_URL"), environment.get("ML_ENV"), _read(home / "url")
    where = url or ours or theirs or local
    if not where:
        raise Unreachable(UNKNOWN)
    parts = _split(where)
    token = token or _token_in(parts) or environment.get("RUNYARD_TOKEN")
    if token is None and theirs and _same(where, theirs) and environment.get("ML_PASSWORD"):
        return _address(parts, _basic(environment.get("ML_USERNAME") or "user", environment["ML_PASSWORD"]))
    if token is None and local and _same(where, local):
        token = _read(home / "token")
    return _address(parts, f"Bearer {token}" if token else None)


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
        raise Unreachable("The service's address is no URL such as http://127.0.0.1:8642: correct RUNYARD_URL.")
    return parts


def _token_in(parts: SplitResult) -> str | None:
    return unquote(parts.password) if parts.password else None


def _same(one: str, other: str) -> bool:
    return _address(_split(one), None) == _address(_split(other), None)


def _address(parts: SplitResult, authorization: str | None) -> Address:
    base = parts.path.rstrip("/").removesuffix("/api/v1")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Address(parts.scheme, parts.hostname or "", port, base, authorization)


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")
