"""The port of object stores over folders of a machine, which the server itself does not see."""

# ruff: noqa: ARG002 # the port gives each kind of store what any of them needs

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NoReturn

from runyard.adapters.objects.verdicts import OK
from runyard.core.errors import StoreUnavailable
from runyard.core.house import allowed_words, read_root, root_of
from runyard.core.spec import Credentials, Location
from runyard.ports.objects import Checked, Listing, Verdict


class VolumeObjects:
    """An :class:`runyard.ports.objects.ObjectStores` for locations of kind ``volume``.

    Only the path is judged, by its text; the node looks again, with symbolic links followed.
    """

    def __init__(self, host_paths: Sequence[str]) -> None:
        self._roots = tuple(read_root(path) for path in host_paths)

    def check(self, location: Location, credentials: Credentials | None, *, write: bool, account_id: str) -> Checked:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        path = location.connection.path or ""
        parts = [path, location.bucket.strip("/"), location.prefix.strip("/")]
        if not os.path.isabs(path) or "\0" in "".join(parts):
            return Checked(Verdict.denied, f"A host path must be absolute, and {path[:120]!r} is not.")
        folder = os.path.normpath("/".join(part for part in parts if part))
        root = root_of(folder, self._roots)
        if root is not None and (root.writable or not write):
            return OK
        if root is not None:
            text = f"The host path {folder} is read-only here: nothing can be stored there."
            return Checked(Verdict.denied, f"{text} The operator opens it in host_paths (`:rw`).")
        allowed = f"allowed are {allowed_words(self._roots)}" if self._roots else "none is allowed here"
        return Checked(
            Verdict.denied,
            f"The host path {folder} may not be used: {allowed}. The operator sets host_paths in settings.toml.",
        )

    def list(self, location: Location, credentials: Credentials | None, *, account_id: str) -> Listing:
        """Nothing: the node reads a host path in place."""
        return Listing(self.check(location, credentials, write=False, account_id=account_id))

    def read(
        self, location: Location, credentials: Credentials | None, key: str, *, account_id: str
    ) -> tuple[int, Iterator[bytes]] | None:
        """The server has no way to a machine's folder."""
        _elsewhere(location)

    def delete_prefix(
        self, location: Location, credentials: Credentials | None, prefix: str, *, account_id: str
    ) -> int:
        """The server has no way to a machine's folder."""
        _elsewhere(location)


def _elsewhere(location: Location) -> NoReturn:
    folder = os.path.join(location.connection.path or "", location.bucket)
    raise StoreUnavailable(
        f"The folder {folder} is on the machine that ran the program, out of the server's reach: look there.",
        code="store_unreachable",
    )
