"""Storing: the layout, what a hostile program cannot make us read, and stores that fail for a while."""

import os
import shutil
from pathlib import Path
from typing import Any

import obstore
import pytest

from runyard.node.sweep import Found, LeftOut
from runyard.node.workdir import choose, is_named, lines_of
from runyard.wire import facts, orders
from runyard.wire.orders import Place, Secret
from tests.node.nodes import RUN, NodeProcess, launch_of, run_to_end, running_node, stage_of, store_of
from tests.support.seaweedfs import S3Server, create_bucket
from tests.support.waiting import wait_until

HOSTILE = """
import os, socket
r = os.environ["RESULT_DIR"]
os.symlink("/etc/shadow", r + "/shadow")
os.symlink("../../../order.json", r + "/order")
os.symlink("/proc/self/environ", r + "/environ")
os.symlink("/etc", r + "/etc")
os.symlink("nowhere", r + "/dangling")
os.mkfifo(r + "/fifo")
os.chdir(r)
socket.socket(socket.AF_UNIX).bind("socket")
open(r + "/model/best.bin", "wb").write(b"best")
os.symlink("model/best.bin", r + "/latest")
os.symlink(r + "/model/best.bin", r + "/absolute")
os.rename(os.environ["LOG_DIR"], r + "/logs-were")
os.symlink("/etc", os.environ["LOG_DIR"])
open(r.encode() + b"/bad\\xff", "w").close()
open(r + "/secret", "w").close()
os.chmod(r + "/secret", 0)
os.mkdir(r + "/closed")
open(r + "/closed/in", "w").close()
os.chmod(r + "/closed", 0)
"""


def stored(node: NodeProcess, **order: Any) -> dict[str, bytes]:
    node.server.give(store_of(**order))
    node.server.wait_for(facts.Stored)
    return {key.removeprefix(RUN + "/"): content for key, content in node.server.bucket("results").items()}


def test_a_hostile_result_folder_makes_us_read_nothing_outside(node: NodeProcess) -> None:
    assert run_to_end(node, "python3 hostile.py", {"hostile.py": HOSTILE}).exit_code == 0, node.server.log(RUN)
    found = stored(node)
    shadow = Path("/etc/shadow").read_bytes() if os.geteuid() == 0 else b"root:"
    assert not any(shadow[:20] in content for content in found.values())
    assert {key for key in found if not key.startswith("learner-1/")} == {
        "model/best.bin",
        "latest",
        "absolute",
        "secret",
        "closed/in",
    }
    assert found["latest"] == found["absolute"] == b"best"
    told = found["learner-1/left-out.txt"].decode()
    for name in ("shadow", "order", "environ", "etc", "dangling", "fifo", "socket", "bad"):
        assert f"'{name}" in told, told
    assert "leads outside" in told


def test_the_working_directory_is_kept_up_to_the_limit_and_outputs_beyond(node: NodeProcess) -> None:
    code = {"code.py": "1", "sub/data.txt": "old", "keep.ckpt": "shipped"}
    make = "mkdir out; echo new > out/a.txt; echo changed > sub/data.txt; truncate -s 300M big.bin"
    exited = run_to_end(node, make, code, outputs=("*.ckpt",))
    log = node.server.log(RUN).decode()
    assert "out/a.txt (4 B)" in log
    assert "[runyard] NOT kept, because together they are over the limit of 200 MiB" in log
    assert "[runyard]   big.bin (314.6 MB)\n" in log
    assert exited.log_bytes == len(log)
    found = stored(node, outputs=("*.ckpt",))
    work = {key for key in found if key.startswith("workdir/")}
    assert work == {"workdir/out/a.txt", "workdir/sub/data.txt", "workdir/keep.ckpt"}
    assert "workdir/big.bin" in found["learner-1/left-out.txt"].decode()


def test_a_program_that_writes_nothing_outside_gets_no_closing_lines(node: NodeProcess) -> None:
    exited = run_to_end(node, "echo -n bare", {"a.py": "1"})
    assert (node.server.log(RUN), exited.log_bytes) == (b"bare", 4)


def test_event_files_and_logs_of_the_program_are_kept_with_ours(node: NodeProcess) -> None:
    run_to_end(
        node,
        "echo tb > $JOB_STATE_DIR/logs/tb/events.1; cd $LOG_DIR; echo mine > mine.txt; echo fake > training-log.txt",
    )
    found = stored(node)
    assert found["learner-1/tb/events.1"] == b"tb\n"
    assert found["learner-1/mine.txt"] == b"mine\n"
    assert found["learner-1/training-log.txt"] == b""


