"""Where things lie on a node's disk: every path has its one place here."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from runyard.core.ids import is_run_id
from runyard.stores.apart import lay_apart

PASSABLE = 0o711
"""Mode of folders that a program's user passes through without being able to list them."""

Key = tuple[str, int, int]
"""A run, the number of its attempt, and the number of the learner (from 1)."""

Record = Mapping[str, Any]
"""A JSON object as read from a folder."""


def say(sentence: str) -> None:
    """A line for the operator, on stderr."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f"{stamp} {sentence}\n")
    sys.stderr.flush()


class Grumble:
    """Says what is wrong, once for as long as it is the same."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, sentence: str) -> None:
        """It is wrong now."""
        if sentence != self._last:
            self._last = sentence
            say(sentence)

    def reset(self) -> None:
        """All is well again."""
        self._last = ""


def make_folder(path: str, mode: int) -> None:
    """Make a folder, or give the one that is there this mode, whatever the umask."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        pass
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)
    os.chmod(path, mode)


def read_record(path: str) -> Record | None:
    """The JSON object in a file; None when there is no such file, or something else in it."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return None


def write_whole(path: str, content: bytes, *, lasting: bool = False) -> None:
    """Write a file whole or not at all; ``lasting``: it is on the disk when this returns."""
    temporary = f"{path}.{threading.get_native_id()}.new"  # several launches at once may write the same record
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        if lasting:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, path)
    if lasting:
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """The folder D of one learner of an attempt. All of it is the node's, but ``own``, which is the program's.

    Learner 1's is the attempt's own; those of the others lie in it.
    """

    run: str
    number: int
    path: str
    learner: int = 1

    @property
    def key(self) -> Key:
        """What tells it from every other."""
        return self.run, self.number, self.learner

    @property
    def name(self) -> str:
        """What the operator reads: ``training-.../1``, and the learner where that is not the first."""
        return f"{self.run}/{self.number}" + (f"/learner-{self.learner}" if self.learner > 1 else "")

    @property
    def workdir_key(self) -> str:
        """Where what is kept of its working directory goes, below the run in the results bucket."""
        return "workdir/" if self.learner == 1 else f"{LEARNER}{self.learner}/workdir/"

    @property
    def lock(self) -> str:
        """Held by the shim as long as it lives."""
        return self.path + "/lock"

    @property
    def socket(self) -> str:
        """The shim's control socket."""
        return self.path + "/control.sock"

    @property
    def started(self) -> str:
        """Written by the shim before the program begins."""
        return self.path + "/started.json"

    @property
    def exit(self) -> str:
        """Written last, by the shim, or by the node where no shim ever was."""
        return self.path + "/exit.json"

    @property
    def order(self) -> str:
        """The launch order without its secrets."""
        return self.path + "/order.json"

    @property
    def closing(self) -> str:
        """The node's closing lines of the log."""
        return self.path + "/closing.txt"

    @property
    def log_rest(self) -> str:
        """What a log over its limit becomes from its cut on, decided once."""
        return self.path + "/log-rest.json"

    @property
    def stopped_for(self) -> str:
        """Why the node itself ended the program, a line of the log to be."""
        return self.path + "/stopped-for.txt"

    @property
    def gpu_error(self) -> str:
        """A hardware error that a GPU of the program has reported while it ran (:mod:`runyard.node.gpus.guarding`)."""
        return self.path + "/gpu-error.json"

    @property
    def idle(self) -> str:
        """What was seen of a program of which nothing was seen for a while (:mod:`runyard.node.idling`)."""
        return self.path + "/idle.json"

    @property
    def after(self) -> str:
        """Whose slots the attempt took over (:mod:`runyard.node.grants`)."""
        return self.path + "/after"

    @property
    def prepared(self) -> str:
        """Its time of change parts what the node put into the working directory from what the program did."""
        return self.path + "/prepared"

    @property
    def spool(self) -> str:
        """The node's own record of the program's metrics (:mod:`runyard.node.metrics.spool`)."""
        return self.path + "/metrics.spool"

    @property
    def recorded(self) -> str:
        """``RUNYARD_METRICS``, which ``runyard.log`` writes to."""
        return self.path + "/own/state/metrics.jsonl"

    @property
    def shim_errors(self) -> str:
        """What the shim said on stderr: nothing, when all is well."""
        return self.path + "/shim-errors.txt"

    def log(self, stream: str) -> str:
        """The file behind a log stream."""
        return self.path + "/" + STREAM_FILES[stream]

    @property
    def own(self) -> str:
        """What the program may write is below it."""
        return self.path + "/own"

    @property
    def work(self) -> str:
        """``MODEL_DIR``, the working directory."""
        return self.path + "/own/work"

    @property
    def result(self) -> str:
        """``RESULT_DIR``, the same for all learners."""
        return (self.path if self.learner == 1 else os.path.dirname(self.path)) + "/own/result"

    @property
    def logs(self) -> str:
        """``LOG_DIR``."""
        return self.path + "/own/logs"

    @property
    def state(self) -> str:
        """``JOB_STATE_DIR``."""
        return self.path + "/own/state"


