"""The installation's own secrets inside a backup: in the clear, or sealed with a passphrase.

Sealed: a salt of 16 bytes, a nonce of 12, AES-256-GCM under a key by scrypt (RFC 7914; N = 2^15, r = 8, p = 1).
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from runyard.core.errors import RunyardError

_SALT: Final = 16
_NONCE: Final = 12
_PURPOSE: Final = b"runyard backup"
Texts = dict[str, str]
"""Contents of small files, by their path in the home."""


def seal(texts: Texts, passphrase: str) -> bytes:
    """Texts that only the passphrase opens."""
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    return salt + nonce + AESGCM(_key(passphrase, salt)).encrypt(nonce, plain(texts), _PURPOSE)


def open_sealed(sealed: bytes, passphrase: str) -> Texts:
    """The texts again. Raises ``RunyardError`` for another passphrase."""
    salt, nonce, text = sealed[:_SALT], sealed[_SALT : _SALT + _NONCE], sealed[_SALT + _NONCE :]
    try:
        return read_plain(AESGCM(_key(passphrase, salt)).decrypt(nonce, text, _PURPOSE))
    except InvalidTag:
        raise RunyardError("The passphrase is not the one that this backup was made with.") from None


def plain(texts: Texts) -> bytes:
    """The texts in the clear."""
    return msgspec.json.encode(texts)


def read_plain(content: bytes) -> Texts:
    """The same, read."""
    return msgspec.json.decode(content, type=Texts)


def read_passphrase(path: str) -> str:
    """The first line of a file. Raises ``RunyardError``."""
    try:
        found = Path(path).read_text().splitlines()
    except OSError as error:
        raise RunyardError(f"The passphrase cannot be read from {path}: {error.strerror}.") from None
    if not found or not found[0]:
        raise RunyardError(f"The first line of {path} is empty: write the passphrase there.")
    return found[0]


def _key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt, 32, 1 << 15, 8, 1).derive(passphrase.encode())
