"""Limits of what a run writes, and the evidence of what it wrote and of what it was made of; slow readers."""

import hashlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.installation import Installation, manifest, running_installation, write_code
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.timeout(180)]
MIB = 1 << 20
WRITTEN = "[runyard] Written in the working directory, outside RESULT_DIR, and kept in"
WAYS_OUT = "(name them in `outputs`, or write to RESULT_DIR)"
TRAIN = """
import os, pathlib
for number in range(300_000):
    print(f"line {number:06}")
for place, size in (("checkpoints/1.pt", 700_000), ("checkpoints/2.pt", 700_000), ("runs/events.out.tfevents.1", 100)):
    pathlib.Path(place).parent.mkdir(exist_ok=True)
    pathlib.Path(place).write_bytes(bytes(size))
    os.sync()
os.symlink("/etc/passwd", "outside")
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    limits = "log_limit_mib = 1\ndisk_limit_gib = 0.05\nworkdir_limit_mib = 1\n"
    with running_installation(tmp_path_factory.mktemp("limits"), "--fake-gpus", "2", settings=limits) as installation:
        yield installation


def text_of(yard: Installation, run: str, name: str) -> str:
    with yard.client().read_result(run, name) as stream:
        return b"".join(stream.chunks()).decode()


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def disk_of(folder: Path) -> int:
    # It says what it saw, and ends with 1, where a file goes while it looks.
    told = subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=False).stdout
    return int(told.split()[0]) << 10


def test_what_a_run_wrote_and_what_it_was_made_of_can_be_told(yard: Installation) -> None:
    folder = write_code(yard.folder / "code", {"train.py": TRAIN})
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    (folder / "train.py").write_text(TRAIN + "# changed\n")
    data = write_code(yard.folder / "digits", {"a.txt": "one", "b.txt": "three"})
    yard.cli("data", "push", str(data), "digits")
    (yard.folder / "m.yml").write_text(manifest("python3 train.py", data="digits"))
    run = yard.json("train", str(folder), "m.yml", "--wait")["ids"][0]

    log = yard.cli("logs", run).stdout
    assert log == text_of(yard, run, "learner-1/training-log.txt")
    assert log.startswith("line 000000\n")
    lines = log.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("[runyard] The log has reached its limit"))
    assert sum(len(line) + 1 for line in lines[:at]) == -(-MIB // 12) * 12, "up to the end of the line at the limit"
    assert lines[at + 1].endswith(" bytes are left out here.")
    assert "line 299999" in lines
    assert [line for line in lines if line.startswith("[runyard]")][2:] == [
        f"{WRITTEN} {run}/workdir/ (2 files, 700.1 kB):",
        "[runyard]   checkpoints/2.pt (700.0 kB)",
        "[runyard]   runs/: TensorBoard event file (100 B)",
        f"[runyard] NOT kept, because together they are over the limit of 1 MiB {WAYS_OUT}:",
        "[runyard]   checkpoints/1.pt (700.0 kB)",
        "[runyard] NOT kept, because they are no files of the program's own:",
        "[runyard]   outside: it is a link that leads outside",
    ]
    stored = {item.key: item.size for item in yard.client().results(run).items}
    assert stored["workdir/checkpoints/2.pt"] == 700_000
    assert "workdir/checkpoints/1.pt" not in stored
    left_out = text_of(yard, run, "learner-1/left-out.txt")
    assert "checkpoints/1.pt" in left_out
    assert "outside" in left_out

    shown = yard.json("show", run)
    provenance = shown["provenance"]
    assert (provenance["git_branch"], provenance["git_dirty"]) == ("trunk", True)
    assert "+# changed" in provenance["git_diff"]
    etags = {item.key: item.etag for item in yard.client().objects("digits")}
    digest = hashlib.sha256(f"a.txt\t3\t{etags['a.txt']}\nb.txt\t5\t{etags['b.txt']}\n".encode()).hexdigest()
    assert [(held["objects"], held["bytes"], held["digest"]) for held in shown["inputs"]] == [(2, 8, digest)]
    assert f"local digits/ (2 objects, 8 bytes, digest {digest[:12]})" in yard.cli("show", run).stdout
    assert f"'b.txt': 5 bytes, etag {etags['b.txt']}" in text_of(yard, run, "learner-1/load-data.log")


def test_a_program_that_prints_for_ever_fills_no_disk(yard: Installation) -> None:
    before = disk_of(yard.home)
    (yard.folder / "yes.yml").write_text(manifest("yes for ever"))
    run = yard.json("train", str(write_code(yard.folder / "empty", {"a": "1"})), "yes.yml")["ids"][0]
    log = yard.home / f"node/runs/{run}/attempts/1/training-log.txt"
    wait_until(lambda: log.exists() and log.stat().st_size > 400 * MIB, "much of a log", 100)
    wait_until(lambda: "has reached its limit of 1 MiB" in yard.cli("logs", run).stdout, "the notice")
    yard.cli("cancel", run)
    yard.cli("wait", run, check=3)
    text = yard.cli("logs", run).stdout
    assert len(text) < MIB + 70_000
    assert "for ever\nfor" in text[-30:], "up to where it was killed"
    assert disk_of(yard.home) - before < 8 * MIB
    wait_until(lambda: not log.exists(), "its folder is gone")


def test_a_run_that_takes_too_much_of_the_disk_is_ended(yard: Installation) -> None:
    fill = "for n in $(seq 100000); do head -c 4M /dev/zero > $CHECKPOINT_DIR/$n; sleep 0.2; done"
    (yard.folder / "fill.yml").write_text(manifest(fill, extra="runyard: {grace: 1s}\n"))
    run = yard.json("train", str(write_code(yard.folder / "empty", {"a": "1"})), "fill.yml")["ids"][0]
    yard.cli("wait", run, check=1)
    shown = yard.json("show", run)
    assert (shown["state"], shown["reason"], shown["fault"]) == ("failed", "disk_limit", "user")
    last = yard.cli("logs", run).stdout.splitlines()[-1]
    assert last.startswith("[runyard] The run takes ")
    assert "over its limit of 52 MiB (disk_limit_gib)" in last
    assert shown["sentence"].endswith(last.removeprefix("[runyard] "))


# -------------------------------------------------------------------------------------------------- slow readers


def pss(pid: int) -> int:
    """Bytes of memory that a process takes, its share of what it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise AssertionError("the kernel tells no PSS")