LEARNER = "learner-"
"""With a learner's number: its folder in the results bucket, and (from the second on) in the attempt's folder."""

STREAM_FILES = {
    "training-log": "training-log.txt",
    "load-data": "load-data.log",
    "load-model": "load-model.log",
}
"""The log streams of a learner, and the names of their files, here and in the results bucket."""


@dataclass(frozen=True, slots=True)
class Home:
    """A node's folder."""

    root: str

    @property
    def code(self) -> str:
        """Unpacked model definitions, by the hash of their zip."""
        return self.root + "/cache/code"

    @property
    def data(self) -> str:
        """Views of data, by the hash of where they came from and what was listed there."""
        return self.root + "/cache/data"

    @property
    def environments(self) -> str:
        """Environments that were built here, by the hash of what they were asked to hold."""
        return self.root + "/cache/env"

    @property
    def temporary(self) -> str:
        """What is not whole yet; emptied at every start."""
        return self.root + "/cache/tmp"

    @property
    def specs(self) -> str:
        """What is ready for which spec, and the evidence of how it came."""
        return self.root + "/specs"

    @property
    def runs(self) -> str:
        """A folder a run."""
        return self.root + "/runs"

    def run(self, run: str) -> str:
        """The folder of a run. Raises ``ValueError`` for what is no run id."""
        name, _, number = run.partition("_")
        if not is_run_id(name) or (number and not number.isdigit()):
            raise ValueError(f"{run!r} is not a training-run id")
        return f"{self.runs}/{run}"

    def checkpoints(self, run: str) -> str:
        """``CHECKPOINT_DIR``: kept over the attempts of a run."""
        return self.run(run) + "/checkpoints"

    def attempt(self, run: str, number: int, learner: int = 1) -> AttemptFolder:
        """The folder of a learner of an attempt, there or not."""
        path = f"{self.run(run)}/attempts/{number}"
        return AttemptFolder(run, number, path if learner == 1 else f"{path}/{LEARNER}{learner}", learner)

    def learners(self, run: str, number: int) -> list[AttemptFolder]:
        """The folders of an attempt's learners: the first, there or not, and those of the others that are there."""
        first = self.attempt(run, number)
        try:
            names = os.listdir(first.path)
        except FileNotFoundError:
            names = []
        numbers = (name.removeprefix(LEARNER) for name in names if name.startswith(LEARNER))
        others = sorted(int(text) for text in numbers if text.isdigit() and int(text) > 1)
        return [first, *(self.attempt(run, number, learner) for learner in others)]

    def run_ids(self) -> list[str]:
        """The runs that have a folder."""
        return sorted(name for name in os.listdir(self.runs) if name.startswith("training-"))

    def attempts(self, run: str) -> list[AttemptFolder]:
        """The attempts of a run that have a folder, oldest first: of each the folder of its first learner."""
        try:
            names = os.listdir(self.run(run) + "/attempts")
        except FileNotFoundError:
            return []
        return [self.attempt(run, number) for number in sorted(int(name) for name in names if name.isdigit())]

    def all_attempts(self) -> Iterator[AttemptFolder]:
        """Every attempt that has a folder: the folder of its first learner."""
        for run in self.run_ids():
            yield from self.attempts(run)

    @property
    def no_data(self) -> str:
        """An empty folder: ``DATA_DIR`` of runs that have no data."""
        return self.root + "/no-data"

    @property
    def group(self) -> str:
        """The control group above those of this home's attempts."""
        return _group_of(self.root)


@cache
def _group_of(root: str) -> str:
    return "runyard/" + hashlib.sha256(os.path.realpath(root).encode()).hexdigest()[:12]


def open_home(root: str) -> Home:
    """Make a node's folder and hold it for as long as this process lives.

    Raises ``BlockingIOError`` when another node has it.
    """
    home = Home(os.path.abspath(root))
    for path in (home.root, home.root + "/cache", home.code, home.data, home.environments, home.runs):
        make_folder(path, PASSABLE)
    for path in (home.specs, home.temporary):
        make_folder(path, 0o700)
    make_folder(home.no_data, 0o555)
    lay_apart(home.runs)
    descriptor = os.open(home.root + "/node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return home
