"""A program in a container: the same records, stops and ends as of any other, by each engine that can be had here."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard.core import containers
from runyard.core.containers import Box, Engine, Mount
from runyard.node.containers.boxes import own_limits
from tests.shim.launching import UID, Attempt, Launcher, alive, group, needs_root
from tests.support.engines import IMAGE, RealEngine, running_engine
from tests.support.waiting import wait_until

pytestmark = [needs_root, pytest.mark.timeout(300)]  # an engine may have to be installed first


@pytest.fixture(scope="module", params=["podman", "docker"])
def engine(request: pytest.FixtureRequest) -> Iterator[RealEngine]:
    with running_engine(request.param) as made:
        yield made


class Boxes:
    """Launches programs in containers of an engine."""

    def __init__(self, launcher: Launcher, engine: RealEngine, folder: Path) -> None:
        self.launcher = launcher
        self.engine = engine
        self.folder = folder / "own"
        self.folder.mkdir(mode=0o700)
        os.chown(self.folder, UID, UID)
        self.count = 0

    def launch(self, command: str, *, env: dict[str, str] | None = None, memory: int = 256, **fields: Any) -> Attempt:
        self.count += 1
        name = f"runyard-test-{os.getpid()}-{id(self)}-{self.count}"
        box = Box(
            name=name,
            image=fields.pop("image", IMAGE),
            home="test",
            user=(UID, UID),
            groups=(),
            mounts=(Mount(str(self.folder), str(self.folder)), Mount("/etc/hostname", "/opt/runyard/name", True)),
            memory_bytes=memory << 20,
            cpu_millis=500,
            pids=64,
            shm_bytes=16 << 20,
            network=fields.pop("network", True),
            limits=own_limits(),
        )
        known = Engine(self.engine.kind, self.engine.path, (4, 3))
        words = containers.shell_words(command)
        container = {
            "engine": self.engine.path,
            "env": {**os.environ, **self.engine.env},
            "create": containers.create_arguments(known, box),
            "start": containers.start_arguments(name),
            "pid": containers.pid_arguments(name),
            "wait": containers.wait_arguments(name),
            "remove": containers.remove_arguments(name),
            "script": containers.script(env or {}, str(self.folder), words, ("/work", "/opt/runyard")),
        }
        limits = group(f"box{self.count}", memory_bytes=memory << 20, cpu_millis=500, pids=64)
        return self.launcher.launch([], container=container, uid=UID, gid=UID, cgroup=limits, **fields)


@pytest.fixture
def boxes(launcher: Launcher, engine: RealEngine, tmp_path: Path) -> Iterator[Boxes]:
    yield Boxes(launcher, engine, tmp_path)
    wait_until(lambda: not engine.boxes(), "the engine to have no container left")


def test_a_program_runs_under_its_user_with_its_variables_and_ends_with_its_code(boxes: Boxes) -> None:
    attempt = boxes.launch(
        'id -u; echo "$GREETING"; pwd; echo $PYTHONPATH; echo to-err >&2; echo last; touch made; exit 7',
        env={"GREETING": "it's a\n'day' $HOME"},
    )
    record = attempt.ended()
    assert attempt.logged().splitlines() == [
        str(UID), "it's a", "'day' $HOME", str(boxes.folder), "/work:/opt/runyard", "to-err", "last",
    ]  # fmt: skip
    assert (record["exit_code"], record["signal"], record["cause"]) == (7, None, None)
    assert record["launch_failed"] is None
    assert record["log_bytes"] == attempt.log.stat().st_size
    assert (boxes.folder / "made").stat().st_uid == UID
    started = attempt.started()
    assert (started["way"], started["tamper_proof"]) == ("container", True)
    assert started["cgroup"]["missing"] is None


def test_what_a_program_is_kept_from(boxes: Boxes) -> None:
    attempt = boxes.launch(
        "cat /proc/self/status"
        " | while read a b c; do case $a in CapEff:|NoNewPrivs:|Seccomp:) echo $a $b;; esac; done;"
        " touch /bin/x || echo read-only; touch /opt/runyard/name || echo read-only; cat /proc/net/dev | wc -l",
        network=False,
    )
    attempt.ended()
    lines = attempt.logged().splitlines()
    assert {"CapEff: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"} <= set(lines)
    assert lines.count("read-only") == 2
    assert lines[-1] == "3"  # two lines of headings and the loopback


def test_a_stop_reaches_the_program_and_its_grace_is_kept(boxes: Boxes) -> None:
    attempt = boxes.launch("trap 'echo saved; exit 3' TERM; echo begun; while :; do sleep 0.05; done")
    client = attempt.running()
    attempt.wait_for_line("begun")
    client.say(op="stop", cause="cancel", grace_s=20)
    record = attempt.ended()
    assert attempt.logged().splitlines()[-1] == "saved"
    assert (record["cause"], record["exit_code"]) == ("cancel", 3)


def test_what_ignores_the_stop_is_killed_after_the_grace(boxes: Boxes) -> None:
    attempt = boxes.launch("trap '' TERM; echo begun; while :; do sleep 0.05; done", max_runtime_s=1.0, grace_s=0.2)
    record = attempt.ended()
    assert record["cause"] == "time_limit"
    assert record["signal"] == signal.SIGKILL


def test_memory_over_the_limit_is_named(boxes: Boxes) -> None:
    attempt = boxes.launch("head -c 300000000 /dev/zero | tail | wc -c", memory=64)
    record = attempt.ended()
    assert record["oom_kills"] >= 1
    assert record["exit_code"] not in (0, None)
    assert 0 < record["memory_peak_bytes"] <= 64 << 20


def test_no_byte_of_a_long_log_is_lost(boxes: Boxes) -> None:
    attempt = boxes.launch("seq 1 200000")
    assert attempt.ended()["exit_code"] == 0
    assert attempt.logged() == "".join(f"{number}\n" for number in range(1, 200001))


def test_a_container_dies_with_its_shim_and_leaves_nothing(boxes: Boxes) -> None:
    attempt = boxes.launch("echo begun; while :; do sleep 0.05; done")
    attempt.running()
    attempt.wait_for_line("begun")
    inner = attempt.started()["pid"]
    assert alive(inner)
    attempt.process.kill()
    wait_until(lambda: not alive(inner) and not boxes.engine.boxes(), "the container to be gone")
    assert not (attempt.folder / "exit.json").exists()


def test_a_stop_while_the_container_is_being_made_leaves_nothing(boxes: Boxes) -> None:
    attempt = boxes.launch("echo never-seen")
    attempt.connect().say(op="stop", cause="cancel", grace_s=0)
    record = attempt.ended()
    assert record["cause"] == "cancel"


def test_an_image_that_is_not_there_is_a_launch_that_failed(boxes: Boxes) -> None:
    record = boxes.launch("true", image="localhost/nothing:1").ended()
    assert record["launch_failed"]["stage"] == "container"
    assert "nothing" in record["launch_failed"]["message"]
    assert record["exit_code"] is None


def test_a_container_that_an_earlier_try_left_is_replaced(boxes: Boxes) -> None:
    name = f"runyard-test-{os.getpid()}-{id(boxes)}-1"
    boxes.engine.run("create", "--name", name, IMAGE, "/bin/sh")
    assert boxes.launch("exit 0").ended()["exit_code"] == 0
