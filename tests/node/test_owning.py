"""One owner for each GPU of a machine: two installations, restarts, programs that outlive their node."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.node.features import find_namespaces
from runyard.node.inventory import Device
from runyard.node.owning import NO_FOLDER, owned_by
from runyard.wire import facts, orders
from tests.node.nodes import RUN, NodeProcess, launch_of, running_node, stage_of
from tests.support.waiting import wait_until

WAITS = """\
import os, time
print("sees", os.listdir(%r) if os.path.exists(%r) else [], flush=True)
time.sleep(600)
"""
GPU = Device(0, "fake GPU")


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def first(tmp_path: Path, locks: Path) -> Iterator[NodeProcess]:
    (tmp_path / "first").mkdir()
    with running_node(tmp_path / "first", "--gpu-locks", str(locks)) as node:
        yield node


def test_a_second_installation_is_not_given_the_same_gpus(tmp_path: Path, locks: Path, first: NodeProcess) -> None:
    assert len(first.server.hellos[-1].gpus) == 2
    (tmp_path / "second").mkdir()
    with running_node(tmp_path / "second", "--gpu-locks", str(locks), "--fake-gpus", "3") as second:
        hello = second.server.hellos[-1]
        assert hello.gpus == ("fake GPU",)
        told = [note for note in hello.notes if "belongs to the installation in" in note]
        assert len(told) == 2
        assert all(os.path.realpath(first.home) in note for note in told)
        first.kill()
        second.end()
        second.start()
        assert len(second.server.hellos[-1].gpus) == 3


@pytest.mark.parametrize("warm", [False, True], ids=["exec", "warm"])
def test_a_gpu_stays_its_installations_while_a_program_of_it_runs(
    tmp_path: Path, locks: Path, first: NodeProcess, warm: bool
) -> None:
    wanted = orders.Warm("acme", 1) if warm else None
    stage = stage_of(first.server, {"wait.py": WAITS % (str(locks), str(locks))}, warm=wanted)
    first.server.give(launch_of(stage, "python3 wait.py", slots=(1,)))
    first.server.wait_for(facts.Began)
    if "mount" in find_namespaces():
        first.server.wait(lambda: b"sees []" in first.server.log(RUN), "what the program sees")
    first.kill()
    other = owned_by(str(tmp_path), str(locks))
    assert other.take(GPU)
    assert not other.take(Device(1, "fake GPU"))
    os.close(other.held[0])
    first.start()  # finds its program and its GPU again
    assert len(first.server.hellos[-1].gpus) == 2
    first.server.give(orders.Stop(RUN, 1, "cancel", 0))
    first.server.wait_for(facts.Exited)
    wait_until(lambda: not _free(tmp_path, locks, 1), "the node, which waits for what its program had", 30)


def _free(home: Path, locks: Path, index: int) -> bool:
    """Whether another installation could have a GPU now."""
    asking = owned_by(str(home), str(locks))
    found = asking.take(Device(index, "fake GPU"))
    for descriptor in asking.held.values():
        os.close(descriptor)
    return found


def test_what_a_program_leaves_is_waited_for_and_then_held(tmp_path: Path, locks: Path) -> None:
    before, after = owned_by(str(tmp_path), str(locks)), owned_by(str(tmp_path), str(locks))
    assert before.take(GPU)
    assert after.take(GPU)
    assert after.descriptors([GPU]) == ()
    os.close(before.held[0])
    wait_until(lambda: len(after.descriptors([GPU])) == 1, "the lock", 10)
    stranger = owned_by("/another", str(locks))
    assert not stranger.take(GPU)
    assert str(tmp_path) in stranger.notes[0]


def test_a_gpu_that_another_took_meanwhile_is_not_used(tmp_path: Path, locks: Path) -> None:
    before, after = owned_by(str(tmp_path), str(locks)), owned_by(str(tmp_path), str(locks))
    assert before.take(GPU)
    assert after.take(GPU)
    (locks / "gpu-0").write_text("/another")
    with pytest.raises(OSError, match="/another by now"):
        after.descriptors([GPU])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on another user")
def test_users_of_a_machine_share_the_locks(tmp_path: Path, locks: Path) -> None:
    assert owned_by(str(tmp_path), str(locks)).take(GPU)
    assert oct(locks.stat().st_mode & 0o7777) == oct(0o1777)
    assert oct((locks / "gpu-0").stat().st_mode & 0o777) == oct(0o666)


def test_a_folder_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    owned = owned_by(str(tmp_path), str(tmp_path / "link"))
    assert owned.notes == [NO_FOLDER]
    assert owned.take(GPU)
    assert json.dumps(owned.descriptors([GPU])) == "[]"
