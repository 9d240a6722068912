"""One run from its stage order to its release."""

import json

from runyard.wire import facts, orders
from tests.node.nodes import RUN, NodeProcess, launch_of, stage_of, store_of
from tests.support.waiting import wait_until

TRAIN = """
import json, os, sys
print("lr", json.load(open("config.json"))["lr"])
print("data", sorted(os.listdir(os.environ["DATA_DIR"])), open(os.environ["DATA_DIR"] + "/a/x.txt").read())
open(os.environ["RESULT_DIR"] + "/model/weights.bin", "wb").write(b"w" * 1000)
open(os.environ["RESULT_DIR"] + "/summary.txt", "w").write("done")
open(os.environ["CHECKPOINT_DIR"] + "/step-1.ckpt", "w").write("c")
open(os.environ["CHECKPOINT_DIR"] + "/half.tmp", "w").write("no")
open(os.environ["LOG_DIR"] + "/evaluation-metrics.txt", "w").write("{}")
open("notes.txt", "w").write("kept")
"""


def test_a_run_from_stage_to_release(node: NodeProcess) -> None:
    server = node.server
    items = (server.put_object("data", "a/x.txt", b"hello"), server.put_object("data", "b.txt", b"b"))
    part = orders.Part(orders.Place("local", "data", account="acme", name="d"), items)
    stage = stage_of(server, {"train.py": TRAIN, "config.json": '{"lr": 1, "depth": 2}'}, data=(part,))
    server.give(stage)
    assert server.wait_for(facts.Staged).fetched > 6
    server.give(launch_of(orders.Stage(7, stage.code, listed=False), "python3 train.py", parameters='{"lr": 0.5}'))
    began = server.wait_for(facts.Began)
    exited = server.wait_for(facts.Exited)
    assert (exited.run, exited.attempt, exited.exit_code, exited.signal) == (RUN, 1, 0, None), exited
    assert exited.at_ms >= began.at_ms
    server.wait(lambda: len(server.log(RUN)) == exited.log_bytes, "the log")
    log = server.log(RUN).decode()
    assert log.startswith("lr 0.5\ndata ['a', 'b.txt'] hello\n"), log
    assert "notes.txt (4 B)" in log
    assert b"2 objects" in server.log(RUN, 1, "load-data")
    assert b"unpacked: 2 files" in server.log(RUN, 1, "load-model")
    server.give(store_of())
    stored = server.wait_for(facts.Stored)
    found = server.bucket("results")
    assert set(found) == {
        f"{RUN}/{key}"
        for key in (
            "model/weights.bin",
            "summary.txt",
            "workdir/notes.txt",
            "checkpoints/step-1.ckpt",
            "checkpoints/manifest.json",
            "learner-1/training-log.txt",
            "learner-1/load-data.log",
            "learner-1/load-model.log",
            "learner-1/evaluation-metrics.txt",
        )
    }
    assert found[f"{RUN}/model/weights.bin"] == b"w" * 1000
    assert found[f"{RUN}/learner-1/training-log.txt"].decode() == log
    manifest = json.loads(found[f"{RUN}/checkpoints/manifest.json"])
    assert [entry["path"] for entry in manifest["files"]] == ["step-1.ckpt"]
    assert stored.objects == len(found)
    server.give(orders.Release(RUN))
    wait_until(lambda: not (node.home / "runs" / RUN).exists(), "the release")
