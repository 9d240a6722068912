"""Views that share objects: fetched once, counted once, kept while somebody needs or pins them, and never believed when
they may not be whole."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import obstore
import pytest

from runyard.node.access import StoreAccess
from runyard.node.became import boot_id
from runyard.node.cache import Cache
from runyard.node.data import Asking, DataFetcher
from runyard.node.evidence import Evidence
from runyard.node.home import Home, open_home
from runyard.node.lasting import Lasting
from runyard.node.shelves import Shelves, Source, head_of, shelf_of
from runyard.node.taking import take_all
from runyard.node.views import batches, earlier_key
from runyard.stores.errors import StoreError
from runyard.stores.local_files import open_target, write_all
from runyard.stores.place import PlaceStore, Target
from runyard.wire import facts, orders
from runyard.wire.orders import Item, Part, Place, Secret
from tests.node.nodes import RUN, NodeProcess, launch_of, stage_of
from tests.support.seaweedfs import S3Server, create_bucket
from tests.support.waiting import wait_until

PLACE = Place("s3", "data", endpoint_url="http://nowhere.test", secret=Secret("id", "key"))
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="files of views are linked only as root")


def item(key: str, size: int = 100) -> Item:
    return Item(key, size, f'"{key}-1"')


@dataclass
class Bucket:
    """A place whose objects are as long as was listed; ``broken``: keys that cannot be reached now."""

    broken: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)

    def fetch(
        self, key: str, target: Target, *, size: int, etag: str = "", on_bytes: Callable[[int], None] | None = None
    ) -> None:
        if key in self.broken:
            raise StoreError("unreachable", f"{key} cannot be reached.")
        with open_target(target, size) as fd:
            write_all(fd, key.encode().ljust(size, b"."), 0)
        self.fetched.append(key)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class Access(StoreAccess):
    bucket: Bucket = field(default_factory=Bucket)

    def open(self, place: Place) -> PlaceStore:
        return self.bucket  # pyright: ignore[reportReturnType] # staging asks for no more


class Stager:
    """Staging on a cache of its own."""

    def __init__(self, home: Home, limit: int = 1 << 30) -> None:
        self.cache = Cache(home, limit)
        self.bucket = Bucket()
        self.evidence = Evidence()
        self.fetcher = DataFetcher(self.cache, Access(None, (), bucket=self.bucket), 0.0)

    def stage(self, *items: Item, place: Place = PLACE) -> tuple[Path, list[str]]:
        """The view's folder and what was fetched for it."""
        self.bucket.fetched.clear()
        asking = Asking("spec", self.evidence, lambda _: None, lambda _: None, lambda _: None)
        found = self.fetcher.stage_all([Part(place, items)], asking)
        assert found.folder is not None
        assert found.fetched == sum(each.size for each in items if each.key in self.bucket.fetched)
        return Path(found.folder), sorted(self.bucket.fetched)

    @property
    def counted(self) -> int:
        return sum(entry.size for entry in self.cache.entries())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(str(tmp_path / "home"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bucket_with_one_new_object_costs_one_object(home: Home) -> None:
    stager = Stager(home)
    old, fetched = stager.stage(item("a/x"), item("b"))
    assert fetched == ["a/x", "b"]
    new, fetched = stager.stage(item("a/x"), item("b"), item("c"))
    assert fetched == ["c"]
    assert files(new) == files(old) | {"c": b"c".ljust(100, b".")}
    assert {path.stat().st_mode & 0o777 for path in new.rglob("*") if path.is_file()} == {0o444}
    assert "2 of them are in this machine's cache" in stager.evidence.text()
    changed = Item("b", 100, '"b-2"')
    assert stager.stage(item("a/x"), changed)[1] == ["b"]
    assert stager.stage(item("a/x"), changed)[1] == []


def test_listings_of_parts_of_a_bucket_share_too_and_other_buckets_do_not(home: Home) -> None:
    stager = Stager(home)
    stager.stage(item("set/a"), item("set/b"))
    below = Place("s3", "data", "set", endpoint_url="http://NOWHERE.test/", secret=Secret("other", "keys"))
    assert stager.stage(Item("a", 100, '"set/a-1"'), place=below)[1] == []
    assert stager.stage(item("set/a"), place=Place("s3", "more", endpoint_url="http://nowhere.test"))[1] == ["set/a"]
    assert stager.stage(item("set/a"), place=Place("s3", "data", endpoint_url="http://else.test"))[1] == ["set/a"]


def test_a_store_is_the_same_for_all_who_may_list_it_and_the_embedded_one_is_each_accounts_own() -> None:
    mine, yours = (Place("s3", "b", account=name, endpoint_url="http://h") for name in ("me", "you"))
    assert shelf_of(mine) == shelf_of(yours)
    mine, yours = (Place("local", "b", account=name) for name in ("me", "you"))
    assert shelf_of(mine) != shelf_of(yours)


def test_objects_without_an_etag_are_never_taken_for_others(home: Home) -> None:
    stager = Stager(home)
    stager.stage(Item("a", 100), item("b"))
    assert stager.stage(Item("a", 100), item("b"), item("c"))[1] == ["a", "c"]


@root_only
def test_shared_bytes_are_counted_once_whoever_goes_first(home: Home) -> None:
    stager = Stager(home)
    first, _ = stager.stage(item("a", 1000), item("b", 10))
    second, _ = stager.stage(item("a", 1000), item("c", 5))
    assert (first / "a").stat().st_ino == (second / "a").stat().st_ino
    assert stager.counted == 1015
    assert stager.cache.trim(1, {str(second)}) == [str(first)]
    assert stager.counted == 1005
    assert stager.cache.excess() == 1005 - (1 << 30) == Cache(home, 1 << 30).excess()
    assert (second / "a").read_bytes() == b"a".ljust(1000, b".")
    assert stager.cache.trim(1, ()) == [str(second)]
    assert (stager.counted, os.listdir(home.data)) == (0, [])


def test_what_has_come_of_a_listing_is_there_for_the_next_try(home: Home) -> None:
    stager = Stager(home)
    stager.bucket.broken.add("z")
    with pytest.raises(StoreError):
        stager.stage(*(item(f"k{number}") for number in range(50)), item("z"))
    came = set(stager.bucket.fetched)
    assert came
    assert os.listdir(home.temporary) == []
    stager.bucket.broken.clear()
    view, fetched = stager.stage(*(item(f"k{number}") for number in range(50)), item("z"))
    assert "z" in fetched
    assert not came & set(fetched)
    assert len(files(view)) == 51
    assert [entry.path for entry in stager.cache.entries()] == [str(view)], "the rest has gone into the view"


def test_an_object_that_two_listings_want_at_once_is_fetched_by_one(home: Home) -> None:
    shelves, order = Shelves(home.data), list[str]()
    inside = threading.Event()

    def second() -> None:
        inside.wait(10)
        with shelves.claiming(PLACE, [item("b"), item("c")]):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with shelves.claiming(PLACE, [item("a"), item("b")]):
        with shelves.claiming(PLACE, [item("d")]):
            inside.set()
        with shelves.claiming(Place("s3", "other", endpoint_url="http://nowhere.test"), [item("b")]):
            order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_copy_is_not_made_of_what_a_program_has_changed(home: Home, tmp_path: Path) -> None:
    stager = Stager(home)
    view, _ = stager.stage(item("a"), item("b"))
    sources = stager.cache.shelves.find(PLACE, [item("a"), item("b")])
    (view / "b").chmod(0o600)
    (view / "b").write_bytes(b"e" * 100)
    (tmp_path / "new").mkdir()
    wanted = {key: item(key) for key in ("a", "b")}
    assert take_all(sources, wanted, str(tmp_path / "new"), link=False) == {"a": True}
    assert (tmp_path / "new" / "a").stat().st_ino != (view / "a").stat().st_ino
    assert list(files(tmp_path / "new")) == ["a"]
    gone = {"a": Source(str(view), str(view / "nowhere"), 0)}
    assert take_all(gone, wanted, str(tmp_path / "new"), link=True) == {}


def test_a_view_of_another_boot_that_was_not_flushed_is_not_believed(home: Home) -> None:
    view, _ = Stager(home).stage(item("a"))
    mark = Path(f"{view}.new")
    assert mark.read_text() == boot_id()
    assert Stager(home).stage(item("a"))[1] == []
    mark.write_text("another boot")
    assert Stager(home).stage(item("a"))[1] == ["a"]


def test_a_view_that_was_flushed_needs_no_mark(home: Home) -> None:
    view, _ = Stager(home).stage(item("a"))
    Lasting(home.data, lambda _: None, 0.0)
    wait_until(lambda: not Path(f"{view}.new").exists(), "a flush")


def test_what_a_killed_node_left_between_two_steps_is_cleared(home: Home) -> None:
    view, _ = Stager(home).stage(item("a"))
    Path(f"{view}.size").unlink()
    for ending in ("size", "items", "new"):
        Path(home.data, f"absent.{ending}").write_text("1")
    Path(home.data, "absent.items").write_text("no head")
    assert Stager(home).counted == 0
    assert os.listdir(home.data) == []


def test_a_view_of_an_earlier_version_is_found(home: Home) -> None:
    items = (item("a"), item("b"))
    old = Path(home.data, earlier_key(Part(PLACE, items), "spec"))
    old.mkdir()
    Path(f"{old}.size").write_text("200")
    assert Stager(home).stage(*items) == (old, [])


def test_a_pinned_bucket_stays_and_is_known_after_a_restart(home: Home) -> None:
    stager = Stager(home)
    view, _ = stager.stage(item("a"))
    stager.cache.pins.set("data", pinned=True)
    again = Cache(home)
    assert again.trim(1000, ()) == []
    again.pins.set("data", pinned=False)
    assert again.trim(1000, ()) == [str(view)]


def test_what_is_held_is_not_removed(home: Home) -> None:
    stager = Stager(home)
    view, _ = stager.stage(item("a"))
    with stager.cache.holding() as hold, stager.cache.holding() as twice:
        hold(str(view))
        twice(str(view))
        assert stager.cache.trim(1000, ()) == []
    assert stager.cache.trim(1000, ()) == [str(view)]


def test_small_objects_travel_in_lots() -> None:
    items = [Item(str(number), 10) for number in range(1100)] + [Item("large", 9 << 20), Item("last", 1)]
    lots: list[Sequence[Item]] = list(batches(items))
    assert [each for lot in lots for each in lot if each.key != "large"] == [*items[:1100], items[-1]]
    assert max(map(len, lots)) == 500
    assert [lot for lot in lots if lot[0].key == "large"] == [(items[1100],)]
    assert [len(lot) for lot in batches([Item(str(n), 200 << 10) for n in range(50)])] == [20, 20, 10]


def test_a_head_says_where_from_and_how_much() -> None:
    head = head_of(Place("local", "b", "p/", account="me"), [item("a"), item("b")])
    assert (head.kind, head.bucket, head.prefix, head.address, head.account) == ("local", "b", "p", "", "me")
    assert (head.objects, head.size) == (2, 200)


# ------------------------------------------------------------------------------------------------- with a real node


def asked(node: NodeProcess, number: int, action: str, bucket: str = "") -> facts.CacheState:
    node.server.give(orders.CacheCommand(number, action, bucket))
    return node.server.wait_for(facts.CacheState, lambda fact: fact.number == number)


def test_a_node_tells_pins_and_clears_what_it_has(node: NodeProcess) -> None:
    place = Place("local", "data", "set", account="acme", name="d")
    listed = tuple(
        Item(key, len(key), node.server.put_object("data", f"set/{key}", key.encode()).etag) for key in ("a", "bb", "c")
    )
    node.server.give(launch_of(stage_of(node.server, {"run.py": "pass"}, data=(Part(place, listed),)), "true"))
    node.server.wait_for(facts.Exited)
    told = asked(node, 1, "tell")
    (found,) = told.items
    assert (found.kind, found.bucket, found.prefix, found.account) == ("local", "data", "set", "acme")
    assert (found.objects, found.size, found.own, found.pinned) == (3, 4, 4, False)
    assert told.size > 4
    assert asked(node, 2, "clear").items == told.items, "its run is not released yet"
    node.server.give(orders.Release(RUN))
    node.server.forget(RUN)
    wait_until(lambda: not (node.home / "runs" / RUN).exists(), "the release")
    assert asked(node, 3, "pin", "data").pins == ("data",)
    assert asked(node, 4, "clear").items[0].pinned
    assert asked(node, 5, "clear", "other").removed == 0
    assert asked(node, 6, "unpin", "data").pins == ()
    done = asked(node, 7, "clear", "data")
    assert (done.removed, done.items) == (1, ())
    node.server.wait(lambda: node.server.hellos[-1].staged == (), "a hello that says what is left")


@pytest.mark.s3
def test_a_bucket_of_a_real_store_with_one_new_object(node: NodeProcess, s3_server: S3Server) -> None:
    store = create_bucket(s3_server, "node-sharing")
    secret = Secret(s3_server.access_key_id, s3_server.secret_access_key)
    place = Place("s3", "node-sharing", endpoint_url=s3_server.endpoint_url, region="us-east-1", secret=secret)
    contents = {"large.bin": os.urandom(40 << 20), "small/a.txt": b"a", "small/b.txt": b"bb"}

    def staged(spec: int, **new: bytes) -> int:
        for key, content in new.items():
            obstore.put(store, key, content)
        metas = [meta for batch in obstore.list(store) for meta in batch]
        items = tuple(Item(meta["path"], meta["size"], meta["e_tag"] or "") for meta in metas)
        node.server.give(orders.Stage(spec, None, (Part(place, items),)))
        return node.server.wait_for(facts.Staged, lambda fact: fact.spec == spec, 60).fetched

    assert staged(1, **contents) == (40 << 20) + 3
    assert staged(2) == 0
    assert staged(3, **{"small/c.txt": b"ccc"}) == 3
    views = [path for path in (node.home / "cache" / "data").iterdir() if path.is_dir()]
    assert sorted(map(len, map(files, views))) == [3, 4]
    for view in views:
        assert files(view).items() >= contents.items()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_cache_that_was_removed_meanwhile_is_nobodys_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lasting = Lasting(str(tmp_path / "data"), lambda _: None, 0.0)
    (tmp_path / "data").rmdir()
    lasting.whole("key")
    threads = [thread for thread in threading.enumerate() if thread.name == "lasting"]
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
