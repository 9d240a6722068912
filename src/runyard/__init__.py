"""Runyard: deep learning as a service on machines of your own.

``runyard.train``, ``runyard.wait``, ``runyard.Client`` and the errors come from :mod:`runyard.client`, which is loaded
when one of them is first used; their types stand in ``__init__.pyi``.
"""

from importlib import import_module

__version__ = "0.1.0"

_FROM_CLIENT = ("Client", "Overrides", "Run", "RunyardError", "train", "wait")


def __getattr__(name: str) -> object:
    if name in _FROM_CLIENT:
        return getattr(import_module("runyard.client"), name)
    raise AttributeError(f"module 'runyard' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FROM_CLIENT})
