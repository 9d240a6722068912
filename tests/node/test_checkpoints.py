"""Checkpoints: carried over, kept in the bucket while the program runs, fetched back on another machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.node.checkpoints import candidates, is_complete
from runyard.node.sweep import Found, LeftOut
from runyard.wire import facts
from tests.node.nodes import RUN, NodeProcess, launch_of, of_run, run_to_end, running_node, stage_of, store_of

MANIFEST = f"{RUN}/checkpoints/manifest.json"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with running_node(tmp_path, "--sync-every", "0.2") as running:
        yield running


def named(node: NodeProcess) -> list[str]:
    manifest = node.server.bucket("results").get(MANIFEST)
    return [] if manifest is None else [entry["path"] for entry in json.loads(manifest)["files"]]


def test_a_retry_finds_the_checkpoints_of_the_attempt_before(node: NodeProcess) -> None:
    assert run_to_end(node, "echo 17 > $CHECKPOINT_DIR/step; exit 1").exit_code == 1
    assert run_to_end(node, "cat $CHECKPOINT_DIR/step", attempt=2).exit_code == 0
    assert node.server.log(RUN, 2) == b"17\n"


def test_while_a_program_runs_its_settled_checkpoints_reach_the_bucket(node: NodeProcess) -> None:
    script = """
        cd $CHECKPOINT_DIR; mkdir deep; echo one > deep/1; echo half > 2.part; touch -d '1 minute ago' deep/1 2.part
        while [ ! -e $RESULT_DIR/go ]; do echo x >> growing; sleep 0.02; done
        rm deep/1; echo two > deep/2
    """
    node.server.give(launch_of(stage_of(node.server, {}), script))
    node.server.wait(lambda: named(node) == ["deep/1"], "the first checkpoint in the bucket")
    assert f"{RUN}/checkpoints/growing" not in node.server.bucket("results")
    node.kill()
    node.start()
    (node.attempt() / "own" / "result" / "go").touch()
    node.server.wait_for(facts.Exited)
    node.server.give(store_of())
    node.server.wait_for(facts.Stored)
    assert named(node) == ["deep/2", "growing"]
    assert {key for key in node.server.bucket("results") if "/checkpoints/" in key} == {
        MANIFEST,
        f"{RUN}/checkpoints/deep/2",
        f"{RUN}/checkpoints/growing",
    }


def test_another_machine_fetches_them_back(node: NodeProcess, tmp_path: Path) -> None:
    run_to_end(node, "mkdir $CHECKPOINT_DIR/a; echo 17 > $CHECKPOINT_DIR/a/step; echo no > $CHECKPOINT_DIR/x.tmp")
    node.server.give(store_of())
    node.server.wait_for(facts.Stored)
    node.server.put_object("results", f"{RUN}/checkpoints/stray", b"not in the manifest")
    node.kill()
    node.server.forget(RUN)
    other = NodeProcess(tmp_path / "other", node.server)
    try:
        other.start()
        command = "cd $CHECKPOINT_DIR; find . -type f; cat a/step; echo 18 > a/step"
        other.server.give(launch_of(stage_of(node.server, {}), command, attempt=2))
        assert node.server.wait_for(facts.Exited, of_run(RUN, 2)).exit_code == 0
        node.server.wait(lambda: node.server.log(RUN, 2) == b"./a/step\n17\n", "the log")
    finally:
        other.clean()


def test_without_any_in_the_bucket_a_retry_begins_with_none(node: NodeProcess) -> None:
    exited = run_to_end(node, "ls $CHECKPOINT_DIR", attempt=2)
    assert (exited.exit_code, node.server.log(RUN, 2)) == (0, b"")


@pytest.mark.parametrize(
    ("path", "complete"),
    [
        ("a.ckpt", True),
        ("deep/a", True),
        ("a.tmp", False),
        ("deep/a.part", False),
        (".hidden", False),
        (".git/a", False),
        ("manifest.json", False),
        ("deep/manifest.json", True),
    ],
)
def test_complete_names(path: str, complete: bool) -> None:
    assert is_complete(path) is complete


def test_files_still_written_to_wait() -> None:
    found = [Found("old", 1, 5, 5), Found("new", 1, 15, 15), LeftOut("link", "outside")]
    assert [file.path for file in candidates(found, 10)] == ["old"]
    assert [file.path for file in candidates(found)] == ["old", "new"]
