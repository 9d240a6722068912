"""The server's clock never steps back, whatever the wall clock said before."""

import threading
import time

from runyard.adapters.clock import MachineClock, SystemEntropy


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


def test_entropy_has_as_many_bits_as_asked() -> None:
    drawn = [SystemEntropy().bits(64) for _ in range(200)]
    assert len(set(drawn)) == 200
    assert max(drawn).bit_length() > 56
    assert all(0 <= number < 2**64 for number in drawn)
