"""The two tokens of a first start: the owner's and this machine's node's. Their texts stay on the machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Token:
    """A token's digest and first characters, which is all that the server is told."""

    digest: str
    hint: str


def ensure(path: Path) -> Token:
    """Read the token kept at ``path``, made with mode 0600 when there is none; a file is never there in part."""
    text = ""
    with contextlib.suppress(FileNotFoundError):
        text = path.read_text().strip()
    if not text:
        text = "ryd_" + secrets.token_urlsafe(32)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    return Token(hashlib.sha256(text.encode()).hexdigest(), text[:8])
