"""Runyard: deep learning as a service on machines of your own.

``runyard.train``, ``runyard.wait``, ``runyard.Client`` and the errors come from :mod:`runyard.client`, which is loaded
when one of them is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runyard.client import Client, Overrides, Run, RunyardError, train, wait

__version__ = "0.1.0"
__all__ = ["Client", "Overrides", "Run", "RunyardError", "__version__", "train", "wait"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("runyard.client"), name)
    raise AttributeError(f"module 'runyard' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