def stuck(yard: Installation, path: str, accept: str) -> socket.socket:
    """A reader that asks and then never reads."""
    parts = urlsplit(yard.url)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((parts.hostname, parts.port))
    head = f"GET /api/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {yard.token}\r\nAccept: {accept}\r\n\r\n"
    reader.sendall(head.encode())
    reader.settimeout(30)
    assert reader.recv(12) == b"HTTP/1.1 200"  # it is being answered
    return reader


def test_readers_who_do_not_read_harm_nobody(shared: Installation) -> None:
    chatty = "import os\nfor _ in range(160): print('x' * 99_999)\nprint('the end')\n"
    chatty += "open(os.environ['RESULT_DIR'] + '/big', 'wb').write(bytes(16 << 20))\n"
    folder = write_code(shared.folder / "chatty", {"chatty.py": chatty})
    (shared.folder / "chatty.yml").write_text(manifest("python3 chatty.py"))
    run = shared.json("train", str(folder), "chatty.yml", "--wait")["ids"][0]
    server = shared.child("server")
    before, threads = pss(server), len(os.listdir(f"/proc/{server}/task"))
    ways = (
        (f"/training-runs/{run}/logs?follow=true", "text/plain"),
        (f"/training-runs/{run}/logs", "text/event-stream"),
        (f"/training-runs/{run}/results/big", "*/*"),
        (f"/data/results/{run}/big", "*/*"),
    )
    readers = [stuck(shared, path, accept) for path, accept in ways for _ in range(25)]
    try:
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert shared.client().run(run).id == run
            assert shared.cli("logs", run, "--tail", "1").stdout == "the end\n" if slowest == 0 else True
            slowest = max(slowest, time.monotonic() - began)
        request = urllib.request.Request(
            f"{shared.url}/api/v1/training-runs/{run}/logs", headers={"Authorization": f"Bearer {shared.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(answer.read()) == 160 * 100_000 + 8
        other = shared.json("train", str(folder), "chatty.yml", "--wait")["ids"]
        assert shared.json("show", other[0])["state"] == "completed", "work goes on"
        assert pss(server) - before < 120 * MIB, "about half a megabyte a reader"
        assert len(os.listdir(f"/proc/{server}/task")) - threads < 80, "threads are held only while something moves"
    finally:
        for reader in readers:
            reader.close()
    assert json.loads(shared.cli("status", "--json").stdout)
