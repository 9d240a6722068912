"""The node's parts, each alone with real files, threads and servers."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.node.cache import Cache, remove_tree
from runyard.node.evidence import Evidence
from runyard.node.home import AttemptFolder, Home, open_home
from runyard.node.lanes import Crew, Lanes, Later
from runyard.node.link import Address, Link, Refused, Unreachable
from runyard.node.parallel import Patience, for_each
from runyard.node.prepare import Stopped, copy_tree
from runyard.node.report import Report
from runyard.node.ship import STEADY_AFTER, STEADY_S, Shipping, Stream
from runyard.node.sweep import Found, LeftOut, Tree, open_step_by_step
from runyard.node.views import merge
from runyard.testing.wire_server import WireServer
from runyard.wire import facts
from tests.support.waiting import wait_until

RUN = "training-a1B2c3D4e"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(str(tmp_path / "home"))


@pytest.fixture
def server() -> Iterator[WireServer]:
    served = WireServer()
    served.start()
    yield served
    served.stop()


def link_to(server: WireServer, token: str = "node-token") -> Link:
    return Link(Address(server.url, "n1", token), timeout_s=5)


# ------------------------------------------------------------------------------------------------------------ threads


def test_a_lane_does_one_thing_at_a_time_in_order_and_lanes_go_beside_each_other() -> None:
    lanes, crew = Lanes(), Crew("test", 4)
    done: list[int] = []
    inside = [0, 0]
    gate, other = threading.Event(), threading.Event()

    def job(number: int) -> None:
        inside[0] += 1
        inside[1] = max(inside)
        gate.wait(10)
        done.append(number)
        inside[0] -= 1

    for number in range(5):
        lanes.put("a", crew, lambda n=number: job(n))
    lanes.put("b", crew, other.set)
    assert other.wait(5)
    gate.set()
    wait_until(lambda: len(done) == 5, "the jobs")
    assert (done, inside[1]) == ([0, 1, 2, 3, 4], 1)


def test_a_mistake_in_a_job_holds_up_neither_lane_nor_crew(capfd: pytest.CaptureFixture[str]) -> None:
    lanes, crew, done = Lanes(), Crew("test", 1), threading.Event()
    lanes.put("a", crew, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    lanes.put("a", crew, done.set)
    assert done.wait(5)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_later_keeps_the_order_of_times() -> None:
    later, done = Later(), list[str]()
    later.put(0.05, lambda: done.append("second"))
    later.put(0.01, lambda: done.append("first"))
    wait_until(lambda: len(done) == 2, "both")
    assert done == ["first", "second"]


def test_for_each_does_everything_and_stops_at_the_first_error() -> None:
    crew, seen = Crew("test", 4), list[int]()
    for_each(crew, range(100), seen.append, width=4)
    assert sorted(seen) == list(range(100))
    begun = list[int]()

    def fail(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise KeyError(number)

    with pytest.raises(KeyError):
        for_each(crew, range(10_000), fail, width=2)
    assert len(begun) < 100


def test_a_long_list_does_not_keep_a_short_one_waiting() -> None:
    crew, stop, began = Crew("test", 2), threading.Event(), threading.Event()

    def slow(_: int) -> None:
        began.set()
        stop.wait(0.001)

    def endless() -> Iterator[int]:
        while not stop.is_set():
            yield 1

    long = threading.Thread(target=lambda: for_each(crew, endless(), slow, width=2))
    long.start()
    began.wait(5)
    short = list[int]()
    for_each(crew, [1, 2, 3], short.append, width=2)
    stop.set()
    long.join(5)
    assert sorted(short) == [1, 2, 3]


def test_patience_runs_out_and_is_renewed() -> None:
    waited = list[float]()

    def wait(seconds: float) -> None:
        waited.append(seconds)
        time.sleep(0.01)

    patience = Patience(0.03, wait)
    while patience.is_left():
        pass
    assert 1 <= len(waited) <= 4
    patience.went_well()
    assert patience.is_left()


# ---------------------------------------------------------------------------------------------------------- the link


def test_requests_go_over_one_kept_connection_and_over_a_restart(server: WireServer) -> None:
    link = link_to(server)
    assert link.ask("POST", "/facts", facts.encode([])) == b"[]"
    server.stop()
    with pytest.raises(Unreachable):
        link.ask("POST", "/facts", facts.encode([]))
    server.start()
    assert link.ask("POST", "/facts", facts.encode([])) == b"[]"


def test_a_wrong_token_is_a_refusal(server: WireServer) -> None:
    with pytest.raises(Refused) as refused:
        link_to(server, "wrong").ask("POST", "/facts", b"[]")
    assert refused.value.status == 401


def test_the_token_is_not_shown(server: WireServer) -> None:
    assert "node-token" not in repr(Address(server.url, "n1", "node-token"))


def test_facts_wait_for_the_hello_and_are_sent_again_after_the_next(server: WireServer) -> None:
    report = Report(link_to(server))
    threading.Thread(target=report.send_for_ever, daemon=True).start()
    began, ended = facts.Began(RUN, 1, 5), facts.Exited(RUN, 1, 9, 0)
    report.tell(ended)
    assert server.facts == []
    report.renew([began, ended])
    server.wait(lambda: server.facts == [began, ended], "both facts, once, in order")
    report.renew([facts.Began(RUN, 1, 5)])
    server.wait(lambda: server.facts == [began, ended, began], "the fact again")


def test_a_fact_that_the_server_stumbles_over_does_not_keep_the_others_from_it(server: WireServer) -> None:
    bad = facts.Began(RUN, 13, 1)
    server.fact_status = lambda told: 500 if bad in told else 0
    report = Report(link_to(server))
    threading.Thread(target=report.send_for_ever, daemon=True).start()
    good = [facts.Began(RUN, number, 1) for number in (1, 2)]
    report.renew([good[0], bad, good[1]])
    server.wait(lambda: all(fact in server.facts for fact in good), "the good facts")
    server.fact_status = lambda _: 0
    server.wait(lambda: bad in server.facts, "the other, once the server takes it")


# -------------------------------------------------------------------------------------------------------------- logs


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptFolder:
    (tmp_path / "training-log.txt").write_bytes(b"")
    return AttemptFolder(RUN, 1, str(tmp_path))


def test_growth_is_shipped_in_ranges_and_coalesced(server: WireServer, attempt: AttemptFolder) -> None:
    shipping = Shipping(link_to(server))
    shipping.open(attempt, fresh=True)
    with open(attempt.log("training-log"), "ab", buffering=0) as log:
        for number in range(300):
            log.write(b"line %d\n" % number)
            time.sleep(0.001)
        log.write(b"x" * 3_000_000)
    shipping.finish(attempt)
    expected = Path(attempt.log("training-log")).read_bytes()
    server.wait(lambda: server.log(RUN) == expected, "the whole log")
    assert max(size for _, _, size in server.puts) <= 1 << 20
    assert len(server.puts) < 60
    done = threading.Event()
    shipping.when_done(RUN, done.set)
    assert done.wait(5)


def test_a_log_that_grows_all_the_time_is_sent_more_seldom_and_its_end_at_once(
    server: WireServer, attempt: AttemptFolder
) -> None:
    shipping = Shipping(link_to(server))
    shipping.open(attempt, fresh=True)
    over = threading.Event()

    def grow() -> None:
        with open(attempt.log("training-log"), "ab", buffering=0) as log:
            while not over.wait(0.01):
                log.write(b"line\n")

    writer = threading.Thread(target=grow)
    writer.start()
    server.wait(lambda: len(server.puts) > STEADY_AFTER, "the log to be steady")
    sent, since = len(server.puts), time.monotonic()
    server.wait(lambda: len(server.puts) >= sent + 4, "four looks")
    took = time.monotonic() - since
    over.set()
    writer.join()
    shipping.finish(attempt)
    expected = Path(attempt.log("training-log")).read_bytes()
    server.wait(lambda: server.log(RUN) == expected, "the whole log")
    assert took > 2 * STEADY_S


def test_the_servers_size_is_the_truth_forwards_and_backwards(server: WireServer, attempt: AttemptFolder) -> None:
    Path(attempt.log("training-log")).write_bytes(b"0123456789")
    server.logs[RUN, 1, "training-log"] = b"01234"
    shipping = Shipping(link_to(server))
    shipping.finish(attempt)
    server.wait(lambda: server.log(RUN) == b"0123456789", "the rest")
    assert server.puts == [(f"{RUN}/1/training-log", 5, 5)]
    server.logs[RUN, 1, "training-log"] = b"01"
    shipping.renew()
    server.wait(lambda: server.log(RUN) == b"0123456789", "what the server had lost")


def test_an_end_that_is_known_after_the_reading_does_not_count_as_read(
    server: WireServer, attempt: AttemptFolder
) -> None:
    shipping = Shipping(link_to(server))
    stream = Stream(attempt, "training-log", acked=0, final=10)  # the end came when the file had been read in vain
    assert shipping.put(stream, 0, None) == 0
    assert shipping.put(stream, 0, 10) == 10  # a file that is shorter than it was to be
    assert server.puts == []


def test_one_refused_stream_does_not_hold_up_another(server: WireServer, tmp_path: Path) -> None:
    other = AttemptFolder(RUN, 2, str(tmp_path / "other"))
    os.mkdir(other.path)
    (tmp_path / "training-log.txt").write_bytes(b"a")
    Path(other.log("training-log")).write_bytes(b"b")
    append = server.append

    def choosy(key: tuple[str, int, str], offset: int, chunk: bytes) -> int:
        return 0 if key[1] == 1 else append(key, offset, chunk)

    server.append = choosy
    shipping = Shipping(link_to(server))
    shipping.finish(AttemptFolder(RUN, 1, str(tmp_path)))
    shipping.finish(other)
    server.wait(lambda: server.log(RUN, 2) == b"b", "the other log")
    server.append = append
    server.wait(lambda: server.log(RUN, 1) == b"a", "the log that was refused")


# ------------------------------------------------------------------------------------------------------------- files


def test_a_tree_is_read_without_leaving_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret").write_text("secret")
    root = tmp_path / "in"
    (root / "a").mkdir(parents=True)
    (root / "a" / "file").write_text("12345")
    (root / "up").symlink_to("../out/secret")
    (root / "far").symlink_to(tmp_path / "out" / "secret")
    (root / "folder").symlink_to("a")
    (root / "good").symlink_to("a/file")
    (root / "own").symlink_to(root / "a" / "file")
    os.mkfifo(root / "fifo")
    with Tree(str(tmp_path), "in") as tree:
        found = {item.path: item for item in tree.walk()}
        assert {path for path, item in found.items() if isinstance(item, Found)} == {"a/file", "good", "own"}
        assert {path: item.why for path, item in found.items() if isinstance(item, LeftOut)} == {
            "up": "it is a link that leads outside",
            "far": "it is a link that leads outside",
            "folder": "it is a link to something else than a file",
            "fifo": "it is not a plain file",
        }
        for path in ("up", "far", "../out/secret", "fifo", "a/../../out/secret"):
            with pytest.raises(OSError):
                tree.open(path)


def test_a_root_that_became_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "D").mkdir()
    (tmp_path / "D" / "own").symlink_to("/etc")
    for inside in ("own", "own/ssl"):
        with pytest.raises(OSError):
            Tree(str(tmp_path / "D"), inside)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_other_users_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, owner in (("mine", 4711), ("others", 4712)):
        (tmp_path / "in" / name).touch()
        os.chown(tmp_path / "in" / name, owner, owner)
    with Tree(str(tmp_path), "in", 4711) as tree:
        assert [type(item) for item in tree.walk()] == [Found, LeftOut]


def test_the_way_of_older_kernels_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("x")
    (tmp_path / "link").symlink_to("a")
    root = os.open(tmp_path, os.O_RDONLY)
    os.close(open_step_by_step(root, "a/b/file", os.O_RDONLY))
    for path in ("link/b/file", "a/../a/b/file", "link"):
        with pytest.raises(OSError):
            open_step_by_step(root, path, os.O_RDONLY)
    os.close(root)


def test_a_copy_keeps_modes_and_times_and_can_be_stopped(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "run.sh").write_bytes(b"x" * 100_000)
    (source / "sub" / "run.sh").chmod(0o755)
    (source / "empty").write_bytes(b"")
    os.utime(source / "sub" / "run.sh", (5, 5))
    (tmp_path / "target").mkdir()
    copy_tree(str(source), str(tmp_path / "target"), None)
    copied = tmp_path / "target" / "sub" / "run.sh"
    assert copied.read_bytes() == b"x" * 100_000
    assert (copied.stat().st_mode & 0o777, copied.stat().st_mtime) == (0o755, 5)
    (tmp_path / "again").mkdir()
    with pytest.raises(Stopped):
        copy_tree(str(source), str(tmp_path / "again"), None, lambda: True)


def test_the_cache_drops_what_was_used_longest_ago_and_nothing_pinned(home: Home) -> None:
    cache = Cache(home, limit=250)
    paths = {}
    for number, key in enumerate(("a", "b", "c", "d")):
        folder = cache.temporary()
        Path(folder, "file").write_bytes(b"x" * 100)
        os.chmod(folder, 0o755)
        paths[key] = cache.keep(folder, "data", key, 100, 0o555)
        os.utime(paths[key] + ".size", (number, number))
    assert cache.has("data", "b")  # used now
    assert cache.excess() == 150
    assert set(cache.trim(cache.excess(), {paths["a"]})) == {paths["c"], paths["d"]}
    assert (cache.excess(), Cache(home, limit=250).excess()) == (-50, -50)
    assert cache.excess(1 << 60) > 1 << 59
    assert sorted(p.name for p in Path(home.data).iterdir() if p.suffix != ".new") == ["a", "a.size", "b", "b.size"]
    assert not cache.has("data", "c")


def test_what_was_not_whole_is_gone_after_a_restart(home: Home) -> None:
    for _ in range(50):  # each beside the thread that removes what the one before put aside
        Path(Cache(home).temporary(), "half").write_text("x")
        Cache(home)
        assert list(Path(home.temporary).iterdir()) == []
    wait_until(lambda: not os.listdir(home.root + "/cache/trash"), "an empty trash")


def test_who_wants_an_entry_that_is_being_made_waits_for_it(home: Home) -> None:
    cache, order = Cache(home), list[str]()
    inside = threading.Event()

    def second() -> None:
        inside.wait(5)
        with cache.making("data", "k"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with cache.making("data", "k"):
        inside.set()
        time.sleep(0.02)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_a_tree_with_closed_folders_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "t" / "closed").mkdir(parents=True)
    (tmp_path / "t" / "closed" / "file").touch()
    (tmp_path / "t" / "out").symlink_to(tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    (tmp_path / "t" / "closed").chmod(0)
    remove_tree(str(tmp_path / "t"))
    remove_tree(str(tmp_path / "t"))
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_merging_goes_as_deep_as_it_must(home: Home, tmp_path: Path) -> None:
    for name, files in (("one", ("a/b/1", "top")), ("two", ("a/b/2", "a/c", "top")), ("three", ("a/b/3/x",))):
        for file in files:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    evidence = Evidence()
    sources = [(name, str(tmp_path / name)) for name in ("one", "two", "three")]
    merged = Path(merge(Cache(home), sources, "k", evidence))
    found = {str(p.relative_to(merged)): p.read_text() for p in merged.glob("**/*") if p.is_file()}
    assert found == {"a/b/1": "one", "a/b/2": "two", "a/c": "two", "top": "one"} | (
        {"a/b/3/x": "three"} if "a/b/3/x" in found else {}
    )
    assert (merged / "a" / "b" / "3" / "x").read_text() == "three"
    assert "top of 'two'" in evidence.text()
