"""pip, run for an environment that is being built: its words go to the run's log, and say what its failure means."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runyard.core.reasons import Reason
from runyard.node.cache import Cache, remove_tree
from runyard.node.environments.faults import EnvironmentFault
from runyard.node.evidence import Evidence

LIMIT_S = 2 * 3600.0
"""No build takes longer."""
KEPT_LINES = 400
"""Last lines of pip's that are looked at for the cause of a failure."""

QUIETLY = ("--no-input", "--no-color", "--progress-bar", "off", "--disable-pip-version-check")

Phase = Callable[[str], None]

_NETWORK = re.compile(
    r"Retrying \(|NewConnectionError|ConnectTimeout|ReadTimeout|Read timed out|Temporary failure in name resolution|"
    r"Connection (?:refused|reset|aborted|broken)|ConnectionError|ProxyError|SSLError|Max retries exceeded|"
    r"IncompleteRead|(?:429|50\d) (?:Client|Server) Error"
)
_VERSIONS = re.compile(r"\(from versions: ([^)]*)\)")
_CAUSED = "The conflict is caused by:"
_DISK = re.compile(r"No space left on device|Disk quota exceeded|Read-only file system")
_COLLECTING = re.compile(r"\s*Collecting (\S+)")
_DOWNLOADING = re.compile(r"\s*Downloading (?:\S*/)?(\S+?)(?:\.whl|\.tar\.gz)?(?:\.metadata)? \(([^)]*)\)")
_INSTALLING = re.compile(r"\s*Installing collected packages: (.*)")
_FROM_OUTSIDE = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT", "PIP_REQUIREMENT",
                 "PIP_EDITABLE", "PIP_PYTHON", "VIRTUAL_ENV")  # fmt: skip


@dataclass(frozen=True, slots=True)
class PipSettings:
    """What the operator says. ``options``: further words for pip, such as ``--index-url`` and its address;
    ``source_builds``: packages without a wheel are built, by running their code as the node's user; ``pythons``: globs
    of the environments that runs may name."""

    options: tuple[str, ...] = ()
    source_builds: bool = False
    pythons: tuple[str, ...] = ("*",)


PLAIN = PipSettings()
"""What pip is configured for, and nothing else."""


class Pip:
    """Runs pip of the node's own interpreter for other environments."""

    def __init__(self, cache: Cache, root: str, settings: PipSettings) -> None:
        self._cache = cache
        self._root = root
        self._settings = settings
        self._lock = threading.Lock()

    def install(
        self,
        environment: str,
        words: Sequence[str],
        evidence: Evidence,
        phase: Phase,
        *,
        hold: int,
        beneath: Sequence[str] = (),
    ) -> None:
        """Install into a virtual environment whose packages nobody has run yet. ``beneath``: folders of packages that
        count as there already. ``hold``: a descriptor that pip keeps open as long as it lives.

        Raises :class:`EnvironmentFault`.
        """
        wheels = [] if self._settings.source_builds else ["--only-binary", ":all:"]
        argv = [*self._command(evidence), "--python", environment + "/bin/python", "install", *QUIETLY, *wheels,
                *self._settings.options, *words]  # fmt: skip
        temporary = self._cache.temporary()
        variables = surroundings(temporary, beneath)
        try:
            code, lines = run_logged(argv, temporary, variables, evidence, phase, hold)
        finally:
            remove_tree(temporary)
        if code != 0:
            raise fault_of(lines, source_builds=self._settings.source_builds)

    def make_venv(self, path: str, evidence: Evidence, hold: int) -> None:
        """Make an empty virtual environment of the node's own interpreter. Raises :class:`EnvironmentFault`."""
        temporary = self._cache.temporary()
        argv = [sys.executable, "-I", "-m", "venv", "--without-pip", path]
        try:
            code, lines = run_logged(argv, temporary, surroundings(temporary), evidence, _quiet, hold)
        finally:
            remove_tree(temporary)
        if code != 0:
            words = lines[-1] if lines else f"it ended with exit code {code}"
            raise EnvironmentFault(f"A virtual environment could not be made: {words}", _reason(lines))

    def _command(self, evidence: Evidence) -> list[str]:
        """pip of the node's interpreter, else one that is fetched from the interpreter's own files, once."""
        if importlib.util.find_spec("pip") is not None:
            return [sys.executable, "-I", "-m", "pip"]
        python = self._root + "/pip/bin/python"
        with self._lock:
            if not os.path.exists(self._root + "/pip/ready"):
                remove_tree(self._root + "/pip")
                argv = [sys.executable, "-I", "-m", "venv", self._root + "/pip"]
                code, _ = run_logged(argv, self._root, surroundings(self._root), evidence, _quiet, None)
                if code != 0:
                    raise EnvironmentFault(
                        f"Environments cannot be built on this machine: {sys.executable} has neither pip nor "
                        "ensurepip. The operator installs one: `python -m pip` must work there."
                    )
                with open(self._root + "/pip/ready", "wb"):
                    pass  # written last
        return [python, "-I", "-m", "pip"]


