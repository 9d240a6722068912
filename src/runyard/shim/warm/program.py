"""A fork of a warm parent becomes the program: what a fresh interpreter would have at its first line, it has.

Where that cannot be had by a fork, the same process executes a fresh interpreter instead; see :func:`obstacle`.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import SourceFileLoader

from runyard.shim.warm import ending, traps
from runyard.shim.warm.ground import SITE
from runyard.shim.warm.variables import import_time_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType
    from typing import Any, NoReturn

    from runyard.shim.init import Birth
    from runyard.shim.lean import Record
    from runyard.shim.warm.ground import Ground

PROGRAMS_OF_ITS_OWN = (".py", ".so", ".pyc")


class Fresh(Exception):
    """Why only a fresh interpreter can run the program."""


class Program:
    """What there is to run, and how it failed."""

    __slots__ = ("arguments", "end", "entry", "failure", "ground")

    def __init__(self, code: CodeType | None, module: str | None, ground: Ground) -> None:
        self.failure: BaseException | None = None
        self.ground = ground
        """Held to the end: to let go of what fills holes would be to write to pages all over the parent's memory."""
        self.end = ending.End(ground.names, ground.last)
        if code is not None:
            self.entry: Callable[..., object] = exec
            self.arguments: tuple[Any, ...] = (code, sys.modules["__main__"].__dict__)
        else:
            import runpy  # noqa: PLC0415 - a script does not need it

            found: Any = runpy
            self.entry, self.arguments = found._run_module_as_main, (module,)

    def finish(self) -> NoReturn:
        """End as an interpreter does; ends the process."""
        end = self.end
        failure, self.failure, self.arguments = self.failure, None, ()
        end.tell(failure)
        failure = None
        end.finish()


class Forked(BaseException):
    """Out of all calls that led to the fork: the process is the program from here on."""

    def __init__(self, program: Program) -> None:
        self.program = program


def become(birth: Birth, ground: Ground, order: Record, log: int) -> NoReturn:
    """Make the calling process the program. Raises :class:`Forked`, or ``OSError``."""
    for target in (1, 2):
        os.dup2(log, target)
    os.close(log)
    os.setsid()
    os.umask(0o022)
    if order.get("nice"):
        os.nice(order["nice"])
    birth.stage = "cwd"
    os.chdir(order["cwd"])
    birth.stage = "exec"
    program, env = order["program"], order["env"]
    executable = _executable(env)
    typed = [os.path.basename(executable), *_named(program), *program["args"]]
    try:
        code, first, search = _prepare(ground, program, env, executable, typed)
    except Fresh as reason:
        birth.leave()
        birth.anew(str(reason))
        os.execve(executable, typed, env)
    birth.leave()
    forked = Forked(Program(code, program.get("module"), ground))
    birth.begun()  # before anything of the user's: from here on nothing that it could write to is believed
    _customize(search)
    sys.path.insert(0, first)
    raise forked


def _executable(env: dict[str, str]) -> str:
    """The interpreter by the name under which the command calls it, which bash leaves in the variable ``_``."""
    called = env.get("_", "")
    return called if os.path.dirname(called) == os.path.dirname(sys.executable) else sys.executable


def _named(program: dict[str, Any]) -> list[str]:
    return [program["script"]] if program.get("module") is None else ["-m", program["module"]]


def _prepare(
    ground: Ground, program: dict[str, Any], env: dict[str, str], executable: str, typed: list[str]
) -> tuple[CodeType | None, str, list[str]]:
    """Put right what a fork has wrong, running nothing of the user's; returns the script's code, the folder that is
    searched first, and those of ``PYTHONPATH``. Raises :class:`Fresh`."""
    script: str | None = program.get("script")
    first = os.path.dirname(os.path.realpath(script)) if script is not None else os.getcwd()
    search = [os.path.abspath(entry) for entry in env.get("PYTHONPATH", "").split(":") if entry]
    reason = obstacle(ground, env, [first, *search], program.get("module"))
    if reason:
        raise Fresh(reason)
    file = script
    if script is not None and not script.startswith("/") and sys.version_info >= (3, 9):
        file = f"{os.getcwd()}/{script}"
    code = None if file is None else _compiled(file)
    sys.executable = executable
    sys.argv[:] = [script if script is not None else "-m", *typed[len(_named(program)) + 1 :]]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = typed
    sys.path[:] = list(dict.fromkeys(search + ground.base))
    traps.have_forked(ground)
    traps.take_environment(ground, env)
    traps.put_right(ground, env)
    _fresh_main(file)
    return code, first, search


def _customize(search: list[str]) -> None:
    """Import what an interpreter imports by itself when it starts, before the program's own folder is searched."""
    if not search or "site" not in sys.modules:
        return
    site: Any = sys.modules["site"]
    for name, execute in {SITE[0]: site.execsitecustomize, SITE[1]: site.execusercustomize}.items():
        if name not in sys.modules and any(os.path.exists(f"{entry}/{name}.py") for entry in search):
            execute()


def obstacle(ground: Ground, env: dict[str, str], folders: list[str], module: str | None) -> str:
    """What a fork cannot make right: a variable or a file that an interpreter would have found before its imports, or
    a module that is imported already. Empty: nothing."""
    own = ground.env
    changed = [name for name, value in env.items() if own.get(name) != value and name not in traps.PUT_RIGHT]
    early = import_time_variables(changed)
    if not early:
        early = sorted(ground.read.intersection(changed) - traps.KEPT_BY_NONE)
    if early:
        return f"{early[0]} is read when an interpreter or a library starts"
    if ground.pools is not None and not _is_count(env.get("OMP_NUM_THREADS", "")):
        return "OMP_NUM_THREADS is no number"
    if module in ground.names:
        return f"{module} is imported already"
    for folder in folders:
        shadows = _shadows(ground, folder)
        if shadows:
            return f"{folder} has a {shadows} of its own"
    return ""


def _is_count(text: str) -> bool:
    return text.isdigit() and int(text) > 0


def _shadows(ground: Ground, folder: str) -> str:
    """A file or package in a folder that has the name of one which is imported already."""
    if folder in ground.base or folder in ground.search:
        return ""
    try:
        names = os.listdir(folder)
    except OSError:
        return ""
    for name in names:
        top, _, _ = name.partition(".")
        if top in ground.tops and (
            name.endswith(PROGRAMS_OF_ITS_OWN) or os.path.exists(f"{folder}/{name}/__init__.py")
        ):
            return name
    return ""


def _compiled(file: str) -> CodeType:
    """The code of a script. What is wrong with it a fresh interpreter says best: raises :class:`Fresh`."""
    try:
        with open(file, "rb", buffering=0) as source:
            text = source.read()
        return compile(text, file, "exec", 0, True)
    except (OSError, SyntaxError, ValueError) as error:
        raise Fresh(f"the script cannot be compiled ({type(error).__name__})") from None


def _fresh_main(file: str | None) -> None:
    """A module ``__main__`` as an interpreter makes it."""
    module: type[ModuleType] = type(sys)  # pyright: ignore[reportUnknownVariableType] - a module to the checker
    main = module("__main__")
    values: dict[str, Any] = main.__dict__
    if sys.version_info < (3, 14):
        values["__annotations__"] = {}
    values["__builtins__"] = sys.modules["builtins"]
    values["__loader__"] = sys.modules["_frozen_importlib"].BuiltinImporter
    if file is not None:
        values["__loader__"] = SourceFileLoader("__main__", file)
        values["__file__"] = file
        values["__cached__"] = None
    sys.modules["__main__"] = main
