"""What ended runs leave behind goes when its time is over, and nothing that is needed does."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import BinaryIO

import pytest

from runyard.core.account import Account
from runyard.core.errors import NotFound, Refused, RunyardError
from runyard.core.events import EventKind
from runyard.core.retention import Part
from runyard.engine import control, room
from runyard.engine.leases import Leases, of_definition, of_run
from runyard.engine.world import Rules
from runyard.ports.caches import CacheContent
from runyard.ports.disk import Space, Taken
from runyard.ports.logs import LogKey
from runyard.ports.store import Definition
from runyard.testing.fakes import AskedCache
from tests.engine.yard import Yard, manifest
from tests.support.waiting import wait_until

DAY = room.DAY_MS
SHA = "a" * 64


@dataclass
class SmallDisk:
    """A disk of 100 GiB whose room a test says."""

    free: int = 50 << 30

    def space(self) -> Space:
        return Space(self.free, 100 << 30)

    def of_run(self, run_id: str) -> dict[str, int]:
        return {"logs": 10, "metrics": 5}

    def taken(self) -> Iterator[Taken]:
        return iter(())


@dataclass
class MemoryDefinitions:
    """Zips in memory."""

    files: dict[str, bytes] = field(default_factory=dict[str, bytes])

    async def put(self, sha256: str, chunks: AsyncIterator[bytes], limit: int) -> int:
        self.files[sha256] = b"".join([chunk async for chunk in chunks])
        return len(self.files[sha256])

    def open(self, sha256: str) -> BinaryIO | None:
        return BytesIO(self.files[sha256]) if sha256 in self.files else None

    def size(self, sha256: str) -> int | None:
        return len(self.files[sha256]) if sha256 in self.files else None

    def delete(self, sha256: str) -> None:
        self.files.pop(sha256, None)


def kept(yard: Yard, lease_s: float = 0.0, **rules: object) -> Yard:
    """The yard with other rules, a disk, and leases that last as a test says."""
    rule = replace(Rules(), **rules)  # type: ignore[arg-type]  # replace() checks the names itself
    definitions = MemoryDefinitions()
    yard.world = replace(yard.world, rules=rule, disk=SmallDisk(), definitions=definitions, leases=Leases(lease_s))
    return yard


def with_files(yard: Yard, run_id: str, *, bucket: str = "results") -> str:
    """A run that has left a log and a result."""
    yard.fakes.logs.append(LogKey(run_id, 1), 0, b"line\n", yard.now)
    yard.fakes.objects.put("acme", bucket, **{f"{run_id}/model.pt": b"weights"})
    return run_id


def swept(yard: Yard, *, dry: bool = False) -> room.Pass:
    found = room.Pass(dry=dry)
    while found.turn(yard.world):
        pass
    return found


def has_log(yard: Yard, run_id: str) -> bool:
    return yard.fakes.logs.size(LogKey(run_id, 1)) > 0


def has_results(yard: Yard, run_id: str) -> bool:
    return f"{run_id}/model.pt" in yard.fakes.objects.buckets["acme", "results"]


def test_each_part_goes_at_its_time_and_is_told(yard: Yard) -> None:
    kept(yard, keep={Part.logs: 2 * DAY, Part.results: 7 * DAY})
    run_id = with_files(yard, yard.finished())
    yard.fakes.clock.pass_by(DAY)
    assert swept(yard).due_ms == yard.now + DAY
    assert has_log(yard, run_id)
    yard.fakes.clock.pass_by(DAY)
    found = swept(yard, dry=True)
    assert dict(found.runs) == {("acme", "logs"): 1}
    assert dict(found.sizes) == {("acme", "logs"): 10}
    assert has_log(yard, run_id)
    assert dict(swept(yard).runs) == {("acme", "logs"): 1}
    assert not has_log(yard, run_id)
    assert has_results(yard, run_id)
    assert "logs (kept for 2 days)" in yard.run(run_id).notes[-1]
    (told,) = yard.fakes.store.events(0, 100, kinds=frozenset({EventKind.swept}))
    assert (told.event.run_id, dict(told.event.body)) == (run_id, {"parts": ["logs"]})
    assert dict(swept(yard).runs) == {}
    yard.fakes.clock.pass_by(5 * DAY)
    assert dict(swept(yard).sizes) == {("acme", "results"): 7}
    assert not has_results(yard, run_id)


def test_an_accounts_own_retention_counts_and_the_bill_stays(yard: Yard) -> None:
    kept(yard)
    run_id = with_files(yard, yard.finished())
    room.keep(yard.world, "acme", {Part.records: DAY})
    yard.fakes.clock.pass_by(DAY)
    swept(yard)
    assert yard.fakes.store.run(run_id) is None
    assert not has_log(yard, run_id)
    assert has_results(yard, run_id), "nobody has said that these go"
    assert [entry.run_id for entry in yard.fakes.store.ledger(run_id)] == [run_id]
    assert yard.fakes.store.events(0, 100, run_id=run_id)


def test_buckets_elsewhere_runs_that_are_not_final_and_pinned_ones_are_never_touched(yard: Yard) -> None:
    kept(yard, keep=dict.fromkeys(Part, DAY))
    running = with_files(yard, yard.running())
    waiting = yard.submit(manifest(command="python3 other.py"))[0]
    pinned_text = manifest(extra="runyard: {tags: [keep]}\n")
    pinned = with_files(yard, yard.submit(pinned_text)[0])
    control.cancel(yard.world, "acme", pinned)
    yard.fakes.clock.pass_by(30 * DAY)
    assert dict(swept(yard).runs) == {}
    assert all(yard.fakes.store.run(each) is not None for each in (running, waiting, pinned))
    assert has_results(yard, pinned)


def test_results_in_another_store_stay(yard: Yard) -> None:
    kept(yard, keep={Part.results: DAY})
    run_id = with_files(yard, yard.finished(elsewhere()))
    yard.fakes.clock.pass_by(30 * DAY)
    assert dict(swept(yard).runs) == {}
    assert has_results(yard, run_id)


def elsewhere() -> str:
    keys = "{endpoint_url: 'http://127.0.0.1:9', access_key_id: AKIA, secret_access_key: sesame}"
    return manifest().replace("type: local", f"type: s3\n  connection: {keys}")


def test_what_a_waiting_run_starts_from_stays_until_that_is_final(yard: Yard) -> None:
    kept(yard, keep=dict.fromkeys(Part, DAY))
    origin = with_files(yard, yard.finished())
    yard.fakes.objects.put("acme", "results", **{f"{origin}/checkpoints/manifest.json": b"{}"})
    resumed = yard.submit(manifest(extra=f"runyard: {{start_from: {origin}}}\n"))[0]
    yard.fakes.clock.pass_by(2 * DAY)
    assert dict(swept(yard).runs) == {}
    assert has_results(yard, origin)
    control.cancel(yard.world, "acme", resumed)
    assert ("acme", "results") in swept(yard).runs
    assert not has_results(yard, origin)


def test_what_a_submission_has_just_asked_for_stays_though_it_is_not_recorded_yet(yard: Yard) -> None:
    kept(yard, lease_s=60.0, keep=dict.fromkeys(Part, DAY))
    run_id = with_files(yard, yard.finished())
    yard.fakes.clock.pass_by(2 * DAY)
    passing = room.Pass()
    passing.needed = frozenset()
    yard.world.leases.hold(of_run(run_id))
    passing.turn(yard.world)
    assert has_results(yard, run_id)
    assert yard.fakes.store.run(run_id) is not None


def test_definitions_go_when_no_recorded_run_needs_them_and_nobody_was_told_that_they_are_here(yard: Yard) -> None:
    kept(yard, keep_definitions_ms=DAY)
    files = yard.world.definitions
    assert isinstance(files, MemoryDefinitions)
    for sha in (SHA, "b" * 64):
        files.files[sha] = b"zip"
        yard.fakes.store.add_definition(Definition("acme", sha, 3, yard.now))
    yard.submit(definition="b" * 64)
    assert room.sweep_definitions(yard.world, dry=False) == (0, 0), "too young"
    yard.fakes.clock.pass_by(2 * DAY)
    assert room.sweep_definitions(yard.world, dry=True) == (1, 3)
    yard.world = replace(yard.world, leases=Leases(60.0))
    assert room.sweep_definitions(yard.world, dry=False) == (0, 0), "a server before this one may have told so"
    yard.world = replace(yard.world, leases=Leases(0.0))
    assert room.sweep_definitions(yard.world, dry=False) == (1, 3)
    assert list(files.files) == ["b" * 64]
    assert yard.fakes.store.definition("acme", SHA) is None


def test_a_file_stays_as_long_as_any_account_has_it(yard: Yard) -> None:
    kept(yard, keep_definitions_ms=DAY)
    files = yard.world.definitions
    assert isinstance(files, MemoryDefinitions)
    files.files[SHA] = b"zip"
    yard.fakes.store.add_definition(Definition("acme", SHA, 3, yard.now))
    yard.fakes.clock.pass_by(2 * DAY)
    yard.fakes.store.add_definition(Definition("other", SHA, 3, yard.now))
    assert room.sweep_definitions(yard.world, dry=False) == (1, 3)
    assert list(files.files) == [SHA]


def test_a_lease_is_waited_for_while_its_thing_goes() -> None:
    leases = Leases(60.0)
    name = of_definition(SHA)
    done = threading.Event()
    with leases.letting_go(name) as free:
        assert free
        thread = threading.Thread(target=lambda: (leases.hold(name), done.set()))
        thread.start()
        assert not done.wait(0.05)
        with leases.letting_go(name) as again:
            assert not again
    assert done.wait(10)
    thread.join()
    with leases.letting_go(name) as free:
        assert not free, "somebody was told that it is here"


def test_new_runs_are_refused_before_the_disk_is_full_and_taken_again_when_there_is_room(yard: Yard) -> None:
    kept(yard, disk_reserve=1 << 30)
    disk = yard.world.disk
    assert isinstance(disk, SmallDisk)
    disk.free = (1 << 30) - 1
    with pytest.raises(RunyardError, match="only 1 GiB of 100 GiB left") as refused:
        yard.submit()
    assert refused.value.code == "disk_full"
    disk.free = 2 << 30
    run_id = yard.submit()[0]
    assert yard.fakes.store.run(run_id) is not None


def test_machines_are_asked_for_what_they_have_not_used(yard: Yard) -> None:
    kept(yard, keep_caches_ms=DAY, keep_environments_ms=3 * DAY)
    done: list[dict[str, tuple[int, int]]] = []
    thread = threading.Thread(target=lambda: done.append(room.sweep_caches(yard.world, dry=True)))
    thread.start()
    wait_until(lambda: len(yard.fakes.executor.of(AskedCache)) == 1, "the machine is asked")
    (asked,) = yard.fakes.executor.of(AskedCache)
    assert (asked.action.value, asked.ages.data_ms, asked.ages.environments_ms) == ("expirable", DAY, 3 * DAY)
    assert yard.world.caches.heard("n1", asked.number, CacheContent(9, 9, (), (), 2, 500))
    thread.join(10)
    assert done == [{"n1": (2, 500)}]


def test_nobody_can_be_given_a_retention_that_makes_no_sense(yard: Yard) -> None:
    with pytest.raises(Refused, match="0 days"):
        room.keep(yard.world, "acme", {Part.logs: -1})
    with pytest.raises(NotFound, match="accounts list"):
        room.keep(yard.world, "nobody", {Part.logs: DAY})
    yard.fakes.store.ensure_account(Account("new", "new"))
    room.keep(yard.world, "new", {Part.logs: DAY})
    room.keep(yard.world, "new", {Part.logs: None, Part.records: 0})
    assert room.kept_by(yard.world, "new")[1] == {Part.records: 0}


def test_an_idempotency_key_is_forgotten_after_a_month(yard: Yard) -> None:
    first = yard.submit(idempotency_key="k", digest="d")
    yard.fakes.clock.pass_by(room.KEYS_MS)
    room.sweep_ends(yard.world)
    assert yard.submit(idempotency_key="k", digest="d") == first
    yard.fakes.clock.pass_by(1)
    room.sweep_ends(yard.world)
    assert yard.submit(idempotency_key="k", digest="d") != first
