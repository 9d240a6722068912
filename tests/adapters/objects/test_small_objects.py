"""Many small objects of the embedded store at once."""

import os
import threading
from pathlib import Path

import pytest

from runyard.adapters.objects.alike import MOMENT_S, MOST_OPEN, Alike, add_name, content_of
from runyard.adapters.objects.folder import FolderStore
from runyard.ports.embedded import SmallObject, StoredObject
from runyard.wire import objects


def test_each_is_stored_for_itself(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    wanted = [
        SmallObject("acme", "results", "a/b/c", b"first"),
        SmallObject("acme", "results", "a/b/d", b""),
        SmallObject("acme", "results", "../out", b"never"),
        SmallObject("acme", "results", "a/b/c/e", b"below an object"),
        SmallObject("acme", "results", "a/b/c", b"second"),
    ]
    kept = store.put_all(wanted)
    assert [each.size for each in kept if isinstance(each, StoredObject)] == [5, 0, 6]
    assert [isinstance(each, str) for each in kept] == [False, False, True, True, False]
    assert (tmp_path / "acme/results/a/b/c").read_bytes() == b"second"
    assert (tmp_path / "acme/results/a/b/d").read_bytes() == b""
    assert list((tmp_path / ".incoming").iterdir()) == []
    head = store.head("acme", "results", "a/b/c")
    assert head is not None
    assert head == kept[4]


def test_more_than_are_open_at_a_time_and_one_in_a_folder_that_goes_meanwhile(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    many = [SmallObject("acme", "results", f"run-{number % 7}/{number}", b"%d" % number) for number in range(150)]
    before = len(os.listdir("/proc/self/fd"))
    stop = threading.Event()

    def empty() -> None:
        while not stop.is_set():
            store.delete_prefix("acme", "results", "run-3/")

    thread = threading.Thread(target=empty)
    thread.start()
    try:
        for _ in range(3):
            kept = store.put_all(many)
            assert [each.key for each in kept if isinstance(each, StoredObject)] == [each.key for each in many]
    finally:
        stop.set()
        thread.join()
    store.put_all(many[:7])
    for each in many:
        if not each.key.startswith("run-3/") or each in many[:7]:
            assert (tmp_path / "acme/results" / each.key).read_bytes() == each.content
    assert list((tmp_path / ".incoming").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before + MOST_OPEN
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before - 2


def test_the_form_of_a_body() -> None:
    given = [(objects.Named("acme", "b", "k", 3), b"abc"), (objects.Named("acme", "b", "\n", 0), b"")]
    body = objects.encode(given)
    assert [(named, bytes(content)) for named, content in objects.decode(body)] == given
    for broken in (body[:-1], body + b"x", b"[]", b"{}\n", b'[["a","b","k",-1]]\n'):
        with pytest.raises(objects.Malformed):
            list(objects.decode(broken) if broken != b"[]" else objects.decode(b"[\n"))


def numbers(root: Path, *keys: str) -> list[int]:
    return [(root / "acme/results" / key).stat().st_ino for key in keys]


def put(store: FolderStore, *keys_and_contents: tuple[str, bytes], account: str = "acme") -> None:
    kept = store.put_all([SmallObject(account, "results", key, content) for key, content in keys_and_contents])
    for (key, content), each in zip(keys_and_contents, kept, strict=True):
        assert isinstance(each, StoredObject)
        assert (each.key, each.size) == (key, len(content))
        if dict(keys_and_contents)[key] is content:
            assert store.head(account, "results", key) == each


def test_objects_of_one_content_that_come_together_are_one_file(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    put(store, ("a/same", b"words"), ("b/same", b"words"), ("b/other", b"sdrow"), ("c/same", b"words"))
    assert len(set(numbers(tmp_path, "a/same", "b/same", "c/same"))) == 1
    assert len(set(numbers(tmp_path, "a/same", "b/other"))) == 2
    assert list((tmp_path / ".incoming").iterdir()) == []


def test_what_comes_again_and_again_is_a_name_of_the_file_that_is_there(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(4):
        put(store, (f"{number}/same", b"words"), (f"{number}/own", b"%d" % number))
    assert len(set(numbers(tmp_path, "1/same", "2/same", "3/same"))) == 1
    assert len(os.listdir("/proc/self/fd")) == before + 1, "what came twice is held"
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before - 2


def test_an_object_that_is_written_anew_leaves_those_of_its_old_content_as_they_are(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for number in range(3):
        put(store, (f"{number}", b"words"))
    put(store, ("1", b"other words"), ("2", b"words"), ("2", b"third"), ("2", bytes([*b"words"])))
    contents = [(tmp_path / "acme/results" / key).read_bytes() for key in "012"]
    assert contents == [b"words", b"other words", b"words"]
    assert store.delete("acme", "results", "0")
    put(store, ("0", b"words"))


def test_a_file_that_somebody_has_changed_gives_its_content_to_nobody(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    put(store, ("0", b"words"))
    put(store, ("1", b"words"))
    (tmp_path / "acme/results/1").write_bytes(b"WORDS")
    put(store, ("2", b"words"))
    assert (tmp_path / "acme/results/2").read_bytes() == b"words"


def test_accounts_share_no_file_and_a_moment_ago_is_not_for_ever(tmp_path: Path) -> None:
    now = [0.0]
    alike = Alike(lambda: now[0])
    file = tmp_path / "file"
    file.write_bytes(b"x")
    descriptor = os.open(file, os.O_RDONLY)
    mine, theirs = (content_of(SmallObject(account, "b", "k", b"x")) for account in ("acme", "other"))
    assert mine is not None
    assert theirs is not None
    for _ in range(2):
        assert alike.find(mine) is None
        alike.stored(mine, descriptor)
    found = alike.find(mine)
    assert found is not None
    assert os.path.samestat(os.fstat(found), os.fstat(descriptor))
    os.close(found)
    assert alike.find(theirs) is None
    now[0] += MOMENT_S
    assert alike.find(mine) is None
    os.close(descriptor)


def test_where_files_have_one_name_each_object_is_a_file(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="not permitted"):
        add_name(descriptor, descriptor, "folder")
    os.close(descriptor)
    store._alike.works = False  # pyright: ignore[reportPrivateUsage] - no file system without names is at hand
    put(store, ("a", b"words"), ("b", b"words"))
    assert len(set(numbers(tmp_path, "a", "b"))) == 2
