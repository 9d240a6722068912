"""Secrets at rest: AES-256-GCM (NIST SP 800-38D) under a key in a file of the installation."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import threading
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runyard.core.errors import RunyardError

_VERSION = b"\x01"
_KEY_BYTES = 32
_ID_BYTES = 8
_NONCE_BYTES = 12
_HEAD = len(_VERSION) + _ID_BYTES
_UNREADABLE = "this cannot be opened: it was sealed with another key, for another purpose, or has been changed"


class KeyFileError(RunyardError):
    """The key file cannot be used as it is."""

    code = "invalid_key_file"


class FileVault:
    """A :class:`runyard.ports.vault.Vault` over a key file, which is made on the first use, for its owner alone.

    The file holds a key a line (64 hexadecimal digits): the last one seals, all of them open. A sealed text is a
    version byte, 8 bytes that tell the key, a random nonce of 12 bytes, and the cipher text with its tag of 16.
    """

    def __init__(self, key_file: Path) -> None:
        if not os.path.lexists(key_file):
            _write(key_file, [secrets.token_bytes(_KEY_BYTES)], replace=False)
        self._file = key_file
        self._lock = threading.Lock()
        self._use(_read(key_file))

    def _use(self, keys: list[bytes]) -> None:
        self._keys = keys
        self._ciphers = {_id_of(key): AESGCM(key) for key in keys}
        self._current = _id_of(keys[-1])

    @property
    def has_old_keys(self) -> bool:
        """Whether there are keys that seal no more."""
        return len(self._keys) > 1

    def drop_old_keys(self) -> None:
        """Keep the newest key alone: nothing that another one sealed can be opened any more."""
        with self._lock:
            _write(self._file, self._keys[-1:], replace=True)
            self._use(self._keys[-1:])

    def mark(self) -> bytes:
        """See :class:`runyard.ports.vault.Vault`."""
        return _VERSION + self._current

    def renew(self) -> None:
        """See :class:`runyard.ports.vault.Vault`. The key is durable before anything is sealed with it."""
        with self._lock:
            if not self.has_old_keys:
                keys = [*self._keys, secrets.token_bytes(_KEY_BYTES)]
                _write(self._file, keys, replace=True)
                self._use(keys)

    def seal(self, plain: bytes, context: str) -> bytes:
        """See :class:`runyard.ports.vault.Vault`."""
        nonce, current = secrets.token_bytes(_NONCE_BYTES), self._current
        text = self._ciphers[current].encrypt(nonce, plain, context.encode())
        return _VERSION + current + nonce + text

    def open(self, sealed: bytes, context: str) -> bytes:
        """See :class:`runyard.ports.vault.Vault`."""
        cipher = self._ciphers.get(sealed[1:_HEAD])
        if sealed[:1] != _VERSION or cipher is None:
            raise ValueError(_UNREADABLE)
        nonce, text = sealed[_HEAD : _HEAD + _NONCE_BYTES], sealed[_HEAD + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, text, context.encode())
        except (InvalidTag, ValueError):
            raise ValueError(_UNREADABLE) from None


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"key id" + key).digest()[:_ID_BYTES]


def _write(path: Path, keys: list[bytes], *, replace: bool) -> None:
    """Write keys, completely or not at all; without ``replace`` a file that another process makes at the same time is
    kept."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, "".join(f"{key.hex()}\n" for key in keys).encode())
        os.fsync(fd)
        if replace:
            os.replace(beside, path)
        else:
            os.link(beside, path)
    except FileExistsError:
        pass
    finally:
        os.close(fd)
        with suppress(FileNotFoundError):
            os.unlink(beside)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> list[bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFileError(f"The key file {path} cannot be opened: {error.strerror}.") from None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise KeyFileError(f"The key file {path} can be read by others: `chmod 600 {path}`, then start again.")
        if status.st_uid not in (os.geteuid(), 0):
            raise KeyFileError(
                f"The key file {path} belongs to another user: `chown` it to the one that runs the server."
            )
        lines = file.read(1 << 16).split()
    try:
        keys = [bytes.fromhex(line.decode("ascii")) for line in lines]
    except ValueError:
        keys = []
    if not keys or any(len(key) != _KEY_BYTES for key in keys):
        raise KeyFileError(f"The key file {path} holds no usable key: put the file back from a backup.")
    return keys
