"""What every place promises, whatever kind of store it is in. Subclasses give two fixtures."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runyard.stores import PlaceStore, StoreError

LARGE = (35 << 20) + 12_345
"""Three ranges and a bit."""
ODD_KEYS = [
    "plain", "a/deep/er/key.bin", "a b", "per%41cent", "ha#sh", "qu?est", "st*r", "pl+us", "am&p=1", "br[ack]{et}",
    "col:on", "quo'te\"", "umläut/ß", "汉字", "\N{FIRE}", ".hidden", "tri/.../dots", "a~b", "co,mma;semi", "<angle>",
    "(p)!$",
]  # fmt: skip
HOSTILE_KEYS = ["", "/etc/passwd", "..", "../up", "a/../../up", ".", "a/./b", "a//b", "a/", "nul\0", "line\n", "a\\b",
                "x" * 1025, "half\udc80"]  # fmt: skip


def keys(place: PlaceStore, prefix: str = "") -> list[str]:
    return [item.key for item in place.list(prefix)]


def filled(path: Path, size: int) -> bytes:
    content = os.urandom(size)
    path.write_bytes(content)
    return content


class PlaceContract:
    @pytest.fixture
    def place(self) -> PlaceStore:
        """A place with a prefix of two segments in a bucket of its own that is there and empty."""
        raise NotImplementedError

    @pytest.fixture
    def bucket(self) -> PlaceStore:
        """The same bucket without a prefix."""
        raise NotImplementedError

    @pytest.fixture
    def nowhere(self) -> PlaceStore:
        """A bucket that is not there."""
        raise NotImplementedError

    def test_keys_come_back_as_they_were_given(self, place: PlaceStore) -> None:
        for key in ODD_KEYS:
            place.put_bytes(key, key.encode())
        assert keys(place) == sorted(ODD_KEYS)
        assert [place.get_bytes(key).decode() for key in ODD_KEYS] == ODD_KEYS

    def test_a_prefix_is_whole_segments_of_a_place_and_plain_text_of_a_listing(
        self, place: PlaceStore, bucket: PlaceStore
    ) -> None:
        bucket.put_bytes("pre/fixture", b"beside")
        bucket.put_bytes("other", b"beside")
        for key in ("b/1", "a", "b2", "b/10", "c"):
            place.put_bytes(key, b"12")
        assert keys(place) == ["a", "b/1", "b/10", "b2", "c"]
        assert keys(place, "b") == ["b/1", "b/10", "b2"]
        assert keys(place, "b/1") == ["b/1", "b/10"]
        assert keys(place, "nothing") == []
        assert keys(bucket, "pre/fix/b/") == ["pre/fix/b/1", "pre/fix/b/10"]
        assert [item.size for item in place.list()] == [2] * 5

    def test_a_listing_of_many_pages_is_whole(self, place: PlaceStore) -> None:
        expected = [f"n{number:05d}" for number in range(1003)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: place.put_bytes(key, b""), expected))
        assert keys(place) == expected
        place.delete(expected[2:5])
        assert keys(place) == expected[:2] + expected[5:]

    def test_an_etag_changes_with_the_content(self, place: PlaceStore) -> None:
        seen: set[str] = set()
        for content in (b"one", b"two", b"six"):
            place.put_bytes("k", content)
            seen.update(item.etag for item in place.list())
        assert len(seen) == 3

    def test_an_object_is_fetched_to_a_path_or_a_descriptor(self, place: PlaceStore, tmp_path: Path) -> None:
        place.put_bytes("k", b"content")
        (item,) = place.list()
        target = tmp_path / "target"
        target.write_bytes(b"something longer that was there before")
        heard: list[int] = []
        place.fetch("k", target, size=7, etag=item.etag, on_bytes=heard.append)
        assert target.read_bytes() == b"content"
        assert sum(heard) == 7
        with (tmp_path / "other").open("w+b") as file:
            place.fetch("k", file.fileno(), size=7)
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0
            assert file.read() == b"content"

    def test_a_large_file_goes_there_and_back(self, place: PlaceStore, tmp_path: Path) -> None:
        content = filled(tmp_path / "source", LARGE)
        with (tmp_path / "source").open("rb") as source:
            place.put_file("large", source.fileno(), LARGE)
            assert os.lseek(source.fileno(), 0, os.SEEK_CUR) == 0
        (item,) = place.list()
        assert (item.size, place.size_of("large")) == (LARGE, LARGE)
        for etag in (item.etag, ""):
            heard: list[int] = []
            place.fetch("large", tmp_path / "target", size=LARGE, etag=etag, on_bytes=heard.append)
            assert sum(heard) == LARGE
            assert (tmp_path / "target").read_bytes() == content

    def test_only_the_first_bytes_of_a_growing_file_are_stored(self, place: PlaceStore, tmp_path: Path) -> None:
        source = tmp_path / "log"
        content = filled(source, 9 << 20)
        for size in (0, 1, 1000, (8 << 20) + 1):
            place.put_file("log", source, size)
            assert place.get_bytes("log") == content[:size]

    def test_a_file_that_became_shorter_stores_nothing(self, place: PlaceStore, tmp_path: Path) -> None:
        place.put_bytes("kept", b"as it was")
        for size in (10, 20 << 20):
            (tmp_path / "cut").write_bytes(b"123456789")
            with pytest.raises(StoreError) as caught:
                place.put_file("kept", tmp_path / "cut", size)
            assert caught.value.kind == "changed"
        assert [(item.key, item.size) for item in place.list()] == [("kept", 9)]
        assert place.get_bytes("kept") == b"as it was"

    def test_an_empty_object_is_an_object(self, place: PlaceStore, tmp_path: Path) -> None:
        place.put_bytes("empty", b"")
        (item,) = place.list()
        assert item.size == 0
        place.fetch("empty", tmp_path / "empty", size=0, etag=item.etag)
        assert (tmp_path / "empty").read_bytes() == b""
        assert place.size_of("empty") == 0

    @pytest.mark.parametrize("size", [5, LARGE])
    def test_another_object_than_the_listed_one_is_refused(self, place: PlaceStore, tmp_path: Path, size: int) -> None:
        source = tmp_path / "source"
        filled(source, size)
        place.put_file("k", source, size)
        (item,) = place.list()
        filled(source, size)
        place.put_file("k", source, size)
        for etag, expected in ((item.etag, size), ("", size - 1), ("", size + 1)):
            with pytest.raises(StoreError) as caught:
                place.fetch("k", tmp_path / "target", size=expected, etag=etag)
            assert caught.value.kind == "changed"
            assert "'k'" in caught.value.message or "pre/fix/k" in caught.value.message

    def test_what_is_not_there_is_named(self, place: PlaceStore, nowhere: PlaceStore, tmp_path: Path) -> None:
        assert place.size_of("gone") is None
        assert nowhere.size_of("gone") is None
        place.put_bytes("here", b"1")
        for ask in (lambda: place.get_bytes("gone"), lambda: place.fetch("gone", tmp_path / "t", size=1)):
            with pytest.raises(StoreError, match="gone") as caught:
                ask()
            assert caught.value.kind == "not_found"
        with pytest.raises(StoreError, match="nowhere") as caught:
            nowhere.list()
        assert caught.value.kind == "not_found"

    def test_deleting_twice_is_deleting_once(self, place: PlaceStore) -> None:
        for key in ("a/b", "a/c", "d"):
            place.put_bytes(key, b"x")
        place.delete(["a/b", "gone", "d/no/folder"])
        place.delete(["a/b"])
        place.delete([])
        assert keys(place) == ["a/c", "d"]

    def test_a_small_object_must_be_small(self, place: PlaceStore) -> None:
        place.put_bytes("k", b"12345")
        assert place.get_bytes("k", limit=5) == b"12345"
        with pytest.raises(StoreError, match="larger than the 4 bytes") as caught:
            place.get_bytes("k", limit=4)
        assert caught.value.kind == "invalid"

    @pytest.mark.parametrize("key", HOSTILE_KEYS)
    def test_a_hostile_key_is_refused_before_anything_is_done(
        self, place: PlaceStore, tmp_path: Path, key: str
    ) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"x")
        for ask in (
            lambda: place.put_bytes(key, b"x"),
            lambda: place.put_file(key, source, 1),
            lambda: place.fetch(key, tmp_path / "target", size=1),
            lambda: place.get_bytes(key),
            lambda: place.size_of(key),
            lambda: place.delete([key]),
        ):
            with pytest.raises(StoreError, match="object key") as caught:
                ask()
            assert caught.value.kind == "invalid"
        assert sorted(os.listdir(tmp_path)) == ["source"]

    @pytest.mark.parametrize("size", [10, LARGE])
    def test_whoever_hears_of_the_bytes_may_give_up(self, place: PlaceStore, tmp_path: Path, size: int) -> None:
        source = tmp_path / "source"
        filled(source, size)
        place.put_file("k", source, size)

        def give_up(_: int) -> None:
            raise KeyError("enough")

        with pytest.raises(KeyError, match="enough"):
            place.fetch("k", tmp_path / "target", size=size, on_bytes=give_up)
        place.fetch("k", tmp_path / "target", size=size)
        assert (tmp_path / "target").read_bytes() == source.read_bytes()

    def test_many_threads_use_one_place(self, place: PlaceStore, tmp_path: Path) -> None:
        def there_and_back(number: int) -> bool:
            content = str(number).encode() * 1000
            place.put_bytes(f"d{number % 7}/{number}", content)
            place.fetch(f"d{number % 7}/{number}", tmp_path / str(number), size=len(content))
            return (tmp_path / str(number)).read_bytes() == content

        with ThreadPoolExecutor(16) as pool:
            results: Sequence[bool] = list(pool.map(there_and_back, range(200)))
        assert all(results)
        assert len(place.list()) == 200