def test_logs_of_earlier_attempts(node: NodeProcess) -> None:
    run_to_end(node, "echo first; exit 1")
    run_to_end(node, "echo second", attempt=2)
    found = stored(node, attempt=2, earlier=(1,))
    assert found["attempts/1/learner-1/training-log.txt"] == b"first\n"
    assert found["learner-1/training-log.txt"] == b"second\n"
    assert "attempts/1/learner-1/load-model.log" in found


def test_evidence_of_a_run_that_never_began(node: NodeProcess) -> None:
    node.server.give(stage_of(node.server, {"../x": "1"}))
    node.server.wait_for(facts.StageFailed)
    found = stored(node, attempt=0, evidence="what the server was told")
    assert found["learner-1/load-data.log"] == b"what the server was told"
    assert b"leads out" in found["learner-1/load-model.log"]


def test_evidence_that_the_server_found_out_itself(node: NodeProcess) -> None:
    assert stored(node, attempt=0, spec=4711, evidence="no bucket") == {"learner-1/load-data.log": b"no bucket"}


def test_a_store_that_comes_back(node: NodeProcess) -> None:
    node.server.data_status = 503
    run_to_end(node, "echo x > $RESULT_DIR/x")
    node.server.give(store_of())
    assert not node.server.wait_for(facts.StoreFailed).denied
    node.server.data_status = 0
    assert node.server.wait_for(facts.Stored).run == RUN
    assert node.server.bucket("results")[f"{RUN}/x"] == b"x\n"


def test_a_refusal_is_told_as_one_and_tried_again(node: NodeProcess) -> None:
    node.server.data_status = 403
    run_to_end(node, "echo x > $RESULT_DIR/x")
    node.server.give(store_of())
    assert node.server.wait_for(facts.StoreFailed).denied
    node.server.wait(lambda: sum(isinstance(f, facts.StoreFailed) for f in node.server.facts) > 1, "another try")
    node.server.data_status = 0
    node.server.wait_for(facts.Stored)


def test_storing_can_be_given_up(node: NodeProcess) -> None:
    node.server.data_status = 503
    run_to_end(node, "echo x > $RESULT_DIR/x")
    node.server.give(store_of())
    node.server.wait_for(facts.StoreFailed)
    node.server.give(orders.StopStoring(RUN))
    node.server.data_status = 0
    run_to_end(node, "true", attempt=2)
    assert not any(isinstance(fact, facts.Stored) for fact in node.server.facts)
    assert node.server.bucket("results") == {}


def test_a_node_killed_while_it_stores_stores_the_rest(node: NodeProcess) -> None:
    run_to_end(node, "for n in $(seq 200); do echo $n > $RESULT_DIR/$n; done")
    node.server.give(store_of())
    node.server.wait(lambda: len(node.server.bucket("results")) > 20, "the first objects", 10)
    node.kill()
    half = set(node.server.bucket("results"))
    asked = len(node.server.requests)
    node.start()
    assert node.server.wait_for(facts.Stored).objects == len(node.server.bucket("results")) > 200
    again = {line.partition("results/")[2] for line in node.server.requests[asked:] if line.startswith("PUT /data")}
    assert again & {key for key in half if "checkpoints/" not in key} == set()


def test_a_folder_that_goes_while_it_is_stored_is_no_folder_that_was_stored(node: NodeProcess) -> None:
    run_to_end(node, "for n in $(seq 3000); do echo $n > $RESULT_DIR/$n; done; exit 1")
    node.server.give(store_of())
    node.server.wait(lambda: len(node.server.bucket("results")) > 5, "the first objects", 10)
    gone = node.attempt().rename(node.attempt().with_name("gone"))  # at once: removing it bit by bit may take longer
    shutil.rmtree(gone)
    failed = node.server.wait_for(facts.StoreFailed)
    assert failed.lost
    assert "no folder of attempt 1" in failed.detail
    assert not [each for each in node.server.facts if isinstance(each, facts.Stored)]


def test_results_in_a_folder_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    with running_node(tmp_path, "--host-path", f"{tmp_path}/open:rw") as node:
        place = Place("volume", "team", path=str(tmp_path / "open"))
        run_to_end(node, "echo x > $RESULT_DIR/model/x", results=place)
        node.server.wait_for(facts.Stored)
        assert (tmp_path / "open" / "team" / RUN / "model" / "x").read_text() == "x\n"
        assert (tmp_path / "open" / "team" / RUN / "learner-1" / "training-log.txt").exists()


def test_results_in_a_folder_that_is_not_open(node: NodeProcess, tmp_path: Path) -> None:
    run_to_end(node, "true")
    node.server.give(store_of(results=Place("volume", "team", path=str(tmp_path))))
    assert node.server.wait_for(facts.StoreFailed).denied
    assert not (tmp_path / "team").exists()


