"""Data: fetched once, seen read-only, merged, refused with evidence."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runyard.wire import facts, orders
from runyard.wire.orders import Item, Part, Place
from tests.node.nodes import OTHER, RUN, NodeProcess, launch_of, of_run, run_to_end, running_node, stage_of
from tests.support.waiting import wait_until

PLACE = Place("local", "data", account="acme", name="d")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    (tmp_path / "open" / "set").mkdir(parents=True)
    (tmp_path / "open" / "set" / "v.txt").write_text("from a volume")
    with running_node(tmp_path, "--patience", "1", "--host-path", str(tmp_path / "open")) as running:
        yield running


def staged(node: NodeProcess, *parts: Part, spec: int = 7) -> facts.Staged:
    node.server.give(stage_of(node.server, {}, spec, data=parts))
    return node.server.wait_for(facts.Staged, lambda fact: fact.spec == spec)


def failed(node: NodeProcess, *parts: Part) -> facts.StageFailed:
    node.server.give(stage_of(node.server, {}, data=parts))
    return node.server.wait_for(facts.StageFailed)


def some(node: NodeProcess, *keys: str, place: Place = PLACE) -> Part:
    return Part(place, tuple(node.server.put_object(place.bucket, key, key.encode() * 3) for key in keys))


def views(node: NodeProcess) -> list[Path]:
    return sorted(p for p in (node.home / "cache" / "data").iterdir() if p.is_dir())


def test_a_view_is_whole_read_only_and_fetched_once(node: NodeProcess) -> None:
    part = some(node, "a/b/c.bin", "top.txt")
    code = len(next(iter(node.server.definitions.values()), b""))
    first = staged(node, part)
    (view,) = views(node)
    assert {str(p.relative_to(view)): p.read_bytes() for p in view.rglob("*") if p.is_file()} == {
        "a/b/c.bin": b"a/b/c.bin" * 3,
        "top.txt": b"top.txt" * 3,
    }
    modes = {stat.S_IMODE(p.stat().st_mode) for p in view.rglob("*") if p.is_file()}
    assert modes == {0o444}
    assert {stat.S_IMODE(p.stat().st_mode) for p in (view, *view.rglob("*")) if p.is_dir()} == {0o555}
    assert stat.S_IMODE((node.home / "cache" / "data").stat().st_mode) == 0o711
    assert first.fetched - code > 0
    asked = len(node.server.requests)
    assert staged(node, part, spec=8).fetched == 0
    assert [line for line in node.server.requests[asked:] if "/data/" in line] == []


def test_a_changed_listing_is_another_view(node: NodeProcess) -> None:
    staged(node, some(node, "x"))
    node.server.put_object("data", "x", b"new content")
    item = Item("x", 11, node.server.put_object("data", "x", b"new content").etag)
    assert staged(node, Part(PLACE, (item,)), spec=8).fetched == 11
    assert len(views(node)) == 2


def test_a_program_cannot_change_the_view(node: NodeProcess) -> None:
    part = some(node, "x")
    command = "cat $DATA_DIR/x; (echo evil > $DATA_DIR/x) || echo kept; (rm -f $DATA_DIR/x) || echo still"
    node.server.give(launch_of(stage_of(node.server, {}, data=(part,)), command))
    node.server.wait_for(facts.Exited)
    node.server.wait(lambda: b"still" in node.server.log(RUN), "the log")
    assert (views(node)[0] / "x").read_bytes() == b"xxx"


def test_several_references_are_merged_and_the_first_wins(node: NodeProcess, tmp_path: Path) -> None:
    one = some(node, "common/a", "clash", place=PLACE)
    two = some(node, "common/b", "clash", "own/c", place=Place("local", "second", account="acme", name="sec-ond"))
    node.server.put_object("second", "clash", b"loser", "acme")
    two = Part(two.place, (*two.items[:1], node.server.put_object("second", "clash", b"loser"), *two.items[2:]))
    three = Part(Place("volume", "set", path=str(tmp_path / "open"), name="vol"))
    look = (
        "cd $DATA_DIR; find -L . -type f | sort; cat clash v.txt; echo; ls $DATA_DIR_d $DATA_DIR_sec_ond $DATA_DIR_vol"
    )
    node.server.give(launch_of(stage_of(node.server, {}, data=(one, two, three)), look))
    exited = node.server.wait_for(facts.Exited)
    assert exited.exit_code == 0
    node.server.wait(lambda: len(node.server.log(RUN)) == exited.log_bytes, "the log")
    lines = node.server.log(RUN).decode().splitlines()
    assert lines[:5] == ["./clash", "./common/a", "./common/b", "./own/c", "./v.txt"]
    assert lines[5] == "clashclashclashfrom a volume"
    node.server.wait(
        lambda: b"clash of 'sec-ond' is not in DATA_DIR" in node.server.log(RUN, 1, "load-data"), "evidence"
    )


def test_names_that_cannot_be_files_are_left_out_and_named(node: NodeProcess) -> None:
    good = some(node, "a/b", "ok")
    bad = (Item("a", 3, '"x"'), Item("../../evil", 3, '"x"'), Item("y" * 300, 3, '"x"'))
    staged(node, Part(PLACE, (*good.items, *bad)))
    log = (node.home / "specs" / "7.load-data.log").read_text()
    assert log.count("Left out") == 3
    assert sorted(os.listdir(views(node)[0])) == ["a", "ok"]


def test_progress_is_told_a_few_times_a_second(node: NodeProcess) -> None:
    part = Part(PLACE, tuple(node.server.put_object("data", f"f{n}", b"x" * 1000) for n in range(300)))
    staged(node, part)
    told = [fact for fact in node.server.facts if isinstance(fact, facts.StageProgress)]
    assert told
    assert len(told) <= 20
    assert all(0 <= fact.done <= fact.total == 300_000 for fact in told)


@pytest.mark.parametrize(
    ("how", "reason"), [("missing", "data_not_found"), ("changed", "data_not_found"), ("size", "data_not_found")]
)
def test_objects_that_are_not_as_listed(node: NodeProcess, how: str, reason: str) -> None:
    part = some(node, "x", "y")
    if how == "missing":
        del node.server.objects["acme", "data", "y"]
    else:
        node.server.put_object("data", "y", b"zzz" if how == "changed" else b"longer than it was")
    fact = failed(node, part)
    assert fact.reason == reason
    assert "'y'" in fact.detail
    assert fact.detail in fact.log
    assert views(node) == []
    assert list((node.home / "cache" / "tmp").iterdir()) == []


def test_a_store_that_refuses(node: NodeProcess) -> None:
    part = some(node, "x")
    node.server.data_status = 403
    assert failed(node, part).reason == "data_access_denied"


def test_a_store_that_is_away_is_given_up_after_a_while(node: NodeProcess) -> None:
    part = some(node, "x")
    node.server.data_status = 503
    assert failed(node, part).reason == "data_unreachable"


def test_a_store_that_comes_back_in_time(node: NodeProcess) -> None:
    part = some(node, "x")
    node.server.data_status = 503
    node.server.give(stage_of(node.server, {}, data=(part,)))
    node.server.wait(lambda: sum("/data/" in line for line in node.server.requests) > 1, "a second try")
    node.server.data_status = 0
    node.server.wait_for(facts.Staged)


def test_volumes_must_be_open_and_there(node: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "open" / "out").symlink_to("/etc")
    for bucket, path in (("", "/etc"), ("nowhere", str(tmp_path / "open")), ("out", str(tmp_path / "open"))):
        node.server.facts.clear()
        fact = failed(node, Part(Place("volume", bucket, path=path, name="v")))
        assert fact.reason == "data_not_found", fact
        assert "folder" in fact.detail


def test_a_launch_stages_what_is_not_ready(node: NodeProcess) -> None:
    part = some(node, "x")
    exited = run_to_end(node, "cat $DATA_DIR/x", {})
    assert exited.exit_code == 1
    node.server.give(launch_of(stage_of(node.server, {}, 8, data=(part,)), "cat $DATA_DIR/x", run=OTHER))
    assert node.server.wait_for(facts.Exited, of_run(OTHER)).exit_code == 0


def test_a_launch_without_a_listing_of_what_is_not_ready_says_so(node: NodeProcess) -> None:
    node.server.give(launch_of(orders.Stage(99, None, listed=False), "true"))
    assert "no longer" in (node.server.wait_for(facts.Exited).launch_error or "")


def test_what_is_ready_is_known_after_a_restart(node: NodeProcess) -> None:
    part = some(node, "x")
    staged(node, part)
    node.kill()
    node.start()
    assert node.server.hellos[-1].staged == (7,)
    node.server.objects.clear()
    stage = orders.Stage(7, stage_of(node.server, {}).code, listed=False)
    node.server.give(launch_of(stage, "cat $DATA_DIR/x"))
    assert node.server.wait_for(facts.Exited).exit_code == 0


def test_the_same_spec_ordered_twice_is_fetched_once(node: NodeProcess) -> None:
    stage = stage_of(node.server, {"a": "1"})
    node.server.definitions_gate.clear()
    node.server.give(stage)
    node.server.give(stage)
    node.server.wait(lambda: any("definitions" in line for line in node.server.requests), "the request")
    node.server.definitions_gate.set()
    node.server.wait_for(facts.Staged)
    node.server.give(stage)
    wait_until(lambda: sum(isinstance(f, facts.Staged) for f in node.server.facts) > 1, "the second answer")
    assert sum("definitions" in line for line in node.server.requests) == 1


def test_a_launch_on_the_heels_of_its_order_waits_for_what_that_fetches(node: NodeProcess) -> None:
    stage = msgspec.structs.replace(stage_of(node.server, {"a.txt": "here"}), guessed=True)
    node.server.definitions_gate.clear()
    node.server.give(stage)
    node.server.give(launch_of(orders.Stage(stage.spec, stage.code, listed=False), "cat a.txt"))
    node.server.wait(lambda: any("definitions" in line for line in node.server.requests), "the request")
    node.server.definitions_gate.set()
    assert node.server.wait_for(facts.Exited).exit_code == 0
    node.server.wait_for(facts.Staged)


def test_a_launch_gives_its_slots_back_where_that_takes_long(node: NodeProcess) -> None:
    stage = msgspec.structs.replace(stage_of(node.server, {"a.txt": "here"}), guessed=True)
    launch = orders.Stage(stage.spec, stage.code, listed=False)
    node.server.definitions_gate.clear()
    node.server.give(stage)
    node.server.give(launch_of(launch, "cat a.txt"))
    handed_back = node.server.wait_for(facts.Exited)
    assert "fetch" in (handed_back.launch_error or "")
    node.server.definitions_gate.set()
    node.server.wait_for(facts.Staged)
    node.server.give(launch_of(launch, "cat a.txt", attempt=2))
    assert node.server.wait_for(facts.Exited, of_run(RUN, 2)).exit_code == 0
