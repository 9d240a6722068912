"""What is fuzzed: each target takes any bytes, and raises only where something is wrong.

This module is imported under atheris's instrumentation (:mod:`bench.fuzzing.one`), and by the tests, which feed the
seeds and what was found once to the same functions without it.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec
import yaml
from fastapi.exceptions import RequestValidationError

from runyard.api.bodies import read_submission
from runyard.api.files import byte_range
from runyard.api.node_ranges import pieces_of
from runyard.core.errors import ManifestError, RunyardError
from runyard.core.resources import DEFAULT_CONFIGURATIONS
from runyard.manifest import parse, parse_duration
from runyard.manifest.nodes import compose
from runyard.node.unpack import CodeInvalid, Limits, unpack
from runyard.wire import facts, objects

ZIP_LIMITS: Final = Limits(entries=200, size=1 << 20)
_SLOW_LOADER: Final = 4000


class Wrong(AssertionError):
    """An input had an effect that no input may have."""


def manifest(data: bytes) -> None:
    """A manifest's text: a specification with a command, or problems that each have a sentence."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = parse(text, configurations=DEFAULT_CONFIGURATIONS)
    except ManifestError as error:
        if not error.problems or not all(each.message for each in error.problems):
            raise Wrong("refused without a sentence") from error
    else:
        if not found.spec.command.strip():
            raise Wrong("accepted without a command")
        hidden = [each for one in found.secrets.values() for each in (one.secret_access_key,) if len(each) > 8]
        if any(each in repr(found.spec) for each in hidden):
            raise Wrong("a secret stands in the specification")
    if len(text) <= _SLOW_LOADER:
        with suppress(ManifestError):
            compose(text, loader=yaml.SafeLoader)  # in Python, so that the fuzzer sees the way through the grammar


def archive(data: bytes) -> None:
    """A zip: unpacked below its folder within the limits, or refused; nothing beside the folder in either case."""
    place = tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        try:
            unpack(io.BytesIO(data), os.path.join(place, "a", "b"), ZIP_LIMITS)
        except CodeInvalid as refused:
            if not str(refused):
                raise Wrong("refused without a sentence") from refused
        _look(place)
    finally:
        shutil.rmtree(place)


def _look(place: str) -> None:
    """Raises :class:`Wrong` for anything but plain files and folders below ``a/b``, and for more than the limits."""
    found = {folder: os.listdir(os.path.join(place, folder)) for folder in os.listdir(place)}
    if found not in ({}, {"a": []}, {"a": ["b"]}):
        raise Wrong(f"beside the folder: {found}")
    size = 0
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if os.path.islink(path) or not (os.path.isdir(path) or os.path.isfile(path)):
                raise Wrong(f"{path!r} is no plain file or folder")
            if os.path.isfile(path):
                size += os.stat(path).st_size
                if os.stat(path).st_mode & 0o7000:
                    raise Wrong(f"{path!r} has a mode of power")
    if size > ZIP_LIMITS.size + (1 << 18):
        raise Wrong(f"{size} bytes came out")


def words(data: bytes) -> None:
    """The other readers of strangers' bytes: submissions, facts, ranges, objects, headers, durations."""
    with suppress(RequestValidationError):
        _, parameters = read_submission(data)
        list(parameters)
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        facts.decode_facts(data)
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        facts.decode_hello(data)
    with suppress(RunyardError):
        pieces_of(data)
    with suppress(objects.Malformed):
        for _ in objects.decode(data):
            pass
    text = data.decode("latin-1")
    with suppress(ValueError):
        found = byte_range(text, 1000)
        if found is not None and not (0 <= found[0] < 1000 and 0 < found[1] <= 1000 - found[0]):
            raise Wrong(f"a range beyond the file: {found}")
    with suppress(RunyardError):
        parse_duration(text)


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {"manifest": manifest, "zip": archive, "words": words}
