"""Logs in files keep the contract of the log store, and survive what happens to files."""

import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runyard.adapters.telemetry.files import INDEX_MS, LogFiles
from runyard.core.errors import RunyardError
from runyard.ports.logs import LogKey, LogStore
from runyard.testing.logs_contract import KEY, LogStoreContract
from tests.support.waiting import wait_until


class TestLogFiles(LogStoreContract):
    @pytest.fixture
    def make(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], LogStore]]:
        made: list[LogFiles] = []

        def make_one() -> LogStore:
            made.append(LogFiles(tmp_path_factory.mktemp("logs"), max_open=3))
            return made[-1]

        yield make_one
        for each in made:
            each.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def log_of(root: Path, key: LogKey = KEY) -> Path:
    return root / key.run_id / str(key.attempt) / str(key.learner) / key.stream


def index_of(root: Path) -> list[tuple[int, int]]:
    content = log_of(root).with_name("training-log.idx").read_bytes()
    assert len(content) % 16 == 0
    return [struct.unpack_from("<QQ", content, at) for at in range(0, len(content), 16)]


def test_a_log_is_a_plain_file(root: Path) -> None:
    LogFiles(root).append(KEY, 0, b"read me with less\n", 1)
    assert log_of(root).read_text() == "read me with less\n"
    assert root.stat().st_mode & 0o777 == 0o700


def test_the_index_grows_with_time_and_not_with_lines(root: Path) -> None:
    logs = LogFiles(root)
    for number in range(1000):
        logs.append(KEY, number, b"x", 5000 + number)
    assert index_of(root) == [(5000 + at, at) for at in range(0, 1000, INDEX_MS)]
    logs.append(KEY, 0, b"seen before", 9000)
    logs.append(KEY, 5000, b"a gap", 9100)
    assert len(index_of(root)) == 1000 // INDEX_MS


def test_a_clock_that_is_behind_does_not_unsort_the_index(root: Path) -> None:
    logs = LogFiles(root)
    for at_ms in (5000, 4000, 4500, 5060, 100):
        logs.append(KEY, logs.size(KEY), b"x", at_ms)
    assert index_of(root) == [(5000, 0), (5060, 3)]


def test_a_restart_goes_on_where_it_was(root: Path) -> None:
    for number in range(10):
        logs = LogFiles(root)
        assert logs.append(KEY, number, b"x", 1000 + number * 100) == number + 1
        logs.close()
    assert index_of(root) == [(1000 + number * 100, number) for number in range(10)]


@pytest.mark.parametrize(
    "tail",
    [
        b"\1",
        b"\0" * 15,
        struct.pack("<QQ", 1200, 4),
        struct.pack("<QQQQ", 1200, 4, 1300, 99),
        struct.pack("<QQB", 1200, 9, 1),
    ],
)
def test_what_a_crash_left_in_the_index_is_cut_off(root: Path, tail: bytes) -> None:
    logs = LogFiles(root)
    logs.append(KEY, 0, b"ab", 1000)
    logs.append(KEY, 2, b"cd", 1100)
    logs.close()
    with log_of(root).with_name("training-log.idx").open("ab") as index:
        index.write(tail)
    again = LogFiles(root)
    assert again.offset_at(KEY, 1100) == 2
    assert again.offset_at(KEY, 5000) == 4
    again.append(KEY, 4, b"ef", 1400)
    assert index_of(root) == [(1000, 0), (1100, 2), (1400, 4)]


def test_a_log_whose_index_is_gone_is_still_a_log(root: Path) -> None:
    logs = LogFiles(root)
    logs.append(KEY, 0, b"ab", 1000)
    logs.append(KEY, 2, b"c", 1100)
    logs.close()
    log_of(root).with_name("training-log.idx").unlink()
    again = LogFiles(root)
    assert again.read(KEY, 0, 9) == b"abc"
    assert again.offset_at(KEY, 0) == 0
    written_ms = log_of(root).stat().st_mtime_ns // 1_000_000
    assert again.offset_at(KEY, written_ms + 1000) == 3
    again.append(KEY, 3, b"d", written_ms + 2000)
    assert again.offset_at(KEY, written_ms + 1500) == 3


