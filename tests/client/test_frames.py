"""Frames of a followed log: the same bytes however they arrive."""

import json

from hypothesis import given
from hypothesis import strategies as st

from runyard.client.frames import FrameParser, SentLog
from runyard.client.sse import SentEvent

TEXT = "one\ntwö ✓ 𝄞\nlog 1 2 3\n".encode() + b"\xff\xfe raw\n"


def frames(sizes: list[int]) -> bytes:
    """The text in frames of so many bytes, again from its beginning where it ends, with a word in between."""
    made, offset = b"state " + json.dumps({"state": "running"}).encode() + b"\n", 0
    for size in sizes:
        data = (TEXT * 9)[offset : offset + size]
        made += b"log 2 %d %d\n%b" % (offset, len(data), data) + b"quiet\n"
        offset += len(data)
    return made + b'end {"state":"completed"}\n'


@given(st.lists(st.integers(1, 40), max_size=8), st.lists(st.integers(1, 30), min_size=1))
def test_frames_in_any_pieces_are_the_bytes_once(sizes: list[int], cuts: list[int]) -> None:
    stream, parser = frames(sizes), FrameParser()
    found: list[SentEvent | SentLog] = []
    at = turn = 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        found += parser.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert [each.name for each in found if isinstance(each, SentEvent)] == ["state", "end"]
    text = b""
    for each in found:
        if isinstance(each, SentLog):
            assert (each.attempt, each.offset) == (2, len(text))
            text += each.data
    assert text == (TEXT * 9)[: sum(sizes)]
    assert parser.last_id == (f"2:{len(text)}" if text else None)


def test_a_character_is_not_cut_in_two() -> None:
    data = "aö𝄞".encode()
    parser = FrameParser()
    assert parser.feed(b"log 1 10 %d\na\xc3" % len(data)) == [SentLog(1, 10, b"a")]
    assert parser.last_id == "1:11"
    assert parser.feed(data[2:4]) == [SentLog(1, 11, "ö".encode())]
    assert parser.feed(data[4:]) == [SentLog(1, 13, "𝄞".encode())]
    assert parser.feed(b"quiet\n") == []
