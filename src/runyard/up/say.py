"""Prose goes to stderr, answers to stdout."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Tell a person."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def answer(text: str) -> None:
    """Tell a program."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
