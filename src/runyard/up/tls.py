"""TLS for a server that can be reached: an authority of the installation's own, and certificates that it signs.

Clients pin the authority by its fingerprint, the SHA-256 of its certificate (DER), as 64 hexadecimal digits.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runyard.core.errors import RunyardError

AUTHORITY_YEARS: Final = 10
CERTIFICATE_DAYS: Final = 825
"""The longest that some clients accept of a server's certificate."""
RENEW_DAYS: Final = 180
"""A certificate with less than this left is made anew when the installation starts."""
_SKEW: Final = datetime.timedelta(hours=1)


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


def ensure(folder: Path, names: Sequence[str], now: datetime.datetime) -> Tls:
    """An authority in ``folder`` and a certificate for these names (DNS names and addresses), made where they are
    missing, other names are wanted or little time is left. The keys are their owner's alone to read."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Tls(folder / "server.pem", folder / "server.key", folder / "ca.pem")
    assert made.authority is not None
    if not (made.authority.exists() and (folder / "ca.key").exists()):
        _make_authority(folder, now)
        made.certificate.unlink(missing_ok=True)
    wanted = tuple(dict.fromkeys(names))
    if not _still_good(made, wanted, now):
        _make_certificate(folder, made, wanted, now)
    return made


def _still_good(made: Tls, names: Sequence[str], now: datetime.datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
        kept = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        brought(made.certificate, made.key)
    except (OSError, ValueError, x509.ExtensionNotFound, TlsError):
        return False
    left = certificate.not_valid_after_utc - now
    return list(kept) == _general_names(names) and left > datetime.timedelta(days=RENEW_DAYS)


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    return [_general_name(name) for name in names]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise TlsError(f"{name!r} is neither a host's name nor an address: correct `tls_names`.") from None


def _make_authority(folder: Path, now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Runyard authority")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # certificates and their lists
    until = now + datetime.timedelta(days=366 * AUTHORITY_YEARS)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - _SKEW, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca.key", _private(key), 0o600)
    _write(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _make_certificate(folder: Path, made: Tls, names: Sequence[str], now: datetime.datetime) -> None:
    assert made.authority is not None
    authority = x509.load_pem_x509_certificate(made.authority.read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)  # signatures
    until = min(now + datetime.timedelta(days=CERTIFICATE_DAYS), authority.not_valid_after_utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Runyard server")])
    certificate = (
        x509.CertificateBuilder(
            authority.subject, subject, key.public_key(), x509.random_serial_number(), now - _SKEW, until
        )
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write(made.key, _private(key), 0o600)
    _write(made.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by more than in the end."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def trusted_by(made: Tls | None) -> ssl.SSLContext | None:
    """What a program of this machine believes to be the server; None for plain HTTP."""
    if made is None:
        return None
    context = ssl.create_default_context(cafile=made.authority or made.certificate)
    if made.authority is None:  # the operator's certificate may have other names than the loopback's
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
