"""Many small objects of the embedded store at once."""

import os
import threading
from pathlib import Path

import pytest

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
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_form_of_a_body() -> None:
    given = [(objects.Named("acme", "b", "k", 3), b"abc"), (objects.Named("acme", "b", "\n", 0), b"")]
    body = objects.encode(given)
    assert [(named, bytes(content)) for named, content in objects.decode(body)] == given
    for broken in (body[:-1], body + b"x", b"[]", b"{}\n", b'[["a","b","k",-1]]\n'):
        with pytest.raises(objects.Malformed):
            list(objects.decode(broken) if broken != b"[]" else objects.decode(b"[\n"))
