"""A node without root, with a full disk, a small cache, a shim that hangs."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import runyard
from runyard.node.features import tried
from runyard.node.home import AttemptFolder, read_record
from runyard.node.shims import kill_shim
from runyard.shim import view
from runyard.wire import facts, orders
from runyard.wire.orders import Part, Place
from tests.node.nodes import (
    OTHER,
    RESULTS,
    RUN,
    NodeProcess,
    launch_of,
    marked,
    of_run,
    run_to_end,
    running_node,
    stage_of,
    store_of,
)
from tests.shim.launching import alive
from tests.support.waiting import wait_until

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else or mount")
NOBODY = 47_110


def part(node: NodeProcess, bucket: str, size: int) -> Part:
    item = node.server.put_object(bucket, "big.bin", os.urandom(size))
    return Part(Place("local", bucket, account="acme", name="d"), (item,))


# ------------------------------------------------------------------------------------------------------- without root


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node of a plain user, who can reach the interpreter, the package and its own folder."""
    paths = [sys.prefix, sys.base_prefix, os.path.dirname(runyard.__file__), str(tmp_path)]
    os.chown(tmp_path, NOBODY, NOBODY)

    def become() -> None:
        view.make(view.plan(paths, NOBODY, (NOBODY,)))
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    with running_node(tmp_path, become=become) as running:
        yield running


@root_only
def test_a_plain_users_node_does_all_of_it_and_says_what_it_cannot(plain: NodeProcess) -> None:
    assert any("does not run as root" in note for note in plain.server.hellos[0].notes)
    data = part(plain, "data", 1000)
    stage = stage_of(plain.server, {"a.py": "x"}, data=(data,))
    command = "id -u; wc -c < $DATA_DIR/big.bin; echo r > $RESULT_DIR/r; echo c > $CHECKPOINT_DIR/c; mkdir -m 0 shut"
    plain.server.give(launch_of(stage, command))
    exited = plain.server.wait_for(facts.Exited)
    assert (exited.exit_code, exited.tamper_proof) == (0, "user" in tried())
    plain.server.wait(lambda: len(plain.server.log(RUN)) == exited.log_bytes, "the log")
    assert plain.server.log(RUN).startswith(b"%d\n1000\n" % NOBODY)
    plain.server.give(store_of())
    plain.server.wait_for(facts.Stored)
    found = plain.server.bucket("results")
    assert found[f"{RUN}/r"] == b"r\n"
    assert found[f"{RUN}/checkpoints/c"] == b"c\n"
    plain.server.give(orders.Release(RUN))
    wait_until(lambda: not (plain.home / "runs" / RUN).exists(), "the release")


@root_only
def test_without_control_groups_what_a_dead_shim_left_is_still_found(plain: NodeProcess) -> None:
    plain.server.give(
        launch_of(stage_of(plain.server, {}), "setsid sleep 1000 & setsid sleep 1000 & echo ready; sleep 1000")
    )
    plain.server.wait(lambda: b"ready" in plain.server.log(RUN), "the program's line")
    started = read_record(str(plain.attempt() / "started.json")) or {}
    assert started["cgroup"]["folders"] == []
    os.kill(started["shim_pid"], signal.SIGKILL)
    assert plain.server.wait_for(facts.Lost).reason == "shim_lost"
    assert not marked(RUN)


@root_only
def test_a_program_of_the_nodes_user_cannot_read_the_nodes_memory(plain: NodeProcess) -> None:
    command = f"cat /proc/{plain.pid}/environ || echo closed; head -c 1 /proc/{plain.pid}/mem || echo closed"
    assert run_to_end(plain, command, secret_env={"K": "v"}).exit_code == 0
    assert plain.server.log(RUN).decode().splitlines().count("closed") == 2, plain.server.log(RUN)