def surroundings(temporary: str, beneath: Sequence[str] = ()) -> dict[str, str]:
    """The variables of pip: the node's, which have the operator's configuration, and nothing that leads astray."""
    kept = {name: value for name, value in os.environ.items() if name not in _FROM_OUTSIDE}
    # Paths named so are searched for packages, and the .pth files in them are not executed.
    found = {"PYTHONPATH": ":".join(beneath)} if beneath else {}
    return kept | {"TMPDIR": temporary, "PYTHONNOUSERSITE": "1", "LC_ALL": "C.UTF-8"} | found


def run_logged(
    argv: Sequence[str],
    folder: str,
    variables: Mapping[str, str],
    evidence: Evidence,
    phase: Phase,
    hold: int | None,
) -> tuple[int, list[str]]:
    """Run a program to its end; every line goes to the evidence. Returns its exit code and its last lines."""
    lines: list[str] = []
    with subprocess.Popen(
        argv,
        cwd=folder,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=() if hold is None else (hold,),
        start_new_session=True,
        umask=0o022,  # programs of other user ids read it
    ) as process:
        limit = threading.Timer(LIMIT_S, lambda: os.killpg(process.pid, signal.SIGKILL))
        limit.daemon = True
        limit.start()
        try:
            assert process.stdout is not None
            for raw in process.stdout:
                line = raw.decode("utf-8", "replace").rstrip()
                if line:
                    evidence.note(f"  {line}")
                    lines = [*lines[-KEPT_LINES:], line]
                    tell_phase(line, phase)
        finally:
            limit.cancel()
    return process.returncode, lines


def tell_phase(line: str, phase: Phase) -> None:
    """A few words on what pip is doing, from one of its lines."""
    if match := _DOWNLOADING.match(line):
        phase(f"downloading {match[1]} ({match[2]})")
    elif match := _COLLECTING.match(line):
        phase(f"looking for {match[1]}")
    elif match := _INSTALLING.match(line):
        count = match[1].count(",") + 1
        phase(f"installing {count} packages" if count > 3 else f"installing {match[1]}")


def _quiet(_words: str) -> None:
    """Nothing worth telling happens."""


def fault_of(lines: Sequence[str], *, source_builds: bool) -> EnvironmentFault:
    """What a failed pip means, in its own words."""
    reason = _reason(lines)
    errors = [line.partition("ERROR:")[2].strip() for line in lines if line.lstrip().startswith("ERROR:")]
    telling = [line for line in errors if not line.startswith(("ResolutionImpossible", "Could not find a version"))]
    words = (telling or errors or [lines[-1] if lines else "it gave no reason"])[-1]
    if reason is Reason.staging_failed:
        return EnvironmentFault(f"The packages could not be fetched or written now: {words}", reason)
    return EnvironmentFault(f"pip: {_ended(words)}{_there_are(lines, source_builds)}{_conflict(lines)}")


def _there_are(lines: Sequence[str], source_builds: bool) -> str:
    """What the index has instead of what it does not have."""
    match = next((match for line in lines if (match := _VERSIONS.search(line))), None)
    if match is None:
        return ""
    kind = "" if source_builds else " as wheels, the only kind that is installed here"
    if match[1] == "none":
        return f" The index has none{kind}."
    versions = match[1].split(", ")
    return f" The index has {versions[0]} to {versions[-1]}{kind}." if len(versions) > 1 else ""


def _conflict(lines: Sequence[str]) -> str:
    """The lines in which pip tells who wants what."""
    if _CAUSED not in lines:
        return ""
    found = [line.strip() for line in lines[lines.index(_CAUSED) + 1 :] if line.startswith("    ")]
    return " " + "; ".join(found[:6]) + "."


def _reason(lines: Sequence[str]) -> Reason:
    """Trouble of network or disk may pass; everything else is what was asked for."""
    passing = any(_NETWORK.search(line) or _DISK.search(line) for line in lines)
    return Reason.staging_failed if passing else Reason.environment_failed


def _ended(words: str) -> str:
    short = words if len(words) <= 300 else words[:297] + "..."
    return short if short.endswith((".", "!", "?")) else short + "."
