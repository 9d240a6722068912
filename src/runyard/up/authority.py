"""The installation's own authority, and the certificates that it signs. Needs the server's packages."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runyard.up.tls import Tls, TlsError, brought

AUTHORITY_YEARS: Final = 10
CERTIFICATE_DAYS: Final = 825
"""The longest that some clients accept of a server's certificate."""
RENEW_DAYS: Final = 180
"""A certificate with less than this left is made anew when the installation starts."""
_SKEW: Final = datetime.timedelta(hours=1)


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
