"""TLS for a server that can be reached: the certificates that it serves with, and who believes them.

Clients pin the authority by its fingerprint, the SHA-256 of its certificate (DER), as 64 hexadecimal digits.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from runyard.core.errors import RunyardError


class TlsError(RunyardError):
    """Certificates that cannot be used."""

    code = "invalid_tls"


@dataclass(frozen=True, slots=True)
class Tls:
    """What a server needs for TLS. ``authority``: the certificate that clients trust, None where the operator's own
    certificate is of an authority that they know anyway."""

    certificate: Path
    key: Path
    authority: Path | None = None

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the authority."""
        return fingerprint(self.authority.read_text()) if self.authority is not None else None


def fingerprint(pem: str) -> str:
    """The fingerprint of a certificate."""
    return sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def brought(certificate: Path, key: Path) -> Tls:
    """The operator's own files. Raises :class:`TlsError` when they cannot be used together."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        what = getattr(error, "strerror", None) or getattr(error, "reason", None) or type(error).__name__
        raise TlsError(f"The certificate {certificate} and the key {key} cannot be used: {what}.") from None
    return Tls(certificate, key)


def _no_password() -> str:
    raise TlsError(
        "The key of the certificate is encrypted: give one without a password, readable by the server alone."
    )


def trusted_by(made: Tls | None) -> ssl.SSLContext | None:
    """What a program of this machine believes to be the server; None for plain HTTP."""
    if made is None:
        return None
    context = ssl.create_default_context(cafile=made.authority or made.certificate)
    if made.authority is None:  # the operator's certificate may have other names than the loopback's
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