# -------------------------------------------------------------------------------------------------------- a full disk


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node on a disk of 6 MiB."""
    (tmp_path / "home").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", tmp_path / "home"], check=True)
    try:
        with running_node(tmp_path) as running:
            yield running
    finally:
        subprocess.run(["umount", "-l", tmp_path / "home"], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk has no room."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@root_only
def test_data_that_do_not_fit_the_disk_are_the_platforms_fault_and_leave_no_rest(cramped: NodeProcess) -> None:
    cramped.server.give(stage_of(cramped.server, {}, data=(part(cramped, "data", 8 << 20),)))
    failed = cramped.server.wait_for(facts.StageFailed)
    assert failed.reason == "staging_failed"
    assert "disk" in failed.detail
    # An order is given until its answer is known: a second try may be under way when the first is told of.
    wait_until(lambda: not list((cramped.home / "cache" / "tmp").iterdir()), "the rest to be gone")


@root_only
def test_what_is_ready_and_cannot_be_written_down_is_the_disks_fault(cramped: NodeProcess) -> None:
    fill(cramped.home / "filled")
    cramped.server.give(stage_of(cramped.server, {}))
    failed = cramped.server.wait_for(facts.StageFailed)
    assert (failed.reason, "disk" in failed.detail) == ("staging_failed", True), failed
    (cramped.home / "filled").unlink()
    cramped.server.give(stage_of(cramped.server, {}))
    cramped.server.wait_for(facts.Staged)


@root_only
def test_code_that_does_not_fit_twice_is_a_launch_that_failed(cramped: NodeProcess) -> None:
    order = launch_of(stage_of(cramped.server, {"big.bin": os.urandom(4 << 20)}), "true")
    cramped.server.give(order)
    exited = cramped.server.wait_for(facts.Exited)
    assert "disk" in (exited.launch_error or ""), exited
    cramped.server.give(orders.Release(RUN))
    wait_until(lambda: not (cramped.home / "runs" / RUN).exists(), "the release")


@root_only
def test_what_could_not_begin_for_want_of_disk_does_not_begin_when_its_order_comes_again(cramped: NodeProcess) -> None:
    stage = stage_of(cramped.server, {})
    run_to_end(cramped, "true", run=OTHER)
    (cramped.home / "runs" / RUN / "attempts").mkdir(parents=True)
    filled = cramped.home / "filled"
    fill(filled)
    order = launch_of(stage, "touch $CHECKPOINT_DIR/begun")
    cramped.server.give(order)
    exited = cramped.server.wait_for(facts.Exited, of_run(RUN))
    assert "disk" in (exited.launch_error or ""), exited
    filled.unlink()
    cramped.server.give(order)
    record = cramped.home / "runs" / RUN / "attempts" / "1" / "exit.json"
    wait_until(record.exists, "the record of the end")
    cramped.server.give(order)

    def told() -> list[str | None]:
        return [
            each.launch_error for each in cramped.server.facts if isinstance(each, facts.Exited) and each.run == RUN
        ]

    wait_until(lambda: len(told()) >= 3, "the same end on each order")
    assert set(told()) == {exited.launch_error}
    assert not (cramped.home / "runs" / RUN / "checkpoints" / "begun").exists()
    assert not (cramped.home / "runs" / RUN / "attempts" / "1" / "started.json").exists()


@root_only
def test_a_program_that_fills_the_disk_ends_and_is_told_of(cramped: NodeProcess) -> None:
    exited = run_to_end(cramped, "head -c 20M /dev/zero > $RESULT_DIR/x")
    assert (exited.exit_code, exited.cause) == (1, None)
    cramped.server.give(store_of())
    assert cramped.server.wait_for(facts.Stored).size > 1 << 20


# ------------------------------------------------------------------------------------------------------------- others


def test_a_small_cache_gives_up_what_is_not_needed_and_the_server_hears_of_it(tmp_path: Path) -> None:
    with running_node(tmp_path, "--cache-limit", "1") as node:
        for spec, run in ((7, RUN), (8, OTHER)):
            stage = stage_of(node.server, {}, spec, data=(part(node, f"data{spec}", 700_000),))
            node.server.give(launch_of(stage, "wc -c < $DATA_DIR/big.bin", run=run))
            assert node.server.wait_for(facts.Exited, of_run(run)).exit_code == 0
            node.server.give(orders.Release(run))
            wait_until(lambda run=run: not (node.home / "runs" / run).exists(), "the release")
        node.server.give(stage_of(node.server, {}, 9, data=(part(node, "data9", 700_000),)))
        node.server.wait_for(facts.Staged, lambda fact: fact.spec == 9)
        node.server.wait(lambda: not {7, 8} & {*node.server.hellos[-1].staged}, "a hello that says what is left")
        assert len(node.server.hellos) >= 3
        assert sum(p.is_dir() for p in (node.home / "cache" / "data").iterdir()) == 1


def test_a_shim_that_hangs_can_be_ended(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        node.server.give(launch_of(stage_of(node.server, {}), "echo ready; sleep 1000"))
        node.server.wait(lambda: b"ready" in node.server.log(RUN), "the program's line")
        shim = (read_record(str(node.attempt() / "started.json")) or {})["shim_pid"]
        os.kill(shim, signal.SIGSTOP)
        kill_shim(AttemptFolder(RUN, 1, str(node.attempt())))
        assert node.server.wait_for(facts.Lost).reason == "shim_lost"


def test_a_shim_that_dies_before_its_program_began_and_lets_go_of_its_lock_late_is_not_forgotten(
    tmp_path: Path,
) -> None:
    """Its socket is closed before its lock: who looks in between sees a shim that lives and does not answer."""
    with running_node(tmp_path) as node:
        run_to_end(node, "true")
        node.kill()
        folder = node.home / "runs" / RUN / "attempts" / "1"
        for name in ("started.json", "exit.json", "control.sock"):
            (folder / name).unlink()
        told = len(node.server.facts)
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            node.start()
            wait_until(lambda: len(node.server.hellos) > 1, "the node again")
            threading.Event().wait(0.2)
        wait_until(lambda: any(isinstance(each, facts.Exited) for each in node.server.facts[told:]), "its end")
        ended = [each for each in node.server.facts[told:] if isinstance(each, facts.Exited)]
        assert all("before the program began" in (each.launch_error or "") for each in ended)


def test_a_run_whose_folder_is_gone_cannot_be_stored_and_says_so(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        node.server.give(store_of(results=RESULTS))
        failed = node.server.wait_for(facts.StoreFailed)
        assert (failed.denied, failed.lost) == (True, True)
        assert "no folder of attempt 1" in failed.detail


def test_ended_shims_are_not_left_as_zombies(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        run_to_end(node, "true")
        tasks = Path(f"/proc/{node.pid}/task")
        assert (tasks / str(node.pid) / "children").exists()

        def dead() -> list[str]:
            children = [pid for path in tasks.glob("*/children") for pid in path.read_text().split()]
            return [pid for pid in children if not alive(int(pid))]

        wait_until(lambda: not dead(), "every dead child to be collected")


@root_only
def test_a_shim_whose_end_nobody_hears_of_is_found_missing(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        node.server.give(launch_of(stage_of(node.server, {}), "echo ready; sleep 1000"))
        node.server.wait(lambda: b"ready" in node.server.log(RUN), "the program's line")
        shim = (read_record(str(node.attempt() / "started.json")) or {})["shim_pid"]
        held = sockets_of(shim)  # for as long as these are open, the node hears of no hang-up
        try:
            kill_shim(AttemptFolder(RUN, 1, str(node.attempt())))
            assert node.server.wait_for(facts.Lost).reason == "shim_lost"
        finally:
            for descriptor in held:
                os.close(descriptor)


PIDFD_GETFD = 438


def sockets_of(pid: int) -> list[int]:
    """Descriptors of this process's own for all sockets of another (pidfd_getfd(2))."""
    process = os.pidfd_open(pid)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        numbers = [int(name) for name in os.listdir(f"/proc/{pid}/fd")]
        sockets = [each for each in numbers if os.readlink(f"/proc/{pid}/fd/{each}").startswith("socket:")]
        found = [libc.syscall(PIDFD_GETFD, process, each, 0) for each in sockets]
    finally:
        os.close(process)
    assert found
    assert min(found) >= 0, os.strerror(ctypes.get_errno())
    return found
