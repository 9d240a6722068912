"""``runyard.log``: hands metrics of a training program to the service that runs it.

>>> import runyard
>>> runyard.log(step=1, loss=0.5, accuracy=0.9)

One line of JSON a call, appended by a single write to the file that the environment variable RUNYARD_METRICS names;
without the variable it does nothing. It never raises: what cannot be written is said once, on stderr. Needs nothing
but the standard library of Python 3.8. Where a program finds this file as ``runyard``, the rest of Runyard (its client)
is not installed beside it.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from json import dumps
from os import fstat, write
from time import time_ns
from typing import Any

__all__ = ["log"]

VARIABLE = "RUNYARD_METRICS"
_LIMIT = 1 << 62
_FIRST = -2

_file = _FIRST  # the descriptor; -1: there is none to write to
_place: tuple[int, int] | None = None
_torn = False
_warned: set[str] = set()
_keys: dict[Any, str] = {}  # the names that were seen, as JSON keys


def log(values: Mapping[str, Any] | None = None, /, step: Any = None, group: str = "", **named: Any) -> None:
    """Record values by name at a step. ``log({"loss": 0.5}, step=3)`` and ``log(loss=0.5, step=3)`` are the same.

    ``step``: a whole number, or None; ``group``: such as ``train`` or ``test``. Values are numbers, or whatever
    ``float()`` takes, such as arrays and tensors of one element; NaN and infinity are values too.
    """
    if _file == -1:
        return
    try:
        _log(values, step, group, named)
    except Exception as error:  # a program must not fail for its metrics
        _warn(f"runyard.log could not record: {type(error).__name__}: {error}")


def _log(values: Mapping[str, Any] | None, step: Any, group: str, named: dict[str, Any]) -> None:
    if _file == _FIRST and not _open():
        return
    if values is not None:
        if not hasattr(values, "items"):
            _warn("runyard.log takes values by name: runyard.log(step=1, loss=0.5) or runyard.log({'loss': 0.5}).")
            values = {}
        named = {**values, **named}
    parts = _numbers(named)
    if not parts:
        return
    if step is not None and not (type(step) is int and -_LIMIT < step < _LIMIT):
        step = _whole(step)
    head = "" if step is None else f'"s":{step},'
    if group:
        head += f'"g":{dumps(str(group))},'
    _write(f'{{{head}"t":{time_ns() // 1000000},"v":{{{parts}}}}}\n'.encode("ascii"))


def _numbers(named: dict[str, Any]) -> str:
    parts: list[str] = []
    for name, value in named.items():
        if type(value) is not float:
            try:
                value = float(value)
            except Exception:
                _warn(f"runyard.log: {name!r} is no number but {type(value).__name__}: it is left out.")
                continue
        key = _keys.get(name) or _key(name)
        parts.append(key + (repr(value) if value - value == 0.0 else dumps(value)))
    return ",".join(parts)


def _write(text: bytes) -> None:
    global _torn
    if _torn:
        text = b"\n" + text
    try:
        facts = fstat(_file)
        if (facts.st_dev, facts.st_ino) != _place:
            raise OSError(errno.EBADF, "it was closed")
        _torn = write(_file, text) < len(text)
    except OSError as error:
        if error.errno == errno.EBADF and _open():  # a program that closed all descriptors, to become a daemon perhaps
            write(_file, text)
            return
        _warn(f"runyard.log: the metrics file cannot be written: {error.strerror}.")


def _key(name: Any) -> str:
    key = dumps(str(name)) + ":"
    if len(_keys) < 10000:
        _keys[name] = key
    return key


def _whole(step: Any) -> int | None:
    try:
        number = int(step)
        if number == step and -_LIMIT < number < _LIMIT:
            return number
    except Exception:
        pass  # said below
    _warn(f"runyard.log: a step is a whole number, not {step!r}: the values are recorded without one.")
    return None


def _open() -> bool:
    global _file, _place
    path = os.environ.get(VARIABLE)
    _file = -1
    if not path:
        return False
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        _file = os.open(path, flags, 0o644)
        facts = fstat(_file)
        _place = facts.st_dev, facts.st_ino
    except OSError as error:
        _warn(f"runyard.log: {path} cannot be opened: {error.strerror}.")
    return _file >= 0


def _warn(sentence: str) -> None:
    if sentence in _warned or len(_warned) >= 20:
        return
    _warned.add(sentence)
    try:
        sys.stderr.write(sentence + "\n")
    except Exception:
        pass  # there is nobody to tell


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"module 'runyard' has no attribute {name!r}: this environment has only runyard.log; "
        "`pip install runyard` adds the client"
    )