@pytest.mark.s3
def test_data_from_and_results_to_a_real_s3_server(node: NodeProcess, s3_server: S3Server) -> None:
    data, results = create_bucket(s3_server, "node-data"), create_bucket(s3_server, "node-results")
    big = os.urandom(40 << 20)
    obstore.put(data, "set/big.bin", big)
    obstore.put(data, "set/small.txt", b"small")
    items = tuple(
        orders.Item(meta["path"].removeprefix("set/"), meta["size"], meta["e_tag"] or "")
        for batch in obstore.list(data, "set/")
        for meta in batch
    )
    secret = Secret(s3_server.access_key_id, s3_server.secret_access_key)
    place = Place("s3", "node-data", "set", "d", endpoint_url=s3_server.endpoint_url, region="us-east-1", secret=secret)
    to = Place("s3", "node-results", endpoint_url=s3_server.endpoint_url, region="us-east-1", secret=secret)
    stage = stage_of(node.server, {}, data=(orders.Part(place, items),))
    command = "cp $DATA_DIR/big.bin $RESULT_DIR/model/; sha256sum < $DATA_DIR/big.bin; cat $DATA_DIR/small.txt"
    node.server.give(launch_of(stage, command, results=to))
    assert node.server.wait_for(facts.Exited).exit_code == 0
    node.server.give(store_of(results=to))
    told = node.server.wait_for(facts.Stored)
    assert bytes(obstore.get(results, f"{RUN}/model/big.bin").bytes()) == big
    listed = {meta["path"]: meta["size"] for batch in obstore.list(results) for meta in batch}
    assert (told.objects, told.size) == (len(listed), sum(listed.values()))
    found = [p for p in node.home.rglob("*") if p.is_file() and s3_server.secret_access_key.encode() in p.read_bytes()]
    assert found == []
    assert s3_server.secret_access_key not in node.said()


@pytest.mark.s3
def test_wrong_keys_and_missing_buckets_are_refusals(node: NodeProcess, s3_server: S3Server) -> None:
    create_bucket(s3_server, "node-guarded")
    wrong = Secret(s3_server.access_key_id, "not-the-key")
    right = Secret(s3_server.access_key_id, s3_server.secret_access_key)
    for spec, bucket, secret, reason in (
        (1, "node-guarded", wrong, "data_access_denied"),
        (2, "node-no-such", right, "data_not_found"),
    ):
        place = Place("s3", bucket, name="d", endpoint_url=s3_server.endpoint_url, secret=secret)
        part = orders.Part(place, (orders.Item("x", 1, '"e"'),))
        node.server.give(stage_of(node.server, {}, spec, data=(part,)))
        fact = node.server.wait_for(facts.StageFailed, lambda fact, spec=spec: fact.spec == spec)
        assert fact.reason == reason
        assert "not-the-key" not in fact.log + fact.detail
    run_to_end(node, "true")
    node.server.give(store_of(results=Place("s3", "node-guarded", endpoint_url=s3_server.endpoint_url, secret=wrong)))
    assert node.server.wait_for(facts.StoreFailed).denied


# ------------------------------------------------------------------------------------------------- decisions, alone


def found(path: str, size: int = 1, changed_ns: int = 10) -> Found:
    return Found(path, size, changed_ns, changed_ns)


def test_what_of_a_working_directory_is_kept() -> None:
    files = [
        found("a/__pycache__/x.pyc"),
        found("code.py", changed_ns=5),
        found("model.ckpt", 1000, changed_ns=1),
        LeftOut("odd", "it is a link that leads outside"),
        found("step-1.pt", 60, changed_ns=11),
        found("step-2.pt", 60, changed_ns=12),
        found("table", 40, changed_ns=10),
    ]
    choice = choose(files, prepared_ns=5, outputs=("*.ckpt",), limit=100)
    assert [file.path for file in choice.kept] == ["model.ckpt", "step-2.pt", "table"], "the newest come first"
    assert [left.path for left in choice.left_out] == ["step-1.pt", "odd"]
    assert choice.byte_code == 1


def test_how_the_log_tells_what_is_kept() -> None:
    files = [found(f"checkpoints/{number:02}.pt", 1000) for number in range(60)]
    events = [found(f"runs/a/events.out.tfevents.{number}", 10) for number in range(3)]
    choice = choose(
        [*files, *events, found("x/__pycache__/m.pyc"), LeftOut("odd\nname", "it is no file")], 0, (), limit=59_030
    )
    lines = list(lines_of(choice, "training-x/workdir/"))
    assert lines[0].endswith("outside RESULT_DIR, and kept in training-x/workdir/ (62 files, 59.0 kB):")
    assert lines[1] == "  checkpoints/00.pt (1.0 kB)"
    over = "NOT kept, because together they are over the limit of 59030 bytes "
    over += "(name them in `outputs`, or write to RESULT_DIR):"
    assert lines[51:] == [
        "  and 10 more, 9.0 kB",
        over,
        "  checkpoints/59.pt (1.0 kB)",
        "NOT kept, because they are no files of the program's own:",
        "  odd?name: it is no file",
        "Byte code is not kept (1 file in __pycache__).",
    ]
    told = list(lines_of(choose([*events, files[0]], 0, ()), "w/"))
    assert told[1:] == ["  checkpoints/00.pt (1.0 kB)", "  runs/a/: 3 TensorBoard event files (30 B)"]
    assert not list(lines_of(choose([found("x/__pycache__/m.pyc")], 0, ()), "w/"))


