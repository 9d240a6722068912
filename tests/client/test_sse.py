"""Server-sent events are read the same however their bytes are cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runyard.client.sse import EventParser, SentEvent

TEXT = (
    b"\xef\xbb\xbf: a comment\n\n"
    b"id: 1\nevent: log\ndata: {\"a\":1}\n\n"
    b"data: two\ndata:lines\r\n\r\n"
    b"retry: 250\nid: 2:17\rdata:  a space stays\r\r"
    b"event: empty\n\n"
    b"id\ndata\n\n"
    b"unknown: x\ndata: \xc3\xbcber\n\n"
    b"data: not complete"
)  # fmt: skip
EVENTS = [
    SentEvent("log", '{"a":1}', "1"),
    SentEvent("message", "two\nlines", "1"),
    SentEvent("message", " a space stays", "2:17"),
    SentEvent("message", "", ""),
    SentEvent("message", "über", ""),
]


def test_a_stream_is_read_whole() -> None:
    parser = EventParser()
    assert parser.feed(TEXT) == EVENTS
    assert parser.retry_ms == 250


@given(st.lists(st.integers(1, len(TEXT) - 1), unique=True).map(sorted))
def test_a_stream_is_read_the_same_in_pieces_of_any_size(cuts: list[int]) -> None:
    parser = EventParser()
    edges = [0, *cuts, len(TEXT)]
    pieces = [TEXT[begin:end] for begin, end in pairwise(edges)]
    assert [event for piece in pieces for event in parser.feed(piece)] == EVENTS


def test_what_was_not_complete_is_not_told() -> None:
    parser = EventParser("7")
    assert parser.feed(b"data: half") == []
    assert parser.last_id == "7"
