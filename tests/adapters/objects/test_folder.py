"""The embedded store in a folder: the contract of object stores over it, and the end-points' view of it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runyard.adapters.objects import FolderStore, Stores
from runyard.core.errors import StoreUnavailable
from runyard.core.spec import Connection, Location, StoreKind
from runyard.ports.objects import Verdict
from runyard.testing.objects_contract import ACCOUNT, ObjectsCase, ObjectStoresContract
from tests.support.waiting import wait_until


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[FolderStore]:
    made = FolderStore(root)
    yield made
    made.close()


def put(store: FolderStore, key: str, content: bytes, bucket: str = "bucket", account: str = ACCOUNT) -> str:
    writer = store.put(account, bucket, key)
    writer.write(content)
    return writer.commit().etag


def content_of(store: FolderStore, key: str, bucket: str = "bucket") -> bytes | None:
    found = store.open(ACCOUNT, bucket, key)
    if found is None:
        return None
    with found[0] as file:
        return file.read()


def keys(store: FolderStore, **asked: str | int) -> list[str]:
    found = store.list(ACCOUNT, "bucket", **asked)  # pyright: ignore[reportArgumentType] # each by its own name
    assert found is not None
    return [each.key for each in found]


class TestEmbeddedObjects(ObjectStoresContract):
    @pytest.fixture
    def case(self, store: FolderStore) -> ObjectsCase:
        put(store, "first", b"")
        store.delete(ACCOUNT, "bucket", "first")

        def location(bucket: str, prefix: str) -> Location:
            return Location(StoreKind.local, Connection(), bucket, prefix)

        def write(bucket: str, key: str, content: bytes) -> None:
            put(store, key, content, bucket)

        return ObjectsCase(Stores(store), location, write, makes_buckets=True)


def test_an_account_sees_its_own_buckets_alone(store: FolderStore) -> None:
    put(store, "k", b"mine")
    put(store, "k", b"theirs", account="other")
    put(store, "k", b"theirs", "another-bucket", "other")
    assert (store.buckets(ACCOUNT), store.buckets("other"), store.buckets("nobody")) == (
        ["bucket"],
        ["another-bucket", "bucket"],
        [],
    )
    stores = Stores(store)
    location = Location(StoreKind.local, Connection(), "another-bucket")
    assert stores.check(location, None, write=False, account_id=ACCOUNT).verdict is Verdict.not_found
    assert stores.list(location, None, account_id=ACCOUNT).checked.verdict is Verdict.not_found
    assert stores.delete_prefix(location, None, "k", account_id=ACCOUNT) == 0
    assert stores.read(location, None, "k", account_id=ACCOUNT) is None
    assert stores.check(location, None, write=False, account_id="other").verdict is Verdict.ok


def test_objects_are_plain_files_of_their_owner_alone(store: FolderStore, root: Path) -> None:
    put(store, "deep/er/key.txt", b"look at me")
    assert (root / ACCOUNT / "bucket" / "deep" / "er" / "key.txt").read_bytes() == b"look at me"
    assert root.stat().st_mode & 0o777 == 0o700
    assert os.listdir(root / ".incoming") == []


def test_nothing_is_seen_before_it_is_complete(store: FolderStore, root: Path) -> None:
    put(store, "k", b"as it was")
    before = store.head(ACCOUNT, "bucket", "k")
    writer = store.put(ACCOUNT, "bucket", "k")
    writer.write(b"half of it")
    assert content_of(store, "k") == b"as it was"
    writer.abort()
    writer.abort()
    assert store.head(ACCOUNT, "bucket", "k") == before
    assert os.listdir(root / ".incoming") == []
    with pytest.raises(ValueError, match="given up"):
        writer.write(b"more")
    second = store.put(ACCOUNT, "new-bucket", "k")
    assert store.buckets(ACCOUNT) == ["bucket"]
    second.abort()


def test_what_was_opened_stays_what_it_was(store: FolderStore) -> None:
    put(store, "k", b"first")
    found = store.open(ACCOUNT, "bucket", "k")
    assert found is not None
    put(store, "k", b"second, longer")
    store.delete(ACCOUNT, "bucket", "k")
    with found[0] as file:
        file.seek(2)
        assert file.read(2) == b"rs"
    assert found[1].size == 5


def test_every_content_has_its_own_etag_and_time(store: FolderStore) -> None:
    etags = [put(store, "k", b"same") for _ in range(200)]
    assert len(set(etags)) == 200
    head = store.head(ACCOUNT, "bucket", "k")
    assert head is not None
    assert head.etag == etags[-1]
    assert abs(head.modified_ms - os.stat("/proc/self").st_mtime * 1000) < 3_600_000


def test_etags_differ_although_the_clock_stands_still(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_123_456_789)
    etags = [put(store, "k", b"same") for _ in range(20)]
    assert len(set(etags)) == 20
    found = store.head(ACCOUNT, "bucket", "k")
    assert found is not None
    assert (found.modified_ms, found.etag) == (1_700_000_000_123, etags[-1])


def test_a_listing_goes_page_by_page_in_the_order_of_keys(store: FolderStore) -> None:
    names = ["a", "a-b", "a.txt", "a/", "a0", "b/c/d", "b/c-d", "b/c.d", "ba", "z/é", "z/~", "Z", "汉/字"]
    expected = sorted(name if not name.endswith("/") else "A/x" for name in names)
    for key in expected:
        put(store, key, key.encode())
    assert keys(store) == expected
    paged: list[str] = []
    while page := keys(store, limit=3, after=paged[-1] if paged else ""):
        paged += page
    assert paged == expected
    for prefix in ("a", "b/", "b/c", "b/c/", "z", "nothing", "汉"):
        assert keys(store, prefix=prefix) == [key for key in expected if key.startswith(prefix)]
        for after in ("a", "b/c-d", "b/c/d", "b", "zz"):
            wanted = [key for key in expected if key.startswith(prefix) and key > after]
            assert keys(store, prefix=prefix, after=after) == wanted
    assert store.list(ACCOUNT, "gone") is None
    assert keys(store, limit=0) == []


HOSTILE = ["", "/abs", "../up", "a/../../up", "a//b", "a/", "./a", "nul\0", "a\\b", "tab\t", "\udc80", "s" * 256,
           "/".join("a" * 65)]  # fmt: skip


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_refused(store: FolderStore, root: Path, key: str) -> None:
    for ask in (store.put, store.open, store.head, store.delete):
        with pytest.raises(StoreUnavailable) as caught:
            ask(ACCOUNT, "bucket", key)
        assert caught.value.code == "invalid_request"
        assert "key" in caught.value.message
    assert sorted(os.listdir(root)) == [".incoming"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "b" * 64, "b c", "ü", "a\0"])
def test_a_hostile_bucket_or_account_is_refused(store: FolderStore, root: Path, name: str) -> None:
    for account, bucket in ((ACCOUNT, name), (name or "/", "bucket"), (".incoming", "bucket")):
        if account == "b" * 64:
            continue  # accounts may be that long
        for ask in (
            lambda account=account, bucket=bucket: store.put(account, bucket, "k"),
            lambda account=account, bucket=bucket: store.list(account, bucket),
            lambda account=account, bucket=bucket: store.delete_prefix(account, bucket, ""),
        ):
            with pytest.raises(StoreUnavailable) as caught:
                ask()
            assert caught.value.code == "invalid_request"
    location = Location(StoreKind.local, Connection(), name)
    stores = Stores(store)
    assert stores.check(location, None, write=True, account_id=ACCOUNT).verdict is Verdict.denied
    assert stores.list(location, None, account_id=ACCOUNT).checked.verdict is Verdict.denied
    assert sorted(os.listdir(root)) == [".incoming"]


def test_a_key_cannot_be_an_object_and_a_folder(store: FolderStore, root: Path) -> None:
    put(store, "a/b", b"1")
    for key in ("a", "a/b/c", "a/b/c/d"):
        writer = store.put(ACCOUNT, "bucket", key)
        writer.write(b"2")
        with pytest.raises(StoreUnavailable, match="folder of others") as caught:
            writer.commit()
        assert caught.value.code == "conflict"
        writer.abort()
    assert keys(store) == ["a/b"]
    assert os.listdir(root / ".incoming") == []
    assert content_of(store, "a") is None
    assert content_of(store, "a/b/c") is None
    assert not store.delete(ACCOUNT, "bucket", "a")
    assert store.delete(ACCOUNT, "bucket", "a/b")
    put(store, "a", b"3")
    assert content_of(store, "a") == b"3"


def test_an_empty_folder_of_a_person_gives_way(store: FolderStore, root: Path) -> None:
    put(store, "other", b"")
    (root / ACCOUNT / "bucket" / "k").mkdir()
    put(store, "k", b"x")
    assert content_of(store, "k") == b"x"


def test_links_are_not_followed(store: FolderStore, root: Path, tmp_path: Path) -> None:
    put(store, "k", b"x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (root / ACCOUNT / "bucket" / "file").symlink_to(tmp_path / "outside" / "secret")
    (root / ACCOUNT / "bucket" / "folder").symlink_to(tmp_path / "outside")
    (root / ACCOUNT / "linked").symlink_to(tmp_path / "outside")
    assert keys(store) == ["k"]
    assert content_of(store, "file") is None
    assert content_of(store, "folder/secret") is None
    assert store.list(ACCOUNT, "linked") is None
    assert store.buckets(ACCOUNT) == ["bucket"]
    assert not store.delete(ACCOUNT, "bucket", "folder/secret")
    assert store.delete_prefix(ACCOUNT, "bucket", "f") == 0
    assert (tmp_path / "outside" / "secret").exists()


def test_deleting_all_takes_the_bucket_and_empty_folders_too(store: FolderStore, root: Path) -> None:
    for key in ("a/b/c", "a/d", "e"):
        put(store, key, b"x")
    assert store.delete_prefix(ACCOUNT, "bucket", "a/b") == 1
    assert not (root / ACCOUNT / "bucket" / "a" / "b").exists()
    assert store.delete_prefix(ACCOUNT, "bucket", "") == 2
    assert store.buckets(ACCOUNT) == []
    assert store.delete_prefix(ACCOUNT, "bucket", "") == 0


def test_puts_and_deletes_do_not_trip_over_each_other(store: FolderStore) -> None:
    over = threading.Event()

    def churn(number: int) -> int:
        count = 0
        while not over.is_set():
            put(store, f"shared/folder/{number}", b"x")
            assert store.delete(ACCOUNT, "bucket", f"shared/folder/{number}")
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(churn, number) for number in range(4)]
        for number in range(100):
            put(store, f"shared/other/{number}", b"y")
        over.set()
        assert all(each.result() > 0 for each in running)
    assert len(keys(store)) == 100


def test_a_full_disk_is_told_in_a_sentence(store: FolderStore) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    writer = store.put(ACCOUNT, "bucket", "k")
    inside = writer._open_fd()  # type: ignore[attr-defined] # the only way to a full disk without one
    os.dup2(full, inside)
    os.close(full)
    with pytest.raises(StoreUnavailable, match="full") as caught:
        writer.write(b"x")
    assert caught.value.code == "store_full"
    writer.abort()


WRITER = """
import sys
from pathlib import Path
from runyard.adapters.objects import FolderStore
store = FolderStore(Path(sys.argv[1]))
number = 0
while True:
    writer = store.put("account-1", "bucket", f"k{number % 5}")
    writer.write(str(number).encode() * 20_000)
    writer.write(str(number).encode() * 20_000)
    writer.commit()
    number += 1
"""


def test_killed_at_any_moment_every_object_is_whole(root: Path) -> None:
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(root)])
        wait_until(lambda: (root / ACCOUNT / "bucket" / "k4").exists(), "the fifth object")
        process.send_signal(signal.SIGKILL)
        process.wait()
        store = FolderStore(root)
        assert os.listdir(root / ".incoming") == []
        for key in keys(store):
            content = content_of(store, key)
            assert content is not None
            text = content.decode()
            number = text[: len(text) // 40_000]
            assert text == number * 40_000
        store.delete_prefix(ACCOUNT, "bucket", "k4")
        store.close()
