"""The server's clock never steps back, whatever the wall clock said before."""

import json
import threading
import time
from pathlib import Path

import pytest

from runyard.adapters.clock import MachineClock, SystemEntropy, boot_ms


def wall() -> int:
    return time.time_ns() // 1_000_000


def test_it_tells_the_time() -> None:
    before = wall()
    told = MachineClock().now_ms()
    assert before <= told <= wall() + 1


def test_it_begins_no_earlier_than_the_latest_event_and_goes_on_from_there() -> None:
    ahead = wall() + 3_600_000
    clock = MachineClock(ahead)
    first = clock.now_ms()
    assert ahead <= first < ahead + 5_000
    time_passed = threading.Event()
    time_passed.wait(0.02)
    assert clock.now_ms() - first >= 15


def test_an_earlier_event_does_not_hold_it_back() -> None:
    assert MachineClock(1).now_ms() >= wall() - 1


def test_it_never_steps_back_in_any_thread() -> None:
    clock, told = MachineClock(), list[list[int]]()

    def read() -> None:
        told.append([clock.now_ms() for _ in range(2000)])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(times == sorted(times) for times in told)


def test_a_wall_clock_that_is_set_does_not_move_it() -> None:
    """An hour forwards or back is no hour of anybody's bill: it is made up for at half a millisecond a second."""
    for step in (3_600_000, -3_600_000):
        set_by = [0]
        clock = MachineClock(wall_ms=lambda by=set_by: wall() + by[0])
        before, boot = clock.now_ms(), boot_ms()
        set_by[0] = step
        threading.Event().wait(0.05)
        passed, counted = boot_ms() - boot, clock.now_ms() - before
        assert abs(counted - passed) <= 3


def test_it_goes_on_over_a_restart_whatever_the_wall_clock_says_then(tmp_path: Path) -> None:
    kept = tmp_path / "clock.json"
    before, boot = MachineClock(0, kept).now_ms(), boot_ms()
    for step in (3_600_000, -3_600_000):
        again = MachineClock(before, kept, wall_ms=lambda step=step: wall() + step)
        assert abs((again.now_ms() - before) - (boot_ms() - boot)) <= 3


def test_it_begins_with_the_wall_clock_where_nothing_is_counted_or_the_machine_was_restarted(tmp_path: Path) -> None:
    kept = tmp_path / "clock.json"
    wrong = boot_ms() - 9_000_000
    kept.write_text(json.dumps({"boot": "another one", "offset_ms": wrong}))
    assert abs(MachineClock(0, kept).now_ms() - wall()) < 1000
    noted = json.loads(kept.read_text())
    kept.write_text(json.dumps(noted | {"offset_ms": noted["offset_ms"] - 9_000_000}))
    assert MachineClock(0, kept).now_ms() < wall() - 8_000_000
    assert abs(MachineClock(0, kept, resume=False).now_ms() - wall()) < 1000


def test_a_file_that_cannot_be_read_or_written_is_no_harm(tmp_path: Path) -> None:
    torn = tmp_path / "clock.json"
    torn.write_text("{")
    for kept in (torn, tmp_path / "nowhere" / "clock.json"):
        assert abs(MachineClock(0, kept).now_ms() - wall()) < 1000


def test_what_could_not_be_noted_is_noted_as_soon_as_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while the server starts: the file must not go on telling of the clock of before."""
    monkeypatch.setattr("runyard.adapters.clock.AGAIN_MS", 0)
    kept = tmp_path / "later" / "clock.json"
    clock = MachineClock(0, kept)
    kept.parent.mkdir()
    clock.now_ms()
    assert abs(json.loads(kept.read_text())["offset_ms"] + boot_ms() - wall()) < 1000


def test_entropy_has_as_many_bits_as_asked() -> None:
    drawn = [SystemEntropy().bits(64) for _ in range(200)]
    assert len(set(drawn)) == 200
    assert max(drawn).bit_length() > 56
    assert all(0 <= number < 2**64 for number in drawn)
