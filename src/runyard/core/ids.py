"""Identifiers: their alphabet, shape and order. Randomness is an argument."""

from __future__ import annotations

import re
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RUN_PREFIX: Final = "training-"
RUN_SUFFIX_LENGTH: Final = 9
_RUN_ID = re.compile(rf"{RUN_PREFIX}[0-9A-Za-z]{{{RUN_SUFFIX_LENGTH}}}")


def encode(number: int, length: int) -> str:
    """Write ``number`` in base 62 with exactly ``length`` characters (the higher digits are dropped)."""
    digits: list[str] = []
    for _ in range(length):
        number, rest = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[rest])
    return "".join(reversed(digits))


def run_id(entropy: int) -> str:
    """Make a training-run id, ``training-`` and nine characters, from at least 54 random bits."""
    return RUN_PREFIX + encode(entropy, RUN_SUFFIX_LENGTH)


def is_run_id(text: str) -> bool:
    """Tell whether ``text`` is a complete training-run id."""
    return _RUN_ID.fullmatch(text) is not None


def attempt_key(run: str, attempt: int) -> str:
    """Name one attempt of a run, e.g. ``training-a1B2c3D4e/2``."""
    return f"{run}/{attempt}"


def split_attempt_key(key: str) -> tuple[str, int]:
    """Undo :func:`attempt_key`. Raises ``ValueError`` for anything else."""
    run, _, number = key.partition("/")
    if not is_run_id(run) or not (number.isascii() and number.isdigit()):
        raise ValueError(f"{key!r} is not an attempt key such as training-a1B2c3D4e/1")
    return run, int(number)
