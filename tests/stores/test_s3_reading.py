"""Reading S3 objects over sockets of our own: what breaks, what is stale, what is left to the transfer library."""

import os
import socket
from pathlib import Path

import pytest

from runyard.stores import StoreError, open_place
from runyard.stores.http_reading import goes_direct
from runyard.stores.s3 import CHUNK
from runyard.wire.orders import Place, Secret
from tests.stores.serving import Answering, Handler, answering

CONTENT = os.urandom(100_000)
ETAG = '"e"'


def place(server: Answering) -> Place:
    return Place("s3", "bucket", "pre", endpoint_url=server.url, secret=Secret("key-id", "secret"))


def part_of(handler: Handler) -> tuple[int, int] | None:
    """First byte and one beyond the last that a request asks for."""
    wanted = handler.headers.get("Range", "")
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    return (int(first), int(last) + 1) if wanted else None


def serve(handler: Handler, content: bytes = CONTENT) -> None:
    """A good answer."""
    span = part_of(handler)
    if span is None:
        handler.answer(200, content, ETag=ETAG)
    else:
        told = f"bytes {span[0]}-{span[1] - 1}/{len(content)}"
        handler.answer(206, content[slice(*span)], ETag=ETAG, Content_Range=told)


def fetched(server: Answering, target: Path, size: int = len(CONTENT), etag: str = ETAG) -> bytes:
    heard: list[int] = []
    open_place(place(server)).fetch("a b", target, size=size, etag=etag, on_bytes=heard.append)
    assert sum(heard) == size
    return target.read_bytes()


def test_an_object_comes_signed_and_matched(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    def function(handler: Handler) -> None:
        seen.append({name.lower(): value for name, value in handler.headers.items()})
        serve(handler)

    with answering(function) as server:
        assert fetched(server, tmp_path / "x") == CONTENT
    assert server.seen == ["GET /bucket/pre/a%20b"]
    assert seen[0]["if-match"] == ETAG
    assert "Credential=key-id/" in seen[0]["authorization"]
    assert "if-match" in seen[0]["authorization"]
    assert (tmp_path / "x").stat().st_size == len(CONTENT)


def test_an_answer_that_breaks_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def function(handler: Handler) -> None:
        if len(server.seen) > 1:
            serve(handler)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:60_000])
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    ranges: list[str | None] = []

    def noted(handler: Handler) -> None:
        ranges.append(handler.headers.get("Range"))
        function(handler)

    with answering(noted) as server:
        assert fetched(server, tmp_path / "x") == CONTENT
    assert ranges == [None, f"bytes=60000-{len(CONTENT) - 1}"]


def test_a_kept_connection_that_the_server_has_closed_is_made_anew(tmp_path: Path) -> None:
    def function(handler: Handler) -> None:
        serve(handler)
        handler.close_connection = True  # without a word of it in the answer

    with answering(function) as server:
        for number in range(3):
            assert fetched(server, tmp_path / str(number)) == CONTENT
    assert len(server.seen) == 3


def test_large_objects_come_in_ranges_of_the_first_answers_etag(tmp_path: Path) -> None:
    content = os.urandom(CHUNK) + os.urandom(CHUNK) + b"end"
    matched: list[str | None] = []

    def function(handler: Handler) -> None:
        matched.append(handler.headers.get("If-Match"))
        serve(handler, content)

    with answering(function) as server:
        assert fetched(server, tmp_path / "x", len(content), etag="") == content
    assert sorted(map(str, matched)) == ['"e"', '"e"', "None"]


def test_what_is_not_the_listed_object_is_said_to_have_changed(tmp_path: Path) -> None:
    with answering(serve) as server, pytest.raises(StoreError) as caught:
        fetched(server, tmp_path / "x", size=len(CONTENT) - 1)
    assert caught.value.kind == "changed"
    with answering(lambda handler: handler.answer(412)) as server, pytest.raises(StoreError) as caught:
        fetched(server, tmp_path / "x")
    assert caught.value.kind == "changed"


def test_an_answer_without_a_length_is_left_to_the_library(tmp_path: Path) -> None:
    def function(handler: Handler) -> None:
        handler.send_response(200)
        for name, value in (("Transfer-Encoding", "chunked"), ("ETag", ETAG), ("Content-Length", str(len(CONTENT)))):
            if name != "Content-Length" or len(server.seen) > 1:
                handler.send_header(name, value) if name != "Transfer-Encoding" or len(server.seen) == 1 else None
        handler.send_header("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
        handler.end_headers()
        if len(server.seen) > 1:
            handler.wfile.write(CONTENT)

    with answering(function) as server:
        assert fetched(server, tmp_path / "x") == CONTENT
    assert len(server.seen) == 2


def test_a_proxy_is_not_gone_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert goes_direct("http://store:9000")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert goes_direct("http://store:9000")
    assert not goes_direct("https://store")
    monkeypatch.setenv("no_proxy", "store,localhost")
    assert goes_direct("https://store")
