"""The spool: whatever is cut off its end, what was committed before is there, and goes on."""

import resource
from array import array
from pathlib import Path

import pytest

from runyard.core.metrics import Series
from runyard.node.metrics.spool import Spool
from runyard.ports.metrics import MetricKey
from runyard.testing.memory_metrics import MemoryMetrics


def a_series(first: int, count: int = 3) -> Series:
    steps = array("q", range(first, first + count))
    return Series("g", "loss", steps, array("q", steps), array("d", steps))


def steps_in(content: bytes) -> list[int]:
    metrics, key = MemoryMetrics(), MetricKey("training-a1B2c3D4e", 1)
    metrics.append(key, 0, content)
    return [step for series in metrics.read(key, 0, 1 << 40).series for step in series.steps]


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool = Spool(str(path))
    spool.read_to("a", (7, 100))
    assert spool.put([a_series(0)], ["A note."])
    assert not spool.put([], [])
    spool.read_to("b", (8, 1))
    spool.read_to("a", (7, 200))
    assert spool.put([a_series(3)], [])
    assert spool.size == path.stat().st_size
    spool.close()
    again = Spool(str(path))
    assert (again.cursors, again.names, again.points) == ({"a": (7, 200), "b": (8, 1)}, {("g", "loss")}, 6)
    assert (again.notes, again.size) == (["A note."], path.stat().st_size)
    again.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_end_is_cut_off_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool = Spool(str(path))
    ends = [0]
    for number in range(3):
        spool.read_to("a", (1, number + 1))
        spool.put([a_series(3 * number)], [])
        ends.append(spool.size)
    spool.close()
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        spool = Spool(str(path))
        blocks = sum(1 for end in ends[1:] if end <= size)
        assert (spool.size, path.stat().st_size) == (ends[blocks], ends[blocks])
        assert spool.cursors == ({"a": (1, blocks)} if blocks else {})
        spool.put([a_series(100)], [])
        spool.close()
        assert steps_in(path.read_bytes()) == [*range(3 * blocks), 100, 101, 102]


def test_what_the_disk_did_not_take_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool = Spool(str(path))
    spool.put([a_series(0)], [])
    size = spool.size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limit[1]))  # as a full disk: ten bytes more, and an error
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.put([a_series(3)], [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (spool.size, path.stat().st_size) == (size, size)
    assert spool.flush()
    assert steps_in(path.read_bytes()) == [0, 1, 2, 3, 4, 5]
    spool.close()
