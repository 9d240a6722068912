"""Logs beyond their limit: what is shipped, what is kept, and the disk that a program which prints for ever takes."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from runyard.node.closing import close_log
from runyard.node.home import AttemptFolder
from runyard.node.limits import Limits
from runyard.node.log_limit import LONGEST_LINE, TAIL, Freeing, find_cut, read_shippable, settle, shippable
from runyard.node.prepare import limits_of
from runyard.shim.lean import libc
from runyard.wire import facts
from tests.node.nodes import RUN, launch_of, run_to_end, running_node, stage_of
from tests.support.waiting import wait_until

LIMIT = 1000
KIB = 1 << 10


@pytest.fixture
def folder(tmp_path: Path) -> AttemptFolder:
    made = AttemptFolder("training-abcdefghi", 1, str(tmp_path))
    Path(made.order).write_bytes(msgspec.json.encode({"limits": Limits(log=LIMIT)}))
    return made


def write(folder: AttemptFolder, text: bytes) -> str:
    path = folder.log("training-log")
    Path(path).write_bytes(text)
    return path


def shipped(path: str, limit: int = LIMIT) -> bytes:
    """All that would have been shipped of a log that is as it is now."""
    found = b""
    while chunk := read_shippable(path, limit, len(found), 700):
        found += chunk
    assert len(found) == shippable(path, limit)
    return found


def ended(size: int) -> dict[str, object]:
    return {"log_bytes": size, "started_at_ms": 1, "cause": None}


@pytest.mark.parametrize("line", [b"x" * 99 + b"\n", "ü".encode() * 40 + b"\n", b"no end ", b"\n"], ids=repr)
def test_what_is_shipped_at_any_time_begins_what_the_log_is_at_last(folder: AttemptFolder, line: bytes) -> None:
    whole = (line * (200 * KIB // len(line)))[: 200 * KIB]
    before = b""
    for size in (
        0,
        1,
        999,
        1000,
        1001,
        1100,
        1101,
        1102,
        2000,
        66_000,
        66_530,
        66_535,
        66_536,
        66_537,
        70_000,
        len(whole),
    ):
        now = shipped(write(folder, whole[:size]))
        assert now.startswith(before), size
        before = now
    assert b"The log has reached its limit of 1000 bytes" in before
    close_log(folder, ended(len(whole)))
    path = folder.log("training-log")
    final = Path(path).read_bytes()
    assert final.startswith(before)
    cut = final.index(b"[runyard] The log has reached")
    assert cut <= LIMIT + LONGEST_LINE + 1
    assert whole.startswith(final[:cut].rstrip(b"\n"))
    rest = final.partition(b" bytes are left out here.\n")
    assert whole.endswith(rest[2])
    assert TAIL - len(line) <= len(rest[2]) <= TAIL
    told = int(rest[0].rpartition(b"[runyard] ")[2])
    assert told == len(whole) - len(rest[2]) - (cut - (final[cut - 1 : cut] == b"\n" and whole[cut - 1 : cut] != b"\n"))


@pytest.mark.parametrize("size", [0, 500, 1000, 1001, 1090])
def test_a_log_that_is_hardly_longer_than_its_limit_stays_as_it_is(folder: AttemptFolder, size: int) -> None:
    text = b"x" * size
    path = write(folder, text)
    assert shipped(path) == text
    settle(folder, LIMIT)
    assert Path(path).read_bytes() == text


def test_a_log_that_is_over_by_less_than_the_tail_loses_nothing(folder: AttemptFolder) -> None:
    path = write(folder, b"line\n" * 300)
    settle(folder, LIMIT)
    text = Path(path).read_bytes()
    assert text.count(b"line\n") == 300
    assert b"left out here.\n" not in text
    assert b"its limit" in text


def test_no_limit_is_no_limit(folder: AttemptFolder) -> None:
    path = write(folder, b"line\n" * 300)
    assert shippable(path, 0) == 1500
    assert read_shippable(path, 0, 1490, 700) == b"line\nline\n"
    settle(folder, 0)
    assert os.stat(path).st_size == 1500


@pytest.mark.parametrize("survived", ["nothing", "what was decided", "the closing lines", "half of the rewriting"])
def test_a_node_that_dies_while_it_trims_goes_on(folder: AttemptFolder, survived: str) -> None:
    whole = b"".join(b"line %05d\n" % number for number in range(20_000))
    (Path(folder.path) / "own" / "work").mkdir(parents=True)
    path = write(folder, whole)
    close_log(folder, ended(len(whole)))
    final = Path(path).read_bytes()
    assert len(final) < LIMIT + TAIL + 1000
    if survived == "nothing":
        os.unlink(folder.log_rest)
    if survived in ("nothing", "what was decided"):
        Path(folder.closing).unlink(missing_ok=True)
    Path(path).write_bytes(whole if survived != "half of the rewriting" else final[: LIMIT + 100])
    for _ in range(2):
        close_log(folder, ended(len(whole)))
        assert Path(path).read_bytes() == final
        settle(folder, LIMIT)
        assert Path(path).read_bytes() == final


def test_blocks_are_given_back_while_the_log_grows(folder: AttemptFolder) -> None:
    path = write(folder, b"")
    freeing = Freeing(path, LIMIT)
    with open(path, "ab", buffering=0) as log:
        for number in range(8):
            log.write(b"%07d\n" % number * (KIB * KIB // 8))
            freeing.look()
            assert freeing.works
            assert os.stat(path).st_blocks * 512 < 200 * KIB
    assert os.stat(path).st_size == 8 << 20
    assert shipped(path).startswith(b"0000000\n" * 125 + b"[runyard] The log")
    settle(folder, LIMIT)
    text = Path(path).read_bytes()
    assert text.endswith(b"0000007\n" * (TAIL // 8 - 1))
    assert b"\0" not in text


def test_limits_are_those_of_the_time_when_the_attempt_was_prepared(folder: AttemptFolder) -> None:
    assert limits_of(folder) == Limits(log=LIMIT)
    Path(folder.order).write_text('{"limits": {"log": "many"}}')
    assert limits_of(folder) == Limits()
    os.unlink(folder.order)
    assert limits_of(folder) == Limits()


def test_the_cut_is_found_once_the_line_has_ended(folder: AttemptFolder) -> None:
    for text, cut in ((b"x" * 1500, None), (b"x" * 1200 + b"\n", None), (b"x" * 1200 + b"\ny", 1201)):
        with open(write(folder, text), "rb") as file:
            assert find_cut(file.fileno(), LIMIT) == cut


# ------------------------------------------------------------------------------------------------- the node itself


CHATTY = """
import os, time
line = b"for ever\\n" * 8192
while not os.path.exists(os.environ["JOB_STATE_DIR"] + "/stop"):
    os.write(1, line)
    time.sleep(float(os.environ.get("PAUSE", "0")))
