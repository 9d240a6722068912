"""Modules that are loaded when something of them is first used: a command that does without them starts sooner.

>>> if TYPE_CHECKING:
...     from runyard.client import access_records
... else:
...     access_records = Later("runyard.client.access_records")
"""

from __future__ import annotations

from importlib import import_module


class Later:
    """Stands for a module; each name of it is looked up once."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> object:
        found: object = getattr(import_module(self._module), name)
        setattr(self, name, found)
        return found
