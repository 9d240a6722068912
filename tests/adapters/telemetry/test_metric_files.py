"""Points of metrics in files and in memory."""

from pathlib import Path

import pytest

from runyard.adapters.telemetry.blocks import WINDOW
from runyard.adapters.telemetry.metrics import MetricFiles
from runyard.core.errors import RunyardError
from runyard.ports.metrics import MetricKey, MetricStore
from runyard.testing.memory_metrics import MemoryMetrics
from runyard.testing.metrics_contract import ALL, KEY, MetricStoreContract, a_series, blocks, values
from runyard.wire.points import encode


class TestMemoryMetrics(MetricStoreContract):
    @pytest.fixture
    def metrics(self) -> MetricStore:
        return MemoryMetrics()


class TestMetricFiles(MetricStoreContract):
    @pytest.fixture
    def metrics(self, tmp_path: Path) -> MetricStore:
        return MetricFiles(tmp_path / "logs")


def test_they_stand_beside_the_logs_for_their_owner_alone(tmp_path: Path) -> None:
    MetricFiles(tmp_path).append(KEY, 0, blocks(1)[0])
    path = tmp_path / KEY.run_id / "1" / "1" / "metrics"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_stream_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    metrics = MetricFiles(tmp_path)
    block, offset = encode([a_series("train", "loss", 0, 20_000)], {}), 0
    count = WINDOW // len(block) * 2 + 3
    for _ in range(count):
        offset = metrics.append(KEY, offset, block)
    piece = metrics.read(KEY, 0, ALL)
    assert (len(values(piece)), piece.after) == (20_000 * count, offset)


def test_a_block_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    metrics = MetricFiles(tmp_path)
    block = encode([a_series("train", "loss", 0, WINDOW // 24 + 10)], {})
    size = metrics.append(KEY, 0, block + block)
    assert metrics.read(KEY, 0, 1).after == len(block)
    assert metrics.read(KEY, 0, ALL).after == size


@pytest.mark.parametrize("key", [MetricKey("../x", 1), MetricKey("a/b", 1), MetricKey("a", 0), MetricKey("a", 1, 0)])
def test_keys_that_name_no_file(tmp_path: Path, key: MetricKey) -> None:
    with pytest.raises(RunyardError):
        MetricFiles(tmp_path).append(key, 0, b"x")
