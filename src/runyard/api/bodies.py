"""The body of a submission: read beside the loop, a piece of its parameters at a time.

What a hundred thousand runs have is read when intake comes to it, so it is never whole in memory but as it came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, overload

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from runyard.api.submitting import SubmitBody
from runyard.core.spec import Scalar

_AT_ONCE: Final = 2000
_NOT_JSON: Final = "the body is one JSON object; NaN, Infinity and half characters (surrogates) are no JSON"
_NO_SCALAR: Final = "the hyper-parameters of a run are an object of texts, numbers, true and false"
_Model = TypeVar("_Model", bound=BaseModel)
_Sent = TypeVar("_Sent")
_LONGEST: Final = 64 * 1024
_ENTRIES: Final = 250_000
_REST: Final = 1024 * 1024
_TOO_MANY: Final = f"at most {_ENTRIES} runs can be submitted at once: divide the sweep"
_TOO_LONG: Final = f"the hyper-parameters of a run have at most {_LONGEST} bytes: put more in a file of the data"
_TOO_MUCH: Final = f"what stands beside manifest and parameters has at most {_REST} bytes"
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{},]')


class _Fields(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a submission, none of which is decoded yet: an unknown one ends the reading."""

    manifest: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    definition: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    append_args: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    force: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    overrides: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    provenance: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_fields: Final = msgspec.json.Decoder(_Fields)
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
_one: Final = msgspec.json.Decoder(dict[str, Scalar])
_some: Final = msgspec.json.Decoder(list[dict[str, Scalar]])
_UNKNOWN: Final = re.compile("unknown field `(.{1,100})")
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError)


class Parameters(Sequence[Mapping[str, Scalar]]):
    """The hyper-parameters of each run, decoded as they are asked for. Raises ``RequestValidationError`` where those of
    a run are no such object."""

    def __init__(self, content: bytes | msgspec.Raw) -> None:
        if _more_than(memoryview(content), _ENTRIES):
            raise _refusal("parameters", _TOO_MANY)
        try:
            self._items = _items.decode(content)
        except _BAD:
            raise _refusal("parameters", "a list with one object for each run") from None
        for index, each in enumerate(self._items):
            if len(memoryview(each)) > _LONGEST:
                raise _refusal(f"parameters.{index}", _TOO_LONG)

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
    fields = _decoded(_fields, content)
    given = {name: raw for name in _Fields.__struct_fields__ if isinstance(raw := getattr(fields, name), msgspec.Raw)}
    parameters = Parameters(given.pop("parameters", b"[]"))
    if sum(len(memoryview(raw)) for name, raw in given.items() if name != "manifest") > _REST:
        raise _refusal("", _TOO_MUCH)
    if (manifest := given.get("manifest")) is not None and bytes(memoryview(manifest)[:1]) != b'"':
        raise _refusal("manifest", "a manifest is sent as one text (YAML)")
    try:
        rest = {name: json.loads(bytes(raw)) for name, raw in given.items()}
    except (ValueError, RecursionError):
        raise _refusal("", _NOT_JSON) from None
    try:
        return SubmitBody.model_validate(rest), parameters
    except ValidationError as error:
        raise RequestValidationError([_below_body(each) for each in error.errors()]) from None


def read_body(decoder: msgspec.json.Decoder[_Sent], model: type[_Model], content: bytes) -> _Model:
    """A body of a flat form: decoded as what bounds its memory, then checked. Raises ``RequestValidationError``."""
    sent = _decoded(decoder, content)
    try:
        return model.model_validate(msgspec.to_builtins(sent))
    except ValidationError as error:
        raise RequestValidationError([_below_body(each) for each in error.errors()]) from None


def _decoded(decoder: msgspec.json.Decoder[_Sent], content: bytes) -> _Sent:
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        unknown = _UNKNOWN.search(str(error))
        path, text = (unknown[1], "no field of this body") if unknown else ("", f"{_NOT_JSON} ({error})")
        raise _refusal(path, text) from None
    except (*_BAD, RecursionError):
        raise _refusal("", _NOT_JSON) from None


def _more_than(content: memoryview, most: int) -> bool:
    """Whether a JSON list has more entries, told without holding them: each would be an object of Python's."""
    text = bytes(content)
    if text.count(b",") < most:
        return False
    depth, commas = 0, 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
        elif first == 0x2C and depth == 1:
            commas += 1
            if commas >= most:
                return True
    return False


def _below_body(error: Any) -> dict[str, Any]:
    return {**error, "loc": ("body", *error["loc"])}


def _refusal(path: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": ("body", *filter(None, [path])), "msg": message}])
