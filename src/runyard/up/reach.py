"""How an installation can be reached: where it listens, in the clear or by TLS, and what it is called outside."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from pathlib import Path

from runyard.cli.options import UpOptions
from runyard.core.errors import RunyardError
from runyard.settings import Settings
from runyard.up import tls
from runyard.up.tls import Tls


class Unprotected(RunyardError):
    """It would listen where others could read along."""

    code = "unprotected"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def protect(home: Path, options: UpOptions, settings: Settings) -> Tls | None:
    """The certificates to serve with; None for plain HTTP.

    Raises :class:`Unprotected` for plain HTTP beyond loopback, unless that was told to be meant, and
    :class:`~runyard.up.tls.TlsError` for files that cannot be used.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if (certificate is None) != (key is None):
        raise tls.TlsError("`tls_certificate` and `tls_key` belong together: give both, or neither.")
    if certificate is not None and key is not None:
        return tls.brought(Path(certificate), Path(key))
    if options.tls or settings.tls:
        from runyard.up import authority  # noqa: PLC0415  # `doctor` and `down` work without the server's packages

        return authority.ensure(home / "tls", names(options.host, settings), datetime.datetime.now(datetime.UTC))
    if not is_loopback(options.host) and not options.insecure:
        raise Unprotected(
            f"{options.host} can be reached from other machines, and tokens would travel in the clear: add --tls, "
            "name a certificate in settings.toml (tls_certificate, tls_key), listen on 127.0.0.1 behind a proxy that "
            "does TLS, or say --insecure where the network itself is private."
        )
    return None


def names(host: str, settings: Settings) -> list[str]:
    """The names in the certificate: this machine's, the address that is listened on, and the operator's."""
    here = ["localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn()]
    try:
        told = [] if ipaddress.ip_address(host).is_unspecified else [host]
    except ValueError:
        told = [host]
    return list(dict.fromkeys(name for name in (*here, *told, *settings.tls_names) if _can_be_named(name)))


def _can_be_named(name: str) -> bool:
    """A machine's own name may hold what no certificate does."""
    return bool(name) and name.isascii() and not any(sign in name for sign in " /_")


def url_of(listening: socket.socket, protected: Tls | None) -> str:
    """The address of a listening socket, as programs of this machine reach it."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1" if listening.family == socket.AF_INET else "::1"
    host = f"[{host}]" if ":" in host else host
    return f"{'http' if protected is None else 'https'}://{host}:{port}"
