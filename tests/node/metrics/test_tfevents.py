"""Event files of TensorBoard: every way a scalar is encoded, whatever else is in the file, however it grows."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.metrics import Series
from runyard.node.metrics.gathering import Gathering
from runyard.node.metrics.tfevents import LARGEST, BrokenFile, Events, crc32c
from tests.node.metrics.tfwriting import VERSION, event, field, record, scalars, simple, tensor


def read(content: bytes, pieces: int = 1 << 20) -> tuple[dict[str, Series], list[str]]:
    """Read a file as it grows by ``pieces`` bytes."""
    gathering, offset = Gathering(), 0
    events = Events("a file", gathering, "g")
    for size in (*range(pieces, len(content), pieces), len(content)):
        offset += events.take(content[offset:size], size - offset)
    assert offset == len(content)
    series, notes = gathering.take()
    assert all(each.group == "g" for each in series)
    return {each.name: each for each in series}, notes


def test_the_checksum_is_that_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), st.floats(width=32)), max_size=20), st.integers(1, 200))
def test_scalars_come_back_however_the_file_grows(points: list[tuple[int, float]], pieces: int) -> None:
    found, notes = read(scalars(points), pieces)
    assert notes == []
    if points:
        assert list(found["loss"].steps) == [step for step, _ in points]
        assert list(map(repr, found["loss"].values)) == [repr(value) for _, value in points]
        assert set(found["loss"].times) == {1_000_500}


FLOAT = field(1, 1)
ONE = field(2, b"")
"""The shape of a scalar."""


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (FLOAT + ONE + field(5, struct.pack("<f", 0.5)), 0.5),
        (FLOAT + ONE + field(5, 0.5, fixed="f"), 0.5),
        (FLOAT + ONE + field(4, struct.pack("<f", 0.25)), 0.25),
        (FLOAT + field(2, field(2, field(1, 1))) + field(5, struct.pack("<f", 2)), 2.0),
        (field(1, 2) + field(6, struct.pack("<d", 0.1)), 0.1),
        (field(1, 2) + field(4, struct.pack("<d", math.inf)), math.inf),
        (field(1, 3) + field(7, b"\x07"), 7.0),
        (field(1, 3) + field(4, struct.pack("<i", -7)), -7.0),
        (field(1, 9) + field(10, -3), -3.0),
        (field(1, 23) + field(17, 2**64 - 1), float(2**64 - 1)),
        (field(1, 10) + field(11, 1), 1.0),
        (field(1, 19) + field(13, struct.unpack("<H", struct.pack("<e", 1.5))[0]), 1.5),
        (field(1, 19) + field(4, struct.pack("<e", -2.5)), -2.5),
        (field(1, 14) + field(13, 0x3FC0), 1.5),
        (field(1, 14) + field(4, b"\xc0\x3f"), 1.5),
    ],
)
def test_tensors_of_one_number(content: bytes, value: float) -> None:
    found, _ = read(event(3, [tensor("acc", content)]))
    assert (list(found["acc"].values), list(found["acc"].steps)) == ([value], [3])


@pytest.mark.parametrize(
    "content",
    [
        FLOAT + ONE + field(5, struct.pack("<2f", 1, 2)),
        FLOAT + field(2, field(2, field(1, 2))) + field(5, struct.pack("<f", 1)),
        FLOAT + field(2, field(2, field(1, 0))),
        FLOAT + field(4, b"abc"),
        field(1, 7) + field(8, b"a text"),
        FLOAT + ONE,
        b"",
    ],
)
def test_tensors_of_anything_else_are_no_scalars(content: bytes) -> None:
    assert read(event(3, [tensor("t", content)])) == ({}, [])


def test_what_another_plugin_writes_is_no_scalar_later_on_either() -> None:
    one = FLOAT + field(5, struct.pack("<f", 1))
    found, _ = read(event(1, [tensor("h", one, plugin="hparams")]) + event(2, [tensor("h", one, plugin="")]))
    assert found == {}
    assert list(read(event(1, [tensor("h", one, plugin="")]))[0]) == ["h"]


def test_several_values_of_an_event_and_messages_of_other_kinds() -> None:
    histogram = field(1, b"weights") + field(5, b"\x09" + bytes(8))
    content = VERSION + event(1, [simple("a", 1), histogram, simple("b/c", 2)]) + record(field(4, b"a graph"))
    found, notes = read(content + record(b"") + event(2))
    assert {name: list(each.values) for name, each in found.items()} == {"a": [1.0], "b/c": [2.0]}
    assert notes == []


def test_a_large_record_is_passed_over_before_it_was_read() -> None:
    graph = record(field(4, bytes(LARGEST * 3)))
    content = event(1, [simple("a", 1)]) + graph + event(2, [simple("a", 2)])
    assert list(read(content, 100_000)[0]["a"].values) == [1.0, 2.0]


def test_a_record_that_cannot_be_read_is_said_once_and_left_out() -> None:
    content = event(1, [simple("a", 1)]) + record(b"\x0b") * 3 + event(2, [simple("a", 2)])
    found, notes = read(content)
    assert list(found["a"].values) == [1.0, 2.0]
    assert notes == ["A record of a file cannot be read: it is left out."]


def test_a_damaged_file_is_read_up_to_there() -> None:
    gathering = Gathering()
    content = event(1, [simple("a", 1)]) + b"no record of TensorFlow at all"
    with pytest.raises(BrokenFile):
        Events("x", gathering, "").take(content, len(content))
    series, notes = gathering.take()
    assert (len(series), notes) == (1, ["x is damaged: what follows in it is left out."])


@given(st.binary(max_size=200))
def test_no_message_is_too_strange(message: bytes) -> None:
    read(record(message) + record(field(5, message)) + record(field(5, field(1, message))))
