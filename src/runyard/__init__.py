"""Runyard: deep learning as a service on machines of your own.

``runyard.run``, ``runyard.train``, ``runyard.wait``, ``runyard.Client`` and the errors come from :mod:`runyard.client`,
which is loaded when one of them is first used; their types stand in ``__init__.pyi``. ``runyard.log``,
which a training program hands its metrics to, comes from :mod:`runyard.recorder` in the same way.
"""

from importlib import import_module

__version__ = "0.1.0"

_FROM_CLIENT = ("Client", "Overrides", "Run", "RunyardError", "run", "train", "wait")


def __getattr__(name: str) -> object:
    if name == "log":
        log = globals()["log"] = import_module("runyard.recorder").log
        return log
    if name in _FROM_CLIENT:
        return getattr(import_module("runyard.client"), name)
    raise AttributeError(f"module 'runyard' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FROM_CLIENT, "log"})