os.write(1, b"the last line\\n")
"""


def test_a_program_that_prints_for_ever_takes_little_disk_and_is_not_disturbed(tmp_path: Path) -> None:
    with running_node(tmp_path, "--log-limit", "1") as node:
        server, log = node.server, node.attempt() / "training-log.txt"
        server.give(launch_of(stage_of(server, {"chatty.py": CHATTY}), "python3 chatty.py"))
        wait_until(lambda: log.exists() and os.stat(log).st_size > 200 << 20, "much of a log", 60)
        server.wait(lambda: b"has reached its limit of 1 MiB" in server.log(RUN), "the notice, while it runs")
        node.kill()
        node.start()
        size = os.stat(log).st_size
        wait_until(lambda: os.stat(log).st_size > size + (100 << 20), "more of a log", 60)
        live = server.log(RUN)
        assert len(live) < (1 << 20) + 300
        (node.attempt() / "own" / "state" / "stop").touch()
        exited = server.wait_for(facts.Exited)
        server.wait(lambda: len(server.log(RUN)) >= exited.log_bytes, "the log")
        text = server.log(RUN)
        assert text == log.read_bytes()
        assert text.startswith(live)
        assert text.endswith(b"for ever\nthe last line\n")
        assert b"\0" not in text
        assert exited.exit_code == 0
        assert exited.log_bytes == len(text) < (1 << 20) + TAIL + 300
        assert os.stat(log).st_blocks * 512 < (1 << 20) + 2 * TAIL


def test_the_disk_that_a_long_log_takes_while_it_grows(tmp_path: Path) -> None:
    with running_node(tmp_path, "--log-limit", "1") as node:
        log = node.attempt() / "training-log.txt"
        node.server.give(
            launch_of(stage_of(node.server, {"chatty.py": CHATTY}), "python3 chatty.py", env={"PAUSE": "0.02"})
        )
        wait_until(lambda: log.exists() and os.stat(log).st_size > 8 << 20, "a log", 60)
        wait_until(lambda: os.stat(log).st_blocks * 512 < 4 << 20, "blocks given back", 20)
        (node.attempt() / "own" / "state" / "stop").touch()
        node.server.wait_for(facts.Exited)


CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


def test_where_the_disk_cannot_give_blocks_back_the_program_is_stopped(tmp_path: Path) -> None:
    home = os.fsencode(tmp_path / "home")
    os.mkdir(home)

    def live_in_ramfs() -> None:
        libc("unshare", CLONE_NEWNS)
        libc("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        libc("mount", b"ramfs", home, b"ramfs", 0, None)

    if os.geteuid() != 0 or not _succeeds(live_in_ramfs):
        pytest.skip("a file system without holes cannot be mounted here")
    with running_node(tmp_path, "--log-limit", "1", become=live_in_ramfs) as node:
        exited = run_to_end(node, "python3 chatty.py", {"chatty.py": CHATTY}, env={"PAUSE": "0.01"}, grace_ms=100)
        assert exited.cause == "disk_limit"
        last = node.server.log(RUN).splitlines()[-1].decode()
        assert last.startswith("[runyard] A log is over 4 times its limit of 1 MiB (log_limit_mib)")


def _succeeds(work: Callable[[], None]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
