"""Model definitions: from the server's zip, by its hash, to an unpacked folder in the cache."""

from __future__ import annotations

import hashlib
import os
import time
from typing import IO

from runyard.core.reasons import Reason
from runyard.node.cache import Cache, remove_tree
from runyard.node.evidence import Evidence, human
from runyard.node.link import Backoff, Link, Refused, Unreachable
from runyard.node.unpack import CodeInvalid, Unpacked, make_passable, unpack

TRIES = 3
"""Downloads of a zip whose hash is not its name."""


class CodeFault(Exception):
    """The code cannot be had."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def fetch_code(link: Link, cache: Cache, code: str, evidence: Evidence) -> tuple[str, int]:
    """The folder of a model definition and the bytes fetched for it (0: it was there).

    A server that is away is waited for. Raises :class:`CodeFault`, or ``OSError`` for our own disk.
    """
    if len(code) != 64 or not set(code) <= set("0123456789abcdef"):
        raise CodeFault(Reason.code_invalid, "The model definition has no proper hash.")
    with cache.making("code", code):
        if cache.has("code", code):
            evidence.note(f"The model definition {code[:12]} is in this machine's cache.")
            return cache.path("code", code), 0
        folder = cache.temporary()
        try:
            began = time.monotonic()
            with open(folder + "/code.zip", "w+b") as archive:
                size = _download(link, code, archive, evidence)
                unpacked = _unpack(archive, folder + "/code")
            os.unlink(folder + "/code.zip")
            path = cache.keep(folder + "/code", "code", code, unpacked.size)
            evidence.note(
                f"The model definition {code[:12]} ({human(size)}) was fetched and unpacked: {unpacked.files} files, "
                f"{human(unpacked.size)}, in {time.monotonic() - began:.2f} s."
            )
            return path, size
        finally:
            remove_tree(folder)


def _download(link: Link, code: str, archive: IO[bytes], evidence: Evidence) -> int:
    backoff, tries = Backoff(), 0
    while True:
        archive.seek(0)
        archive.truncate()
        digest = hashlib.sha256()
        try:
            for chunk in link.fetch(f"/definitions/{code}"):
                digest.update(chunk)
                archive.write(chunk)
        except Unreachable as error:
            evidence.note(f"The server could not be reached: {error}.")
            time.sleep(backoff.pause_s())
            continue
        except Refused as error:
            raise CodeFault(
                Reason.staging_failed, f"The server did not hand out the model definition: {error}"
            ) from None
        if digest.hexdigest() == code:
            return archive.tell()
        tries += 1
        evidence.note(f"What came is not the model definition {code[:12]}: its hash is {digest.hexdigest()[:12]}.")
        if tries == TRIES:
            raise CodeFault(Reason.code_invalid, "The stored model definition is damaged: its hash is not its name.")


def _unpack(archive: IO[bytes], target: str) -> Unpacked:
    archive.seek(0)
    try:
        unpacked = unpack(archive, target)
    except CodeInvalid as error:
        raise CodeFault(Reason.code_invalid, str(error)) from None
    make_passable(target)
    return unpacked
