"""The contract on folders of this machine, and that nothing leads out of them."""

import os
from pathlib import Path

import pytest

from runyard.core.house import Root
from runyard.stores import PlaceStore, StoreError, open_place, volume_folder
from runyard.stores.volume import VolumePlace
from runyard.wire.orders import Place
from tests.stores.place_contract import PlaceContract


class TestVolumePlace(PlaceContract):
    @pytest.fixture
    def place(self, tmp_path_factory: pytest.TempPathFactory) -> PlaceStore:
        self.root = tmp_path_factory.mktemp("volume")
        (self.root / "bucket" / "pre" / "fix").mkdir(parents=True)
        return open_place(Place("volume", "bucket", "pre/fix", path=str(self.root)))

    @pytest.fixture
    def bucket(self, place: PlaceStore) -> PlaceStore:
        return open_place(Place("volume", "bucket", path=str(self.root)))

    @pytest.fixture
    def nowhere(self, tmp_path_factory: pytest.TempPathFactory) -> PlaceStore:
        return open_place(Place("volume", "nowhere", path=str(tmp_path_factory.mktemp("volume"))))


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("not yours")
    return tmp_path / "volume"


def at(volume: Path, bucket: str = "") -> VolumePlace:
    return VolumePlace(Place("volume", bucket, path=str(volume)))


def test_no_symbolic_link_is_followed(volume: Path, tmp_path: Path) -> None:
    (volume / "folder").symlink_to(tmp_path / "outside")
    (volume / "file").symlink_to(tmp_path / "outside" / "secret")
    (volume / "plain").write_text("mine")
    place = at(volume)
    assert [item.key for item in place.list()] == ["plain"]
    for key in ("folder/secret", "file"):
        assert place.size_of(key) is None
        with pytest.raises(StoreError) as caught:
            place.get_bytes(key)
        assert caught.value.kind == "not_found"
    with pytest.raises(StoreError):
        place.put_bytes("folder/new", b"x")
    place.put_bytes("file", b"replaced the link, not what it pointed to")
    place.delete(["folder/secret"])
    assert (tmp_path / "outside" / "secret").read_text() == "not yours"
    assert os.listdir(tmp_path / "outside") == ["secret"]


def test_a_bucket_that_is_a_link_is_no_bucket(volume: Path, tmp_path: Path) -> None:
    (volume / "bucket").symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError) as caught:
        at(volume, "bucket").list()
    assert caught.value.kind == "invalid"


@pytest.mark.parametrize("bucket", ["..", "../outside", "a/../../outside", "a//b"])
def test_a_bucket_that_leads_out_is_refused(volume: Path, bucket: str) -> None:
    with pytest.raises(StoreError) as caught:
        at(volume, bucket)
    assert caught.value.kind == "invalid"


def test_a_pipe_neither_blocks_nor_counts(volume: Path) -> None:
    os.mkfifo(volume / "pipe")
    assert at(volume).list() == []
    with pytest.raises(StoreError) as caught:
        at(volume).get_bytes("pipe")
    assert caught.value.kind == "not_found"


def test_only_folders_below_the_roots_may_be_used(volume: Path, tmp_path: Path) -> None:
    (volume / "way-out").symlink_to(tmp_path / "outside")
    (volume / "inside").mkdir()
    roots = [Root(str(volume))]
    inside = Place("volume", "b", path=str(volume / "inside"))
    assert volume_folder(inside, roots) == volume / "inside" / "b"
    assert volume_folder(inside, None) == volume / "inside" / "b"
    assert volume_folder(Place("volume", "", path=str(volume)), roots) == volume
    for path in (tmp_path, tmp_path / "volume-too", volume / "way-out", volume / ".." / "outside"):
        with pytest.raises(StoreError, match=str(volume)) as caught:
            open_place(Place("volume", "b", path=str(path)), volume_roots=roots)
        assert caught.value.kind == "denied"
    with pytest.raises(StoreError, match="none"):
        volume_folder(inside, [])
    for path in (None, "", "relative/path"):
        with pytest.raises(StoreError, match="absolute"):
            volume_folder(Place("volume", "b", path=path), roots)


def test_a_folder_in_the_way_of_a_file_is_a_conflict(volume: Path) -> None:
    place = at(volume)
    place.put_bytes("a/b", b"1")
    for key in ("a", "a/b/c"):
        with pytest.raises(StoreError) as caught:
            place.put_bytes(key, b"2")
        assert caught.value.kind == "invalid"
    assert [item.key for item in place.list()] == ["a/b"]
    assert sorted(os.listdir(volume)) == ["a"]


def test_a_file_that_is_written_to_while_it_is_copied_has_changed(volume: Path, tmp_path: Path) -> None:
    (volume / "k").write_bytes(b"1" * (100 << 20))

    def write_into(_: int) -> None:
        with (volume / "k").open("r+b") as file:
            file.write(b"2")

    with pytest.raises(StoreError) as caught:
        at(volume).fetch("k", tmp_path / "target", size=100 << 20, on_bytes=write_into)
    assert caught.value.kind == "changed"


def test_what_was_being_written_is_not_listed(volume: Path) -> None:
    (volume / "d").mkdir()
    (volume / "d" / ".0123456789abcdef.runyard").write_text("half")
    (volume / ".runyard").write_text("a file of the user")
    assert [item.key for item in at(volume).list()] == [".runyard"]


def test_a_name_that_no_key_can_have_is_told(volume: Path) -> None:
    (volume / "back\\slash").write_text("odd")
    (volume / "ok").write_text("ok")
    odd: list[str] = []
    assert [item.key for item in at(volume).list(left_out=odd.append)] == ["ok"]
    assert odd == ["back\\slash"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(volume: Path) -> None:
    os.chown(volume, 12345, 12346)
    at(volume, "bucket").put_bytes("a/b", b"x")
    for path in (volume / "bucket", volume / "bucket" / "a", volume / "bucket" / "a" / "b"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)
    assert (volume / "bucket" / "a" / "b").stat().st_mode & 0o777 == 0o644
