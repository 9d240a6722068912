"""What a run takes on the disk: how it is measured, and the end of one that takes too much."""

import os
import time
from pathlib import Path

from runyard.node.disk import SHARE, Measuring, disk_sentence, half_of_the_disk, space
from runyard.node.home import Home
from runyard.wire import facts
from tests.node.nodes import RUN, launch_of, run_to_end, running_node, stage_of

MIB = 1 << 20


def test_what_a_folder_takes(tmp_path: Path) -> None:
    inside, outside = tmp_path / "own", tmp_path / "outside"
    (inside / "deep" / "deeper").mkdir(parents=True)
    outside.mkdir()
    (outside / "large").write_bytes(bytes(8 * MIB))
    (inside / "deep" / "deeper" / "file").write_bytes(bytes(2 * MIB))
    os.link(inside / "deep" / "deeper" / "file", inside / "again")
    os.symlink(outside, inside / "away")
    os.symlink(outside / "large", inside / "large")
    os.mkfifo(inside / "fifo")
    with (inside / "sparse").open("wb") as sparse:
        sparse.truncate(100 * MIB)
    assert 2 * MIB <= space(str(tmp_path), "own") < 2 * MIB + 100_000
    assert space(str(tmp_path), "nothing") == space(str(tmp_path / "nothing"), "own") == 0
    os.symlink(outside, tmp_path / "replaced")
    assert space(str(tmp_path), "replaced") == 0


def test_a_measurement_counts_all_learners_and_the_checkpoints_and_bounds_its_cost(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    for folder in (home.checkpoints(RUN), home.attempt(RUN, 1).own, home.attempt(RUN, 1, 2).own):
        os.makedirs(folder)
        (Path(folder) / "file").write_bytes(bytes(MIB))
    measuring = Measuring(home, RUN, 1, 5 * MIB, 0.0)
    began = time.monotonic()
    measuring.measure()
    took = time.monotonic() - began
    assert 3 * MIB <= measuring.used < 3 * MIB + 100_000
    assert 0 < measuring.due - began <= (SHARE + 1) * took
    assert Measuring(home, RUN, 1, 0, 5.0).limit == half_of_the_disk(str(tmp_path)) > 0
    assert disk_sentence(3 * MIB, 2 << 30).startswith("The run takes 3 MiB on the disk, over its limit of 2 GiB")


def test_a_run_that_takes_too_much_of_the_disk_is_ended_with_its_grace(tmp_path: Path) -> None:
    with running_node(tmp_path, "--disk-limit", "20", "--measure-every", "0.1") as node:
        fill = "head -c 23M /dev/zero > $CHECKPOINT_DIR/c; while :; do sleep 0.1; done"
        fill = f"trap 'echo good bye; exit 1' TERM; {fill}"
        exited = run_to_end(node, fill)
        assert (exited.cause, exited.exit_code) == ("disk_limit", 1)
        lines = node.server.log(RUN).decode().splitlines()
        assert "good bye" in lines
        assert lines[-1] == f"[runyard] {exited.detail}"
        assert exited.detail.startswith("The run takes 23")
        assert lines[-1].endswith("over its limit of 20 MiB (disk_limit_gib): it is stopped.")


def test_a_run_that_goes_on_writing_in_its_grace_gets_none(tmp_path: Path) -> None:
    with running_node(tmp_path, "--disk-limit", "20", "--measure-every", "0.1") as node:
        fill = "trap '' TERM; for i in $(seq 100000); do head -c 4M /dev/zero > $RESULT_DIR/$i; sleep 0.05; done"
        order = launch_of(stage_of(node.server, {}), fill, grace_ms=600_000)
        node.server.give(order)
        exited = node.server.wait_for(facts.Exited)
        assert (exited.cause, exited.signal) == ("disk_limit", 9)
