"""What the children of a warm parent stand on: how its interpreter was before and after the imports."""

from __future__ import annotations

import atexit
import gc
import os
import sys

from runyard.shim.warm.pools import Pools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from runyard.shim.control import Control


SITE = ("sitecustomize", "usercustomize")
"""What an interpreter imports at its start where it finds them: a program's own come before those of the system."""


class Ground:
    """The state of a warm parent that its children share, and what they need to look like fresh ones."""

    __slots__ = (
        "added",
        "base",
        "control",
        "env",
        "exits",
        "forks",
        "kept",
        "last",
        "names",
        "pools",
        "read",
        "search",
        "tops",
    )

    def __init__(self, control: Control, started: frozenset[str]) -> None:
        self.control = control
        """The connection to the shim, which no child may keep."""
        self.env = dict(os.environ)
        """The variables that the interpreter was started with."""
        self.search = [os.path.abspath(entry) for entry in self.env.get("PYTHONPATH", "").split(":") if entry]
        self.base = [entry for entry in sys.path if entry not in self.search]
        """Where it finds modules, beside its own ``PYTHONPATH``."""
        self.tops = frozenset(name for name in started if "." not in name)
        """Until :meth:`settle` names of modules at the start, from then on those that a user's file could shadow."""
        self.added: dict[str, str] = {}
        """Variables that imports have set, unless to a place of this process's own."""
        self.read: set[str] = set()
        """Variables that imports have read."""
        self.exits: list[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]] = []
        """What imports have registered for the end."""
        self.forks: list[dict[str, Callable[[], object]]] = []
        """What imports have asked for at each fork: for a program it is done once, and its init is spared."""
        self.kept: list[object] = []
        """What fills the holes among what is imported."""
        self.names: frozenset[str] = frozenset()
        """All modules that are imported."""
        self.last = ""
        """The last one of them."""
        self.pools: Pools | None = None
        """The pools of threads of what is imported; None: there are none."""

    def settle(self) -> None:
        """Take note of how it is after the imports, our own files being found no longer."""
        for name in [name for name in sys.modules if name == "runyard" or name.startswith("runyard.")]:
            del sys.modules[name]
        self.names = frozenset(sys.modules) - {"__main__"}
        self.last = list(sys.modules)[-1]
        unshadowed = self.tops.difference(SITE).union(sys.builtin_module_names)
        self.tops = frozenset(name for name in self.names if "." not in name) - unshadowed
        pools = Pools()
        if pools.openmp or pools.openblas:
            self.pools = pools
        temporary: Any = sys.modules.get("tempfile")
        places = {self.env.get("HOME"), self.env.get("TMPDIR"), temporary and temporary.tempdir} - {None, "", "/"}
        self.added = {
            name: value
            for name, value in os.environ.items()
            if self.env.get(name) != value and not any(place in value for place in places if place)
        }
        gc.freeze()


class Watch:
    """While open, notes which variables are read, and what is registered for the end and for forks; the latter is not
    done at a fork of this process."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._open = True

    def __enter__(self) -> None:
        kind: Any = type(os.environ)
        self._get, self._register, self._at_fork = kind.__getitem__, atexit.register, os.register_at_fork
        get, register, read, exits = self._get, self._register, self._ground.read, self._ground.exits
        at_fork, forks = self._at_fork, self._ground.forks

        def noting_get(environ: object, name: str) -> str:
            read.add(name)
            return get(environ, name)

        def noting_register(function: Callable[..., object], *args: object, **named: object) -> object:
            exits.append((function, args, named))
            return register(function, *args, **named)

        def noting_at_fork(**named: Any) -> None:
            if self._open and named and all(map(callable, named.values())):
                forks.append(named)
            else:  # a module has kept this function, or has made a mistake
                at_fork(**named)

        kind.__getitem__ = noting_get
        os.register_at_fork = noting_at_fork
        atexit.register = noting_register  # pyright: ignore[reportAttributeAccessIssue] - for as long as imports last

    def __exit__(self, *_: object) -> None:
        kind: Any = type(os.environ)
        kind.__getitem__ = self._get
        os.register_at_fork = self._at_fork
        self._open = False
        atexit.register = self._register
