"""What goes wrong: right state, reason and fault, evidence in the bucket, nothing left alive."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Installation, alive, manifest, write_code
from tests.support.seaweedfs import S3Server, create_bucket, put_text
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.timeout(180)]
FAILING = Path(__file__).parents[2] / "samples" / "failing"


def submit(yard: Installation, folder: Path, *options: str) -> str:
    """Submit a sample; returns its id."""
    return str(yard.json("train", str(folder), str(folder / "manifest.yml"), *options)["ids"][0])


def end_of(yard: Installation, run: str, exit_code: int = 1) -> dict[str, Any]:
    """Wait for a run, which must give ``exit_code``; returns what `show` tells."""
    yard.cli("wait", run, check=exit_code)
    return yard.json("show", run)


def stored(yard: Installation, run: str, name: str) -> str:
    """An object that the run has stored."""
    with yard.client().read_result(run, name) as stream:
        return b"".join(stream.chunks()).decode()


def test_a_wrong_command(shared: Installation) -> None:
    run = submit(shared, FAILING / "wrong-command")
    shown = end_of(shared, run)
    assert (shown["state"], shown["reason"], shown["fault"]) == ("failed", "nonzero_exit", "user")
    assert "No such file" in stored(shared, run, "learner-1/training-log.txt")
    assert alive(run) == []


def test_a_command_that_is_not_there(shared: Installation) -> None:
    folder = write_code(shared.folder / "misspelt", {"train.py": "print(1)\n"})
    (folder / "manifest.yml").write_text(manifest("pyhton3 train.py"))
    run = submit(shared, folder)
    shown = end_of(shared, run)
    assert (shown["state"], shown["reason"], shown["exit_code"]) == ("failed", "command_not_found", 127)
    assert "pyhton3" in stored(shared, run, "learner-1/training-log.txt")


def test_data_that_are_missing_are_refused_before_they_are_accepted(shared: Installation) -> None:
    refused = shared.cli("train", str(FAILING / "missing-data"), str(FAILING / "missing-data/manifest.yml"), check=4)
    assert "bucket" in refused.stderr
    assert refused.stdout == ""


def test_data_that_go_missing_leave_their_evidence(shared: Installation) -> None:
    run = submit(shared, FAILING / "missing-data", "--force")
    shown = end_of(shared, run)
    assert (shown["state"], shown["reason"], shown["fault"]) == ("failed", "data_not_found", "user")
    assert shown["gpu_seconds"] == 0
    assert "no bucket" in stored(shared, run, "learner-1/load-data.log")


@pytest.mark.s3
def test_a_wrong_key_leaves_its_evidence(shared: Installation, s3_server: S3Server) -> None:
    put_text(create_bucket(s3_server, "wrong-key-data"), "x.txt", "data")
    folder = write_code(shared.folder / "wrong-key", {"train.py": "print('never')\n"})
    connection = f"endpoint_url: {s3_server.endpoint_url}, access_key_id: nobody, secret_access_key: hush-hush-hush"
    text = manifest("python3 train.py").replace(
        "training_results_reference",
        f"training_data_reference:\n  type: s3\n  connection: {{{connection}}}\n"
        "  source: {bucket: wrong-key-data}\ntraining_results_reference",
    )
    (folder / "manifest.yml").write_text(text)
    refused = shared.cli("train", str(folder), str(folder / "manifest.yml"), check=4)
    assert "hush-hush" not in refused.stderr
    run = submit(shared, folder, "--force")
    shown = end_of(shared, run)
    assert (shown["state"], shown["reason"], shown["fault"]) == ("failed", "data_access_denied", "user")
    evidence = stored(shared, run, "learner-1/load-data.log")
    assert "wrong-key-data" in evidence
    assert "hush-hush" not in evidence + str(shown)


def test_out_of_memory_is_told_by_the_kernel(shared: Installation) -> None:
    run = submit(shared, FAILING / "out-of-memory")
    shown = end_of(shared, run)
    assert (shown["state"], shown["reason"], shown["fault"]) == ("failed", "out_of_memory", "user")
    assert "MiB" in stored(shared, run, "learner-1/training-log.txt")
    assert alive(run) == []


def test_a_time_limit(shared: Installation) -> None:
    folder = write_code(
        shared.folder / "slow", {"train.py": "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"}
    )
    (folder / "manifest.yml").write_text(manifest("python3 train.py"))
    run = submit(shared, folder, "--max-runtime", "1s")
    shown = end_of(shared, run)
    assert (shown["state"], shown["reason"], shown["fault"]) == ("failed", "time_limit", "user")
    assert stored(shared, run, "learner-1/training-log.txt") == "begun\n"
    assert alive(run) == []


def test_a_hang_is_canceled_with_all_its_children(shared: Installation) -> None:
    run = submit(shared, FAILING / "hang")
    wait_until(lambda: shared.cli("logs", run).stdout.count("hangs") == 3, "their three lines", 30)
    assert len(alive(run)) >= 2, "its child and its daemon have it in their command line"
    shared.cli("cancel", run)
    shown = end_of(shared, run, exit_code=3)
    assert (shown["state"], shown["reason"]) == ("canceled", "canceled")
    assert alive(run) == []
    assert stored(shared, run, "learner-1/training-log.txt").count("hangs") == 3


def test_a_signal_is_told_apart(shared: Installation) -> None:
    folder = write_code(shared.folder / "signal", {"train.py": "import os\nos.kill(os.getpid(), 11)\n"})
    (folder / "manifest.yml").write_text(manifest("python3 train.py"))
    shown = end_of(shared, submit(shared, folder))
    assert (shown["state"], shown["reason"], shown["fault"]) == ("failed", "killed_by_signal", "user")
    assert "SIGSEGV" in shown["sentence"]


def test_code_that_is_no_zip_is_refused(shared: Installation) -> None:
    (shared.folder / "bad.zip").write_bytes(b"this is no zip")
    folder = write_code(shared.folder / "ok", {"train.py": "print(1)\n"})
    (folder / "manifest.yml").write_text(manifest("python3 train.py"))
    refused = shared.cli("train", "bad.zip", str(folder / "manifest.yml"), check=2)
    assert "zip" in refused.stderr


def test_a_store_that_fails_after_the_end_makes_only_storing_try_again(shared: Installation) -> None:
    """The bucket is a file for a while: nothing can be stored, the slot is free, the program does not run again."""
    buckets = shared.home / "server" / "store" / "default"
    folder = write_code(shared.folder / "later", {"train.py": "print('once')\n"})
    text = manifest("python3 train.py").replace("bucket: results", "bucket: later")
    (folder / "manifest.yml").write_text(text)
    shared.cli("queue", "pause")
    run = submit(shared, folder)
    shutil.rmtree(buckets / "later", ignore_errors=True)
    (buckets / "later").write_text("in the way")
    shared.cli("queue", "resume")
    wait_until(lambda: "again" in shared.json("show", run)["sentence"], "a failed try", 60)
    shown = shared.json("show", run)
    assert (shown["state"], shown["exit_code"]) == ("storing", 0)
    assert shared.get("/quota")["used_gpus"] == 0
    (buckets / "later").unlink()
    shown = end_of(shared, run, exit_code=0)
    assert (shown["state"], len(shown["attempts"])) == ("completed", 1)
    assert stored(shared, run, "learner-1/training-log.txt") == "once\n"
