"""What manifests ask of other things, through the whole product: runs to wait for, secrets, isolation, many at once."""

import hashlib
import os
import socket
import time
from pathlib import Path

import pytest

from tests.support.installation import Installation, manifest, running_installation, write_code

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]
VALUE = "sesame-open-0123456789"


class Gate:
    """Something that a program waits for until a test opens it."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(90)
        self.command = f"read line < /dev/tcp/127.0.0.1/{self._server.getsockname()[1]}"

    def open(self) -> None:
        """Let the one program that waits go on."""
        with self._server, self._server.accept()[0] as program:
            program.sendall(b"go\n")


def submit(yard: Installation, command: str, extra: str = "", *options: str, code: str = "code") -> list[str]:
    """Submit a command with some keys of ours; returns the ids."""
    write_code(yard.folder / code, {"README": "nothing to see\n"})
    (yard.folder / "orders.yml").write_text(manifest(command, extra=f"runyard: {{{extra}}}\n" if extra else ""))
    return [str(each) for each in yard.json("train", code, "orders.yml", *options)["ids"]]


def log_of(yard: Installation, run: str) -> list[str]:
    return yard.cli("logs", run).stdout.splitlines()


def test_a_pipeline_goes_on_by_itself_and_stops_where_one_fails(shared: Installation) -> None:
    gate = Gate()
    first = submit(shared, gate.command)[0]
    second = submit(shared, "echo second", "tags: [second]", "--after", first)[0]
    third = submit(shared, "false", f"after: [{second}]")[0]
    fourth = submit(shared, "echo never", f"after: [{second}, {third}]")[0]
    waiting = shared.json("show", second)
    assert (waiting["state"], waiting["readiness"], waiting["after"]) == ("waiting", "after", [first])
    assert first in shared.cli("explain", second).stdout
    gate.open()
    shared.cli("wait", first, second)
    shared.cli("wait", third, check=1)
    shared.cli("wait", fourth, check=3)
    assert log_of(shared, second)[0] == "second"
    ended = shared.json("show", fourth)
    assert (ended["state"], ended["reason"]) == ("canceled", "dependency_failed")
    assert f"{third} failed." in ended["sentence"]
    kinds = [event["kind"] for event in shared.get(f"/training-runs/{second}/events")["items"]]
    assert "unblocked" in kinds


def test_a_secret_reaches_its_program_and_nothing_else(shared: Installation) -> None:
    (shared.folder / "value").write_text(VALUE + "\n")
    shared.cli("secrets", "add", "STORY_TOKEN", "--from-file", "value")
    assert "STORY_TOKEN" in shared.cli("secrets", "list").stdout
    (shared.folder / "value").unlink()
    digest = hashlib.sha256(VALUE.encode()).hexdigest()
    check = f'test "$(printf %s "$STORY_TOKEN" | sha256sum | cut -c 1-64)" = {digest}; env | grep -c "$STORY_TOKEN"'
    run = submit(shared, check, "secrets: [STORY_TOKEN]")[0]
    shared.cli("wait", run)
    assert log_of(shared, run)[0] == "1"
    shown = [
        shared.cli(*words).stdout for words in (("show", run), ("show", run, "--json"), ("logs", run), ("events", run))
    ]
    assert not any(VALUE in text for text in shown)
    holding = [path for path in shared.home.rglob("*") if path.is_file() and VALUE.encode() in path.read_bytes()]
    assert holding == []
    without = submit(shared, 'test -z "${STORY_TOKEN+set}"')[0]
    shared.cli("wait", without)
    shared.cli("secrets", "rm", "STORY_TOKEN")
    (shared.folder / "orders.yml").write_text(manifest("true", extra="runyard: {secrets: [STORY_TOKEN]}\n"))
    refused = shared.cli("train", "code", "orders.yml", check=4)
    assert "runyard secrets add STORY_TOKEN" in refused.stderr


def test_a_secret_that_was_removed_ends_the_run_and_leaves_the_evidence(shared: Installation) -> None:
    gate = Gate()
    first = submit(shared, gate.command)[0]
    (shared.folder / "value").write_text(VALUE)
    shared.cli("secrets", "add", "GONE_TOKEN", "--from-file", "value")
    second = submit(shared, "echo never", f"secrets: [GONE_TOKEN], after: [{first}], max_retries: 3")[0]
    shared.cli("secrets", "rm", "GONE_TOKEN")
    gate.open()
    shared.cli("wait", second, check=1)
    ended = shared.json("show", second)
    assert (ended["reason"], ended["fault"], len(ended["attempts"])) == ("secret_missing", "user", 1)
    assert "GONE_TOKEN" in ended["sentence"]
    stored = shared.get(f"/training-runs/{second}/results")["items"]
    assert "learner-1/load-data.log" in [each["key"] for each in stored]


def test_a_run_starts_from_the_checkpoints_of_another(shared: Installation) -> None:
    first = submit(shared, "echo seven > $CHECKPOINT_DIR/state")[0]
    shared.cli("wait", first)
    second = submit(shared, "cat $CHECKPOINT_DIR/state; echo eight > $CHECKPOINT_DIR/state", f"start_from: {first}")[0]
    shared.cli("wait", second)
    assert log_of(shared, second)[0] == "seven"
    assert shared.json("show", second)["start_from"] == first
    (shared.folder / "orders.yml").write_text(manifest("true"))
    without = shared.json("train", "code", "orders.yml")["ids"][0]
    shared.cli("wait", without)
    (shared.folder / "orders.yml").write_text(manifest("true", extra=f"runyard: {{start_from: {without}}}\n"))
    refused = shared.cli("train", "code", "orders.yml", check=4)
    assert f"{without} has left none" in refused.stderr


def test_learners_share_one_attempt_and_have_a_log_each(shared: Installation) -> None:
    write_code(shared.folder / "code", {"README": "nothing to see\n"})
    (shared.folder / "two.yml").write_text(
        "name: two\ngpus: 1\ncpus: 0.5\nmemory: 128MiB\nlearners: 2\n"
        "data_stores:\n- id: s\n  type: local\n  training_results: {container: results}\n"
        "framework: {name: python, command: 'echo I am $LEARNER_ID of $NUM_LEARNERS'}\n"
    )
    run = shared.json("train", "code", "two.yml")["ids"][0]
    shared.cli("wait", run)
    for learner in ("1", "2"):
        text = shared.cli("logs", run, "--learner", learner).stdout
        assert text.splitlines()[0] == f"I am {learner} of 2"
    assert "2 learners, numbered from 1" in shared.cli("logs", run, "--learner", "3", check=4).stderr
    shown = shared.json("show", run)
    assert (shown["learners"], shown["resources"]["gpus"], len(shown["attempts"])) == (2, 2, 1)
    assert sorted(shown["attempts"][0]["slots"]) == [0, 1]
    assert "2 learners, each 1 GPU, 0.5 CPU" in shared.cli("show", run).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_shm_and_no_network(shared: Installation) -> None:
    features = shared.get("/status")["nodes"][0]["features"]
    if not {"shm", "network_off"} <= set(features):
        pytest.skip("this machine lets nobody make namespaces")
    command = "df -m --output=size /dev/shm | tail -1; grep -c : /proc/net/dev"
    run = submit(shared, command, "shm: 16MiB, network: off")[0]
    shared.cli("wait", run)
    assert [line.strip() for line in log_of(shared, run)[:2]] == ["16", "1"]


def test_thousands_that_wait_are_canceled_in_seconds(tmp_path: Path) -> None:
    with running_installation(tmp_path, "--fake-gpus", "1") as yard:
        blocker = submit(yard, "sleep 600")[0]
        write_code(yard.folder / "code", {"README": "nothing to see\n"})
        (yard.folder / "orders.yml").write_text(manifest("echo {i}", extra="runyard: {tags: [many]}\n"))
        ids = yard.json("train", "code", "orders.yml", "--set", "i=0..4999:5000")["ids"]
        follower = submit(yard, "echo never", f"after: [{ids[0]}]")[0]
        submitted = time.monotonic()
        done = yard.json("cancel", "tag:many")
        canceled = time.monotonic()
        assert sorted(done["ids"]) == sorted(ids)
        yard.cli("wait", follower, check=3)
        counts = yard.get("/status")["counts"]
        assert counts["canceled"] == len(ids) + 1
        assert canceled - submitted < 60
        assert yard.json("show", blocker)["state"] == "running"
