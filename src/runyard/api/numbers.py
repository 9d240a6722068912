"""Numbers of JSON in bodies: neither ``true`` nor text stands for one, as the OpenAPI document says."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator


def _a_number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("this must be a number, without quotes")  # pydantic takes it for a refusal
    return value


A_NUMBER: Final = BeforeValidator(_a_number)
"""To stand behind the bounds of a number that may also be null: before them they would not be in the document."""
Whole: TypeAlias = Annotated[int, A_NUMBER]
Number: TypeAlias = Annotated[float, A_NUMBER]
