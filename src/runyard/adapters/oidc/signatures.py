"""Signed tokens (JWS, RFC 7515; keys by RFC 7517 and 7518, EdDSA by RFC 8037) by ``cryptography``.

Only public-key algorithms are known here: there is no ``none``, and no HMAC whose secret could be a public key.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from runyard.adapters.oidc.fetching import Document, json_object

_LONGEST: Final = 64 * 1024
_BITS: Final = (2048, 8192)
_MOST_EXPONENT: Final = 1 << 32
_URL_SAFE: Final = re.compile(r"[A-Za-z0-9_-]+")


class NotGood(Exception):
    """A token that is not to be believed; says why."""


class UnknownKey(NotGood):
    """It is signed with a key that is not among those that were given: there may be newer ones."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A signature algorithm: the type (and curve) of its keys, and how to check with one."""

    kty: str
    curve: str | None
    check: Callable[[Document, bytes, bytes], None]


def verified(token: str, keys: Sequence[Document]) -> Document:
    """What a token holds that one of these keys has signed. Raises :class:`NotGood`."""
    parts = token.split(".") if len(token) <= _LONGEST else []
    if len(parts) != 3:
        raise NotGood("it is no signed token")
    try:
        header, signature = json_object(_bytes(parts[0])), _bytes(parts[2])
    except ValueError:
        raise NotGood("it is no signed token") from None
    name = header.get("alg")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None or "crit" in header:
        raise NotGood(f"it is signed in a way that is not taken; {', '.join(_KINDS)} are")
    key = _chosen(header, str(name), kind, keys)
    try:
        kind.check(key, signature, f"{parts[0]}.{parts[1]}".encode())
    except (InvalidSignature, ValueError, TypeError, KeyError):
        raise NotGood("its signature is wrong") from None
    try:
        return json_object(_bytes(parts[1]))
    except ValueError:
        raise NotGood("it holds no JSON object") from None


def _chosen(header: Document, name: str, kind: _Kind, keys: Sequence[Document]) -> Document:
    """The key that a token names; where it names none, the only one that fits."""
    kid = header.get("kid")
    fitting = [
        key
        for key in keys
        if (key.get("kty"), key.get("crv") if kind.curve else None) == (kind.kty, kind.curve)
        and key.get("use", "sig") == "sig"
        and key.get("alg", name) == name
        and (kid is None or key.get("kid") == kid)
    ]
    if len(fitting) != 1:
        raise UnknownKey("it is signed with a key that the issuer does not publish")
    return fitting[0]


def _bytes(text: object) -> bytes:
    """Base64url without padding (RFC 7515, section 2). Raises ``ValueError``."""
    if not isinstance(text, str) or not _URL_SAFE.fullmatch(text):
        raise ValueError("no base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _number(key: Document, name: str) -> int:
    return int.from_bytes(_bytes(key.get(name)))


def _rsa(key: Document) -> rsa.RSAPublicKey:
    modulus, exponent = _number(key, "n"), _number(key, "e")
    if not _BITS[0] <= modulus.bit_length() <= _BITS[1] or exponent > _MOST_EXPONENT:
        raise ValueError("a key of another size than is taken")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _pkcs1(digest: hashes.HashAlgorithm) -> Callable[[Document, bytes, bytes], None]:
    return lambda key, signature, content: _rsa(key).verify(signature, content, padding.PKCS1v15(), digest)


def _pss(digest: hashes.HashAlgorithm) -> Callable[[Document, bytes, bytes], None]:
    filling = padding.PSS(padding.MGF1(digest), digest.digest_size)
    return lambda key, signature, content: _rsa(key).verify(signature, content, filling, digest)


def _ecdsa(curve: ec.EllipticCurve, digest: hashes.HashAlgorithm) -> Callable[[Document, bytes, bytes], None]:
    size = curve.key_size // 8

    def check(key: Document, signature: bytes, content: bytes) -> None:
        if len(signature) != 2 * size:
            raise ValueError("a signature of another size")
        public = ec.EllipticCurvePublicNumbers(_number(key, "x"), _number(key, "y"), curve).public_key()
        pair = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
        public.verify(encode_dss_signature(*pair), content, ec.ECDSA(digest))

    return check


def _eddsa(key: Document, signature: bytes, content: bytes) -> None:
    ed25519.Ed25519PublicKey.from_public_bytes(_bytes(key.get("x"))).verify(signature, content)


_KINDS: Final[Mapping[str, _Kind]] = {
    "RS256": _Kind("RSA", None, _pkcs1(hashes.SHA256())),
    "RS384": _Kind("RSA", None, _pkcs1(hashes.SHA384())),
    "RS512": _Kind("RSA", None, _pkcs1(hashes.SHA512())),
    "PS256": _Kind("RSA", None, _pss(hashes.SHA256())),
    "ES256": _Kind("EC", "P-256", _ecdsa(ec.SECP256R1(), hashes.SHA256())),
    "ES384": _Kind("EC", "P-384", _ecdsa(ec.SECP384R1(), hashes.SHA384())),
    "EdDSA": _Kind("OKP", "Ed25519", _eddsa),
    "Ed25519": _Kind("OKP", "Ed25519", _eddsa),  # its name since RFC 9864
}
