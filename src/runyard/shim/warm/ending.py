"""The end of a forked program, as the interpreter ends one (Python/pylifecycle.c, Py_FinalizeEx), but for taking apart
what was imported before the fork: that is left to the kernel."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from _io import BufferedRandom, BufferedWriter, TextIOWrapper
from _weakref import ref

from runyard.shim.lean import libc, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, NoReturn

HERE = __file__.rpartition("/")[0] + "/"
FLUSH_FAILED = 120
"""Exit code of an interpreter that could not write out the last of its output."""


class End:
    """How the program ends: its exit code, and whether it was interrupted from the keyboard."""

    __slots__ = ("before", "code", "interrupted", "last", "replaced")

    def __init__(self, before: frozenset[str], last: str) -> None:
        self.before = before
        """The modules that were imported before the fork."""
        self.last = last
        """The one that came last among them."""
        self.code = 0
        self.interrupted = False
        self.replaced: tuple[object, ...] = ()
        """What stood for stdout and stderr; it has been flushed, and is never destroyed."""

    def tell(self, failure: BaseException | None) -> None:
        """Print what the interpreter prints of the exception that ended the program."""
        if failure is None:
            return
        if isinstance(failure, SystemExit):
            self._exit(failure)
            return
        self.code = 1
        self.interrupted = type(failure) is KeyboardInterrupt
        kind, trace = type(failure), _own_frames_gone(failure.__traceback__)
        failure.__traceback__ = trace
        sys.last_type, sys.last_value, sys.last_traceback = kind, failure, trace
        if sys.version_info >= (3, 12):
            sys.last_exc = failure
        try:
            sys.excepthook(kind, failure, trace)
        except SystemExit as error:
            self._exit(error)
        except BaseException as error:
            error.__traceback__ = _own_frames_gone(error.__traceback__)
            error.__context__ = None
            _say("Error in sys.excepthook:\n")
            sys.__excepthook__(type(error), error, error.__traceback__)
            _say("\nOriginal exception was:\n")
            sys.__excepthook__(kind, failure, trace)

    def _exit(self, failure: SystemExit) -> None:
        value: Any = failure.code
        if value is None:
            self.code = 0
        elif isinstance(value, int):
            self.code = value & 0xFF if -(1 << 63) <= value < 1 << 63 else 0xFF
        else:
            self.code = 1
            _say(f"{value}\n")

    def finish(self) -> NoReturn:
        """Wait for threads, do what was registered for the end, flush, let go of the program's own; end the process."""
        threading: Any = sys.modules.get("threading")
        if threading is not None:
            _attempt(threading._shutdown)
        exits: Any = atexit
        try:
            exits._run_exitfuncs()
        except BaseException:
            pass  # Pythons before 3.10 raise the last of what they have told already
        flushed = _flush_streams()
        self.replaced = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        if threading is not None and threading.active_count() > 1:
            # Threads that nobody waits for still run, unlike in an interpreter that ends: what they use stays.
            _flush_files()
        else:
            _let_go(self.before, self.last)
        flushed = _flush_streams() and flushed
        libc("fflush", None)
        if self.interrupted:
            signals.signal(signals.SIGINT, signals.SIG_DFL)
            os.kill(os.getpid(), signals.SIGINT)
        os._exit(self.code if flushed else FLUSH_FAILED)


def _attempt(function: Any) -> None:
    try:
        function()
    except BaseException as error:
        _unraisable(function, error)


def _unraisable(source: object, error: BaseException) -> None:
    _say(f"Exception ignored in: {source!r}\n")
    error.__traceback__ = _own_frames_gone(error.__traceback__)
    error.__context__ = None
    sys.__excepthook__(type(error), error, error.__traceback__)


def _say(text: str) -> None:
    try:
        sys.stderr.write(text)
    except Exception:
        pass  # it was closed or replaced by something odd: the exit code still says it


def _own_frames_gone(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(HERE):
        trace = trace.tb_next
    return trace


def _flush_streams() -> bool:
    """Flush what stands for stdout and stderr; says whether that worked."""
    worked = True
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name, None)
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        except BaseException as error:
            worked = False
            if name == "stdout":
                _unraisable(stream, error)
    return worked


def _flush_files() -> None:
    """Write out what is left in buffers of files that the program has opened."""
    gc.collect()
    for item in gc.get_objects():
        if isinstance(item, (BufferedWriter, BufferedRandom, TextIOWrapper)):
            try:
                item.flush()
            except (OSError, ValueError):
                pass  # closed meanwhile, or its disk is full: an interpreter says nothing either


def _let_go(before: frozenset[str], last: str) -> None:
    """Destroy what the program has made, as far as that can be reached: files get their last bytes, destructors run.
    Modules go as in Python/pylifecycle.c, finalize_modules, those that were there before the fork left out."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            setattr(sys, name, None)
    modules: Any = sys.modules
    kept: list[Any] = []
    names = ["__main__"]
    for name in reversed(modules):  # in the order of their imports; those before the fork are too many to be touched
        if name == last:
            break
        names.append(name)
    for name in reversed(names):
        if name not in before:
            module = modules[name]
            modules[name] = None
            if type(module) is type(sys):
                kept.append(ref(module))
    module = None
    _flush_files()
    for reference in reversed(kept):
        module = reference()
        if module is not None:
            _clear(module.__dict__)
    module = None
    gc.collect()


def _clear(names: dict[str, Any]) -> None:
    """As Objects/moduleobject.c, _PyModule_ClearDict: names with one underscore first, builtins never."""
    for name in list(names):
        if name.startswith("_") and not name.startswith("__"):
            names[name] = None
    for name in list(names):
        if name != "__builtins__":
            names[name] = None
