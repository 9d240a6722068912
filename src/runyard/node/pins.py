"""Buckets whose data stay in the cache until an operator says otherwise."""

from __future__ import annotations

import os

import msgspec

from runyard.node.home import write_whole


class Pins:
    """Names of buckets, whatever store they are in; kept in a file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.buckets: frozenset[str] = frozenset()
        try:
            with open(path, "rb") as file:
                self.buckets = frozenset(msgspec.json.decode(file.read(), type=list[str]))
        except (FileNotFoundError, msgspec.DecodeError):
            pass  # nothing is pinned

    def set(self, bucket: str, *, pinned: bool) -> None:
        """Pin a bucket, or let it go."""
        self.buckets = self.buckets | {bucket} if pinned else self.buckets - {bucket}
        write_whole(self._path, msgspec.json.encode(sorted(self.buckets)), lasting=True)
        os.chmod(self._path, 0o600)
