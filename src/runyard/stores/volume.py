"""A place in a folder of this machine."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runyard.core.house import Root, User, allowed_words, root_of
from runyard.stores.acting import acting_as
from runyard.stores.beneath import NotAFile, closing, etag_of, open_file, open_folder, walk
from runyard.stores.errors import StoreError
from runyard.stores.keys import check_key, listed
from runyard.stores.local_files import copy, open_source, open_target, read_full, write_all
from runyard.stores.place import Target
from runyard.wire.orders import Item, Place

_UNFINISHED = re.compile(r"(^|/)\.[0-9a-f]{16}\.runyard$")
"""A file that was being written when the machine went down."""


def volume_folder(place: Place, roots: Sequence[Root] | None) -> Path:
    """The folder of the machine that a ``volume`` place means, symbolic links of ``path`` followed (``bucket`` and
    ``prefix`` below it, which are not followed here, included).

    Raises :class:`StoreError`: ``invalid`` without an absolute path, ``denied`` when it lies below none of the roots
    (None: anything goes).
    """
    if not place.path or not os.path.isabs(place.path):
        raise StoreError("invalid", "A volume needs the absolute path of a folder of the machine.")
    folder = Path(os.path.realpath(place.path))
    if roots is not None and _root_of(folder, roots) is None:
        words = f"is not below a folder that may be used: {allowed_words(roots)}."
        raise StoreError("denied", f"The folder {place.path} {words}")
    return folder.joinpath(*_parts(place))


def _root_of(folder: Path, roots: Sequence[Root]) -> Root | None:
    return root_of(str(folder), [Root(os.path.realpath(root.path), root.writable) for root in roots])


def _parts(place: Place) -> list[str]:
    below = "/".join(part for part in (place.bucket.strip("/"), place.prefix.strip("/")) if part not in ("", "."))
    return check_key(below).split("/") if below else []


class VolumePlace:
    """A folder below ``path``. Objects are plain files; symbolic links are neither followed nor listed.

    ``user``: everything is done with that user's rights, and what is made is theirs. Else what is made belongs to the
    owner of ``path`` when this process may give files away.
    """

    def __init__(self, place: Place, roots: Sequence[Root] | None = None, user: User | None = None) -> None:
        folder = volume_folder(place, roots)
        root = Root("/", True) if roots is None else _root_of(folder, roots)
        self._writable = root is not None and root.writable
        self._user = user
        self._entry = os.path.realpath(place.path or "/" if root is None or roots is None else root.path)
        self._base = os.path.realpath(place.path or "/")
        self._parts = _parts(place)
        self._named = os.path.join(place.path or "/", *self._parts)

    def list(self, prefix: str = "", *, left_out: Callable[[str], None] | None = None) -> Sequence[Item]:
        """See :class:`runyard.stores.PlaceStore`."""
        with self._inside("") as root, closing(self._folder(root, [], "")) as folder:
            files = ((key, status) for key, status in walk(folder, prefix=prefix) if not _UNFINISHED.search(key))
            return listed((Item(key, status.st_size, etag_of(status)) for key, status in files), "", left_out)

    def size_of(self, key: str) -> int | None:
        """See :class:`runyard.stores.PlaceStore`."""
        try:
            with closing(self._open(key)) as fd:
                return os.fstat(fd).st_size
        except StoreError as error:
            if error.kind == "not_found":
                return None
            raise

    def fetch(
        self,
        key: str,
        target: Target,
        *,
        size: int,
        etag: str = "",
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        changed = StoreError("changed", f"The file {key!r} in {self._named} changed since it was listed.")
        with closing(self._open(key)) as source, open_target(target, size) as fd:
            before = os.fstat(source)
            if before.st_size != size or etag not in ("", etag_of(before)):
                raise changed
            try:
                copy(source, fd, size, on_bytes)
            except StoreError:
                raise changed from None
            if etag_of(os.fstat(source)) != etag_of(before):
                raise changed

    def get_bytes(self, key: str, *, limit: int = 16 << 20) -> bytes:
        """See :class:`runyard.stores.PlaceStore`."""
        with closing(self._open(key)) as fd:
            size = os.fstat(fd).st_size
            if size > limit:
                raise StoreError("invalid", f"The file {key!r} is larger than the {limit} bytes expected of it.")
            return read_full(fd, size, 0)

    def put_file(self, key: str, source: Target, size: int) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        with open_source(source) as fd:
            self._put(key, lambda target: copy(fd, target, size))

    def put_bytes(self, key: str, content: bytes) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        self._put(key, lambda target: write_all(target, content, 0))

    def _put(self, key: str, fill: Callable[[int], None]) -> None:
        self._check_writable()
        *folders, name = check_key(key).split("/")
        beside = f".{secrets.token_hex(8)}.runyard"
        with self._inside(key) as root, closing(self._folder(root, folders, key, make=True)) as folder:
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
            try:
                with closing(fd):
                    fill(fd)
                    if owner := self._owner():
                        os.fchown(fd, *owner)
                    os.fsync(fd)
                with self._naming(key):
                    os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(beside, dir_fd=folder)
                raise
            os.fsync(folder)

    def delete(self, keys: Sequence[str]) -> None:
        """See :class:`runyard.stores.PlaceStore`."""
        self._check_writable()
        for *folders, name in [check_key(key).split("/") for key in keys]:
            key = "/".join((*folders, name))
            try:
                with self._inside(key) as root, closing(self._folder(root, folders, key)) as folder, self._naming(key):
                    os.unlink(name, dir_fd=folder)
            except StoreError as error:
                if error.kind not in ("not_found", "invalid"):  # what is no plain file is not there
                    raise

    def close(self) -> None:
        """See :class:`runyard.stores.PlaceStore`."""

    def _open(self, key: str) -> int:
        *folders, name = check_key(key).split("/")
        try:
            with self._inside(key) as root, closing(self._folder(root, folders, key)) as folder, self._naming(key):
                return open_file(folder, name)
        except StoreError as error:  # a name that leads through a file leads to nothing
            raise StoreError("not_found", error.message) if error.kind == "invalid" else error from None

    @contextmanager
    def _inside(self, key: str) -> Generator[int, None, None]:
        """A descriptor of the operator's folder, which this process may enter, and the user's rights from there on."""
        with self._naming(key):
            root = os.open(self._entry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with closing(root), acting_as(self._user):
            yield root

    def _folder(self, root: int, folders: Sequence[str], key: str, *, make: bool = False) -> int:
        within = [part for part in os.path.relpath(self._base, self._entry).split("/") if part != "."]
        with self._naming(key), closing(open_folder(root, within)) as base:
            return open_folder(base, [*self._parts, *folders], make=make, owner=self._owner())

    def _check_writable(self) -> None:
        if not self._writable:
            words = "The operator can open it for writing (host_paths, `:rw`)."
            raise StoreError("denied", f"The folder {self._named} lies in a read-only folder of the machine. {words}")

    def _owner(self) -> tuple[int, int] | None:
        if os.geteuid() != 0 or self._user is not None:
            return None
        status = os.stat(self._base)
        return status.st_uid, status.st_gid

    @contextmanager
    def _naming(self, key: str) -> Generator[None, None, None]:
        """Turn what the file system says about a name into a :class:`StoreError`; the rest passes."""
        what = f"file {key!r} in {self._named}" if key else f"folder {self._named}"
        try:
            yield
        except FileNotFoundError:
            raise StoreError("not_found", f"There is no {what}.") from None
        except PermissionError:
            raise StoreError("denied", f"The {what} may not be used by this process.") from None
        except (NotADirectoryError, IsADirectoryError, NotAFile):
            raise StoreError("invalid", f"The {what} is not a plain file in plain folders.") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                raise StoreError("invalid", f"The {what} has too long a name or is a symbolic link.") from None
            raise
