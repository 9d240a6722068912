"""What doctor tells of GPUs without one: the counters in words, and what a node has heard."""

import json
from pathlib import Path

import pytest

from runyard.core.gpus import Sight
from runyard.node.gpus.seeing import ERRORS
from runyard.up.gpus import kept_back, well
from runyard.up.record import boot_id


@pytest.mark.parametrize(("sight", "level"), [(Sight(5), "ok"), (Sight(5, pending=True), "bad")])
def test_counters_in_words(sight: Sight, level: str) -> None:
    assert well(0, sight).level == level


def test_what_the_node_has_heard_counts_until_the_machine_is_restarted(tmp_path: Path) -> None:
    assert kept_back(tmp_path) == []
    (tmp_path / "node").mkdir()
    for boot, told in ((boot_id(), ["GPU 0 reported XID 79."]), ("another", [])):
        (tmp_path / "node" / ERRORS).write_text(json.dumps({"boot_id": boot, "gpus": {"0": "GPU 0 reported XID 79."}}))
        assert [each.text for each in kept_back(tmp_path)] == told
