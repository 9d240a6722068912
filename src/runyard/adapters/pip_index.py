"""The package index, asked by pip, which knows the operator's configuration.

pip is asked to install a version that cannot exist, without doing it: it answers with all that there are *for this
interpreter, as wheels*. (``pip index versions`` lists those without a wheel too.)
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from runyard.core.versions import sorted_versions

TIMEOUT_S = 20.0
KEPT_S = 900.0
"""An answer is good for so long."""
FAILED_KEPT_S = 30.0
"""What could not be asked is not asked again for so long."""
MOST_KNOWN = 1000
"""Answers that are remembered: anybody may ask for any name."""

_IMPATIENT = ("--retries", "1", "--timeout", "8")
"""Somebody waits for the answer; the operator's own words come behind these and win."""
_IMPOSSIBLE = "0.0.0.dev0"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_THERE_ARE = re.compile(r"\(from versions: ([^)]*)\)")
_TROUBLE = re.compile(r"Retrying|Could not fetch URL|Temporary failure|timed out|SSLError|ProxyError")


class PipIndex:
    """Asks the index that pip is configured for, with the operator's further words for pip. From any thread; many that
    ask for the same wait for one answer. ``source_builds``: what has no wheel can be had too."""

    def __init__(
        self, options: Sequence[str] = (), *, source_builds: bool = False, timeout_s: float = TIMEOUT_S
    ) -> None:
        wheels = () if source_builds else ("--only-binary", ":all:")
        self._words = ("install", "--dry-run", "--no-deps", "--no-input", "--no-color", *_IMPATIENT, *wheels, *options)
        self._timeout_s = timeout_s
        self._known: OrderedDict[str, tuple[float, tuple[str, ...] | None]] = OrderedDict()
        self._asking: dict[str, tuple[threading.Lock, int]] = {}
        """What is being asked for, and how many wait for it."""
        self._lock = threading.Lock()

    def versions(self, distribution: str) -> tuple[str, ...] | None:
        """See :class:`runyard.ports.catalog.Catalog`."""
        with self._turn(distribution):
            with self._lock:
                until, known = self._known.get(distribution, (0.0, None))
            if time.monotonic() < until:
                return known
            found = self._ask(distribution)
            with self._lock:
                self._known[distribution] = (time.monotonic() + (FAILED_KEPT_S if found is None else KEPT_S), found)
                self._known.move_to_end(distribution)
                while len(self._known) > MOST_KNOWN:
                    self._known.popitem(last=False)
            return found

    @contextmanager
    def _turn(self, distribution: str) -> Generator[None]:
        with self._lock:
            asking, count = self._asking.get(distribution, (threading.Lock(), 0))
            self._asking[distribution] = (asking, count + 1)
        try:
            with asking:
                yield
        finally:
            with self._lock:
                asking, count = self._asking.pop(distribution)
                if count > 1:
                    self._asking[distribution] = (asking, count - 1)

    def _ask(self, distribution: str) -> tuple[str, ...] | None:
        if _NAME.fullmatch(distribution) is None:
            raise ValueError(f"{distribution!r} is no name of a distribution")
        if importlib.util.find_spec("pip") is None:
            return None
        # Constraints of the operator's would turn the answer into one about a conflict.
        surroundings = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CONSTRAINT": os.devnull}
        try:
            # In a folder of its own: Python takes modules from where it is started.
            with tempfile.TemporaryDirectory(prefix="runyard-index-") as folder:
                done = subprocess.run(
                    [sys.executable, "-I", "-m", "pip", *self._words, f"{distribution}=={_IMPOSSIBLE}"],
                    cwd=folder,
                    env=surroundings,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=self._timeout_s,
                    check=False,
                )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return read_versions(done.stderr)


def read_versions(text: str) -> tuple[str, ...] | None:
    """The versions that pip lists in its refusal, newest first, each once, without marks of local builds (``+cpu``);
    none when the index has none; None when it could not be asked."""
    match = _THERE_ARE.search(text)
    if match is None or (_TROUBLE.search(text) and match[1] == "none"):
        return None
    found = {version.strip().partition("+")[0] for version in match[1].split(",")} - {"none", ""}
    return tuple(sorted_versions(found))