def test_a_log_that_came_at_once_needs_no_index(root: Path) -> None:
    logs = LogFiles(root)
    logs.append(KEY, 0, b"ab", 5000)
    logs.append(KEY, 2, b"cd", 5000 + INDEX_MS - 1)
    assert not log_of(root).with_name("training-log.idx").exists()
    assert [logs.offset_at(KEY, at) for at in (0, 5000, 5000 + INDEX_MS - 1, 5000 + INDEX_MS)] == [0, 0, 0, 4]
    logs.close()
    again = LogFiles(root)
    assert [again.offset_at(KEY, at) for at in (0, 5000, 9000)] == [0, 0, 4]
    again.append(KEY, 4, b"ef", 7000)
    assert index_of(root) == [(5000, 0), (7000, 4)]
    assert [again.offset_at(KEY, at) for at in (0, 6000, 9000)] == [0, 4, 6]


@pytest.mark.parametrize(
    "key",
    [
        LogKey("..", 1),
        LogKey("", 1),
        LogKey("a/b", 1),
        LogKey("/etc", 1),
        LogKey(".hidden", 1),
        LogKey("run", -1),
        LogKey("run", 1, -1),
        LogKey("run", 1, 1, "../../x"),
        LogKey("run", 1, 1, ""),
        LogKey("run", 1, 1, "log.idx"),
        LogKey("run", 1, 1, "nul\0"),
        LogKey("x" * 200, 1),
    ],
)
def test_a_key_that_leads_elsewhere_is_refused(root: Path, key: LogKey) -> None:
    logs = LogFiles(root)
    for ask in (
        lambda: logs.append(key, 0, b"x", 1),
        lambda: logs.size(key),
        lambda: logs.read(key, 0, 1),
        lambda: logs.offset_at(key, 1),
    ):
        with pytest.raises(RunyardError) as caught:
            ask()
        assert caught.value.code == "invalid_request"
    if key.attempt >= 0 and key.learner >= 0 and key.stream == "training-log":
        with pytest.raises(RunyardError):
            logs.delete(key.run_id)
    assert os.listdir(root) == []


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_only_so_many_files_are_open(root: Path) -> None:
    logs = LogFiles(root, max_open=4)
    before = open_files()
    for turn in range(3):
        for number in range(20):
            logs.append(LogKey(f"run-{number}", 1), turn, b"x", 1)
            assert open_files() <= before + 8
    assert all(logs.read(LogKey(f"run-{number}", 1), 0, 9) == b"xxx" for number in range(20))
    logs.delete("run-19")
    logs.close()
    assert open_files() == before


def test_many_streams_and_threads_through_few_open_files(root: Path) -> None:
    logs = LogFiles(root, max_open=2)
    expected = bytes(range(250)) * 4

    def send(number: int) -> None:
        pick = random.Random(number)
        key = LogKey(f"run-{number % 6}", 1)
        offset = 0
        while offset < len(expected):
            offset = logs.append(key, offset, expected[offset : offset + pick.randrange(1, 90)], offset)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(send, range(24)))
    for number in range(6):
        assert logs.read(LogKey(f"run-{number}", 1), 0, 9999) == expected
    logs.close()


WRITER = """
import sys
from pathlib import Path
from runyard.adapters.telemetry.files import LogFiles
from runyard.ports.logs import LogKey
logs = LogFiles(Path(sys.argv[1]))
key = LogKey("training-a1B2c3D4e", 1)
number = logs.size(key) // 10
while True:
    logs.append(key, number * 10, b"%09d\\n" % number, 1000 + number * 60)
    number += 1
"""


def test_killed_at_any_moment_it_goes_on_without_a_byte_too_many(root: Path) -> None:
    logs = LogFiles(root)
    for _ in range(6):
        begun = logs.size(KEY)
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(root)])
        wait_until(lambda begun=begun: logs.size(KEY) > begun + 5000, "the writer")
        process.send_signal(signal.SIGKILL)
        process.wait()
        # A kill may fall within a line: as the node would, send what is missing of it.
        size = logs.size(KEY)
        line = b"%09d\n" % (size // 10)
        other = LogFiles(root)
        assert other.append(KEY, size - size % 10, line, 1000 + size // 10 * 60) == size - size % 10 + 10
        other.close()
    lines = logs.size(KEY) // 10
    assert logs.read(KEY, 0, lines * 10) == b"".join(b"%09d\n" % number for number in range(lines))
    for number in (0, 1, lines // 2, lines - 1):
        assert logs.offset_at(KEY, 1000 + number * 60) == number * 10
    pairs = index_of(root)
    assert pairs == sorted(pairs)
    assert len(pairs) == lines