@pytest.mark.parametrize(
    ("path", "patterns", "named"),
    [
        ("a.ckpt", ("*.ckpt",), True),
        ("deep/a.ckpt", ("*.ckpt",), True),
        ("out/x/y", ("out/",), True),
        ("out/x/y", ("./out",), True),
        ("output", ("out",), False),
        ("a.pt", (), False),
    ],
)
def test_outputs(path: str, patterns: tuple[str, ...], named: bool) -> None:
    assert is_named(path, patterns) is named


# -------------------------------------------------------------------------------------------------- without an order


def test_what_ended_well_is_stored_at_once_in_one_request(node: NodeProcess) -> None:
    run_to_end(node, "echo x > $RESULT_DIR/x; echo y > y; ln -s /etc/passwd $RESULT_DIR/secret")
    stored = node.server.wait_for(facts.Stored)
    found = {key.removeprefix(f"{RUN}/"): content for key, content in node.server.bucket("results").items()}
    assert (found["x"], found["workdir/y"]) == (b"x\n", b"y\n")
    assert "secret" not in found
    assert b"secret" in found["learner-1/left-out.txt"]
    assert (stored.objects, stored.size) == (len(found), sum(map(len, found.values())))
    requests = [line for line in node.server.requests if "/objects" in line or "/data/" in line]
    assert requests == ["POST /objects"]
    node.server.give(store_of())
    node.server.give(orders.Release(RUN))
    wait_until(lambda: not node.attempt().exists(), "the end of the folder")
    assert len([line for line in node.server.requests if line == "POST /objects"]) == 1


@pytest.mark.parametrize(
    ("write", "there"),
    [
        ("true", set[str]()),
        ("echo x > x", {"workdir/x"}),
        ("echo x >> seen.py", {"workdir/seen.py"}),
        ("echo x > $RESULT_DIR/x", {"x"}),
        ("echo x > $LOG_DIR/x", {"learner-1/x"}),
        ("mkdir -p $JOB_STATE_DIR/logs/a; echo x > $JOB_STATE_DIR/logs/a/x", {"learner-1/a/x"}),
        ("ln -s x $RESULT_DIR/link", {"learner-1/left-out.txt"}),
    ],
)
def test_wherever_a_program_has_written_it_is_stored(node: NodeProcess, write: str, there: set[str]) -> None:
    run_to_end(node, write, {"seen.py": "1"})
    stored = node.server.wait_for(facts.Stored)
    ours = {f"learner-1/{name}" for name in ("training-log.txt", "load-data.log", "load-model.log")}
    assert {key.removeprefix(f"{RUN}/") for key in node.server.bucket("results")} == ours | there
    assert stored.objects == len(ours | there)


def test_a_server_that_knows_no_small_objects_or_ranges_gets_them_one_by_one(node: NodeProcess) -> None:
    node.server.plain = True
    run_to_end(node, "echo x > $RESULT_DIR/x")
    node.server.wait_for(facts.Stored)
    assert node.server.bucket("results")[f"{RUN}/x"] == b"x\n"
    assert any(line.startswith("PUT /logs/") for line in node.server.requests)


def test_what_failed_waits_for_its_order(node: NodeProcess) -> None:
    run_to_end(node, "exit 3")
    assert not node.server.bucket("results")
    node.server.give(store_of())
    node.server.wait_for(facts.Stored)


def test_large_results_go_by_themselves(node: NodeProcess) -> None:
    run_to_end(node, "head -c 3000000 /dev/zero > $RESULT_DIR/large")
    node.server.wait_for(facts.Stored)
    assert len(node.server.bucket("results")[f"{RUN}/large"]) == 3_000_000


def test_what_was_stored_at_once_is_stored_elsewhere_when_the_order_says_so(node: NodeProcess) -> None:
    run_to_end(node, "echo x > $RESULT_DIR/x")
    node.server.wait_for(facts.Stored)
    node.server.give(store_of(results=Place("local", "other", account="acme")))
    node.server.wait(lambda: f"{RUN}/x" in node.server.bucket("other"), "the object in the other bucket")
