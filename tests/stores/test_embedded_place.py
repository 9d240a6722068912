"""The contract on the embedded store of the real server, and what a connection can do to us."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from runyard.stores import EmbeddedAccess, PlaceStore, StoreError, open_place
from runyard.stores.place import ReadsMany
from runyard.wire.orders import Item, Place
from tests.stores.embedded_server import embedded_server
from tests.stores.place_contract import PlaceContract
from tests.stores.serving import Answering, Handler, answering


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedAccess]:
    with embedded_server(tmp_path_factory.mktemp("server") / "home") as found:
        yield found


class TestEmbeddedPlace(PlaceContract):
    @pytest.fixture(autouse=True)
    def name(self) -> str:
        return f"bucket-{uuid4().hex[:12]}"

    @pytest.fixture
    def place(self, access: EmbeddedAccess, name: str) -> PlaceStore:
        place = open_place(Place("local", name, "pre/fix", account="default"), embedded=access)
        place.put_bytes("first", b"")
        place.delete(["first"])
        return place

    @pytest.fixture
    def bucket(self, access: EmbeddedAccess, name: str) -> PlaceStore:
        return open_place(Place("local", name, account="default"), embedded=access)

    @pytest.fixture
    def nowhere(self, access: EmbeddedAccess) -> PlaceStore:
        return open_place(Place("local", "nowhere", account="default"), embedded=access)


def test_another_token_is_denied_even_while_a_body_is_sent(access: EmbeddedAccess, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (20 << 20))
    stranger = open_place(Place("local", "b", account="default"), embedded=EmbeddedAccess(access.url, "another"))
    for ask in (
        stranger.list,
        lambda: stranger.get_bytes("k"),
        lambda: stranger.put_bytes("k", b"x"),
        lambda: stranger.put_file("k", tmp_path / "large", 20 << 20),
    ):
        with pytest.raises(StoreError) as caught:
            ask()
        assert caught.value.kind == "denied"
        assert "another" not in caught.value.message


def test_the_token_is_not_shown() -> None:
    assert "hush" not in repr(EmbeddedAccess("http://host", "hush"))


def test_without_a_server_there_is_no_embedded_store() -> None:
    with pytest.raises(StoreError, match="no server was named") as caught:
        open_place(Place("local", "b", account="a"))
    assert caught.value.kind == "invalid"


def at(server: Answering) -> PlaceStore:
    return open_place(Place("local", "b", account="acc"), embedded=EmbeddedAccess(server.url, "t"))


CONTENT = bytes(range(256)) * 4000


def part_of(request: Handler, most: int) -> None:
    """Answer as the server does, but break off after ``most`` bytes."""
    wanted = request.headers.get("Range")
    first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
    rest = CONTENT[first:]
    ranged = {"Content_Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"} if wanted else {}
    request.answer(206 if wanted else 200, rest[:most], Content_Length=str(len(rest)), ETag='"e"', **ranged)
    request.close_connection = len(rest) > most


def test_a_transfer_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    with answering(lambda request: part_of(request, 300_000)) as server:
        heard: list[int] = []
        at(server).fetch("k", tmp_path / "target", size=len(CONTENT), etag="e", on_bytes=heard.append)
        assert (tmp_path / "target").read_bytes() == CONTENT
        assert sum(heard) == len(CONTENT)
        assert len(server.seen) == 4


def test_a_server_that_always_breaks_off_is_unreachable(tmp_path: Path) -> None:
    with answering(lambda request: part_of(request, 1000)) as server, pytest.raises(StoreError) as caught:
        at(server).fetch("k", tmp_path / "target", size=len(CONTENT))
    assert caught.value.kind == "unreachable"


def test_a_connection_that_was_closed_meanwhile_is_made_again() -> None:
    def close_after(request: Handler) -> None:
        request.answer(200, b"content")
        request.close_connection = True  # without having said so

    with answering(close_after) as server:
        place = at(server)
        assert [place.get_bytes("k") for _ in range(3)] == [b"content"] * 3
        assert 3 <= len(server.seen) <= 5


@pytest.mark.parametrize(
    ("status", "body", "kind", "sentence"),
    [
        (422, b'{"code": "invalid_request", "detail": "Too odd a key."}', "invalid", "Too odd a key."),
        (409, b"{}", "invalid", "refused"),
        (422, b'{"code": "store_full", "detail": "The disk is full."}', "unreachable", "The disk is full."),
        (507, b'{"code": "store_full", "detail": "The disk is full."}', "unreachable", "The disk is full."),
        (404, b"", "not_found", "'k'"),
        (403, b"no json", "denied", "denied access"),
        (401, b"[]", "denied", "token"),
        (412, b"", "changed", "'k'"),
        (503, b"", "unreachable", "cannot answer now"),
        (302, b"", "invalid", ""),
    ],
)
def test_every_answer_has_its_meaning(status: int, body: bytes, kind: str, sentence: str) -> None:
    def answer(request: Handler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length", 0)))
        request.answer(status, body)

    with answering(answer) as server:
        for ask in (lambda: at(server).put_bytes("k", b"content"), lambda: at(server).get_bytes("k")):
            with pytest.raises(StoreError) as caught:
                ask()
            assert caught.value.kind == kind
            assert sentence in caught.value.message
        assert len(server.seen) == (2 if kind != "unreachable" else 10)


def test_what_is_no_runyard_server_is_said_to_be_none() -> None:
    for body in (b"<html>", b"{}", b'{"items": [{}], "next": null}', b'{"items": 3}'):
        with (
            answering(lambda request, body=body: request.answer(200, body)) as server,
            pytest.raises(StoreError, match="not a Runyard server"),
        ):
            at(server).list()


def test_a_server_that_is_not_there_is_unreachable() -> None:
    place = open_place(Place("local", "b", account="a"), embedded=EmbeddedAccess("http://127.0.0.1:9", "t"))
    with pytest.raises(StoreError, match="refused") as caught:
        place.put_bytes("k", b"x")
    assert caught.value.kind == "unreachable"


def test_many_small_objects_come_in_one_answer(access: EmbeddedAccess) -> None:
    place = open_place(Place("local", "many", "pre", account="default"), embedded=access)
    contents = {f"k{number:03d}": b"x" * number for number in range(40)}
    for key, content in contents.items():
        place.put_bytes(key, content)
    assert isinstance(place, ReadsMany)
    items, came = place.list(), dict[str, bytes]()

    def take(item: Item, content: memoryview) -> None:
        came[item.key] = bytes(content)

    assert place.fetch_many(items, take)
    assert came == contents
    place.put_bytes("k007", b"another")
    for wrong, kind in ((items[7], "changed"), (Item("gone", 1), "not_found"), (Item("k003", 4), "changed")):
        with pytest.raises(StoreError, match=wrong.key) as caught:
            place.fetch_many([items[0], wrong], take)
        assert caught.value.kind == kind


def test_a_server_that_knows_of_no_such_request_is_asked_for_each(tmp_path: Path) -> None:
    with answering(lambda handler: handler.answer(404)) as server:
        place = open_place(Place("local", "b", account="default"), embedded=EmbeddedAccess(server.url, "t"))
        assert isinstance(place, ReadsMany)
        assert not place.fetch_many([Item("a", 1), Item("b", 1)], lambda *_: None)
    assert server.seen == ["POST /api/v1/node/objects/read"]
