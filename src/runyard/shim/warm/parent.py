"""Entry of the warm parent: ``python .../parent.py --fd N``, started by the shim above it with the interpreter of an
environment, Python 3.8 or later; docs/rooms/shim.md has the protocol.

``runyard`` need not be importable there: the files beside this one are found as shim.py finds them, under names that
are taken away again before anything of the user's runs.
"""

from __future__ import annotations

import sys

STARTED = frozenset(sys.modules)
"""What a bare interpreter of this environment has imported."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from runyard.shim.warm.program import Program


def start(arguments: list[str]) -> Program:
    """Find the files beside this one, and fork programs until the shim hangs up; returns in a fork alone."""
    del sys.path[0]  # this file's folder, which no program has
    module: type[ModuleType] = type(sys)  # pyright: ignore[reportUnknownVariableType] - a module to the checker
    shim = __file__.rpartition("/warm/")[0]
    packages: dict[str, list[str]] = {"runyard": [], "runyard.shim": [shim], "runyard.shim.warm": [shim + "/warm"]}
    for name, path in packages.items():
        sys.modules[name] = package = module(name)
        package.__path__ = path
    from runyard.shim.warm import serving  # noqa: PLC0415 - only now can it be found

    try:
        serving.serve(int(arguments[1]), STARTED)
    except serving.Forked as forked:  # a way out of all that led to the fork: a program has one frame below it, not ten
        return forked.program


if __name__ == "__main__":
    forked = start(sys.argv[1:])
    try:
        forked.entry(*forked.arguments)
    except BaseException as error:
        forked.failure = error
    forked.finish()
