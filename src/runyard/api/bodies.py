"""The body of a submission: read beside the loop, a piece of its parameters at a time.

What a hundred thousand runs have is read when intake comes to it, so it is never whole in memory but as it came.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, overload

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from runyard.api.submitting import SubmitBody
from runyard.core.spec import Scalar

_AT_ONCE: Final = 2000
_NOT_JSON: Final = "the body is one JSON object; NaN, Infinity and half characters (surrogates) are no JSON"
_NO_SCALAR: Final = "the hyper-parameters of a run are an object of texts, numbers, true and false"
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
_one: Final = msgspec.json.Decoder(dict[str, Scalar])
_some: Final = msgspec.json.Decoder(list[dict[str, Scalar]])
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError)


class Parameters(Sequence[Mapping[str, Scalar]]):
    """The hyper-parameters of each run, decoded as they are asked for. Raises ``RequestValidationError`` where those of
    a run are no such object."""

    def __init__(self, content: bytes | msgspec.Raw) -> None:
        try:
            self._items = _items.decode(content)
        except _BAD:
            raise _refusal("parameters", "a list with one object for each run") from None

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Scalar]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Scalar]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Scalar] | Sequence[Mapping[str, Scalar]]:
        if isinstance(index, slice):
            return [self._decoded(each) for each in range(*index.indices(len(self)))]
        return self._decoded(index)

    def _decoded(self, index: int) -> Mapping[str, Scalar]:
        try:
            return _one.decode(self._items[index])
        except _BAD:
            raise _refusal(f"parameters.{index}", _NO_SCALAR) from None

    def __iter__(self) -> Iterator[Mapping[str, Scalar]]:
        for begin in range(0, len(self._items), _AT_ONCE):
            part = self._items[begin : begin + _AT_ONCE]
            try:
                yield from _some.decode(b"[%b]" % b",".join(map(bytes, part)))
            except _BAD:
                yield from self[begin : begin + len(part)]  # says which one it is


def read_submission(content: bytes) -> tuple[SubmitBody, Parameters]:
    """The request of a body, and its parameters. Raises ``RequestValidationError``."""
    try:
        fields = _fields.decode(content)
        parameters = Parameters(fields.pop("parameters", b"[]"))
        rest = {name: json.loads(bytes(raw)) for name, raw in fields.items()}
    except (ValueError, RecursionError):
        raise _refusal("", _NOT_JSON) from None
    try:
        return SubmitBody.model_validate(rest), parameters
    except ValidationError as error:
        raise RequestValidationError([_below_body(each) for each in error.errors()]) from None


def _below_body(error: Any) -> dict[str, Any]:
    return {**error, "loc": ("body", *error["loc"])}


def _refusal(path: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": ("body", *filter(None, [path])), "msg": message}])
