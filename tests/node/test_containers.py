"""Runs in containers, by a real node and each engine that can be had here: what they see, their ends, what is left."""

import contextlib
import json
import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runyard.wire import facts, orders
from tests.node.nodes import OTHER, RUN, NodeProcess, launch_of, of_run, running_node, stage_of, store_of
from tests.support.engines import (
    CREDENTIALS,
    IMAGE,
    RealEngine,
    Registry,
    push,
    running_engine,
    running_registry,
    tiny_image,
)
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the engines' folders of these tests need root"),
    pytest.mark.timeout(300),  # an engine may have to be installed first
]

LOOK = """id -u
pwd
echo data: $(cat $DATA_DIR/a.txt)
echo code: $(cat hello.txt)
cat config.json
echo result > $RESULT_DIR/model/weights
echo checkpoint > $CHECKPOINT_DIR/c
echo $NAME $TOKEN
echo made > new.txt
touch $DATA_DIR/x || echo data closed
echo temp > /tmp/t && echo /tmp is ours
python3 -c 'import runyard; runyard.log(step=1, loss=0.5)'
ls /work /root/.runyard 2>/dev/null || echo nothing of the machine
"""

MEET = """
import os, socket, time
place = ("127.0.0.1", int(os.environ["MASTER_PORT"]))
if os.environ["RANK"] == "0":
    print("heard", socket.create_server(place).accept()[0].recv(9).decode())
else:
    for _ in range(400):
        try:
            socket.create_connection(place).sendall(b"hello")
            break
        except OSError:
            time.sleep(0.05)
"""


by_podman = pytest.mark.parametrize("engine", ["podman"], indirect=True)
"""What is the same for every engine, since the shim's own tests show each of them do its part."""


@pytest.fixture(scope="module", params=["podman", "docker"])
def engine(request: pytest.FixtureRequest) -> Iterator[RealEngine]:
    with running_engine(request.param) as made:
        yield made


@pytest.fixture
def node(tmp_path: Path, engine: RealEngine) -> Iterator[NodeProcess]:
    with running_node(tmp_path, "--container-engine", engine.kind, env=engine.env) as made:
        yield made
    wait_until(lambda: not engine.boxes(), "the engine to have no container left")


def in_image(name: str = IMAGE, **more: Any) -> orders.Environment:
    return orders.Environment(image=name, **more)


def ready(node: NodeProcess, command: str, run: str = RUN, **more: Any) -> orders.Launch:
    """A launch of a command in the small image, which is ready."""
    stage = stage_of(node.server, {"hello.txt": "hello"}, environment=in_image())
    node.server.give(stage)
    node.server.wait_for(facts.Staged)
    return launch_of(msgspec.structs.replace(stage, listed=False, environment=in_image()), command, run, **more)


def log_of(node: NodeProcess, run: str = RUN, attempt: int = 1) -> str:
    path = node.attempt(run, attempt) / "training-log.txt"
    return path.read_text() if path.exists() else ""


def running(node: NodeProcess, line: str = "begun") -> None:
    node.server.wait_for(facts.Began, of_run(RUN))
    wait_until(lambda: line in log_of(node).splitlines(), f"the line {line}")


def test_a_run_in_a_container_has_what_every_run_has(node: NodeProcess, engine: RealEngine) -> None:
    server = node.server
    assert "container" in server.hellos[-1].features
    item = server.put_object("data", "a.txt", b"some data")
    part = orders.Part(orders.Place("local", "data", account="acme", name="d"), (item,))
    stage = stage_of(
        server, {"hello.txt": "hello", "requirements.txt": "torch\n"}, data=(part,), environment=in_image()
    )
    server.give(stage)
    staged = server.wait_for(facts.Staged)
    assert json.loads(staged.environment)["image"] == IMAGE
    only = msgspec.structs.replace(stage, listed=False, data=())
    server.give(
        launch_of(only, LOOK, parameters='{"lr": 0.5}', env={"NAME": "it's me"}, secret_env={"TOKEN": "s3cr3t-token"})
    )
    began = server.wait_for(facts.Began)
    exited = server.wait_for(facts.Exited)
    log = log_of(node)
    assert (exited.exit_code, exited.launch_error, exited.tamper_proof) == (0, None, True), (exited, log)
    assert (began.way, began.way_note[:9]) == ("container", f"By {engine.kind.capitalize()}"[:9])
    assert "Not isolated" not in began.way_note
    lines = log.splitlines()
    assert lines[:4] == ["50001", str(node.attempt() / "own/work"), "data: some data", "code: hello"]
    assert "it's me s3cr3t-token" in lines
    assert {"data closed", "/tmp is ours", "nothing of the machine"} <= set(lines)
    server.wait(lambda: server.log(RUN) == log.encode(), "the log")
    assert b"requirements.txt is left alone" in server.log(RUN, 1, "load-model")
    for path in node.home.rglob("*"):
        if (
            path.is_file()
            and path.stat().st_size < 1 << 20
            and "own" not in path.parts
            and path.name != "training-log.txt"
        ):
            assert b"s3cr3t-token" not in path.read_bytes(), path
    server.give(store_of())
    server.wait_for(facts.Stored)
    found = server.bucket("results")
    assert found[f"{RUN}/model/weights"] == b"result\n"
    assert {f"{RUN}/workdir/new.txt", f"{RUN}/checkpoints/c"} <= set(found)


@by_podman
def test_a_canceled_run_gets_its_grace(node: NodeProcess) -> None:
    command = "trap 'echo saved > $CHECKPOINT_DIR/last; exit 3' TERM; echo begun; while :; do sleep 0.05; done"
    node.server.give(ready(node, command))
    running(node)
    node.server.give(orders.Stop(RUN, 1, "cancel", 20_000))
    exited = node.server.wait_for(facts.Exited)
    assert (exited.cause, exited.exit_code) == ("cancel", 3)
    assert (node.home / "runs" / RUN / "checkpoints" / "last").read_text() == "saved\n"


@by_podman
def test_memory_and_time_end_a_run_by_their_names(node: NodeProcess) -> None:
    launch = ready(node, "head -c 300000000 /dev/zero | tail | wc -c", memory_mib=64)
    node.server.give(launch)
    node.server.give(msgspec.structs.replace(launch, run=OTHER, command="sleep 60", max_runtime_ms=700, slots=(1,)))
    killed = node.server.wait_for(facts.Exited, of_run(RUN))
    assert killed.oom_kills >= 1, killed
    assert killed.peak_memory_mib is not None
    assert killed.peak_memory_mib <= 64
    assert node.server.wait_for(facts.Exited, of_run(OTHER)).cause == "time_limit"


@by_podman
def test_a_node_that_comes_back_goes_on_with_its_container(node: NodeProcess) -> None:
    launch = ready(node, "echo begun; until [ -e go ]; do sleep 0.05; done; echo went on; exit 4")
    node.server.give(launch)
    running(node)
    node.kill()
    node.start()
    (node.attempt() / "own/work/go").touch()
    exited = node.server.wait_for(facts.Exited)
    assert exited.exit_code == 4
    assert "went on" in log_of(node).splitlines()


def test_of_a_run_whose_shim_dies_nothing_is_left(node: NodeProcess, engine: RealEngine) -> None:
    node.server.give(ready(node, "echo begun; while :; do sleep 0.05; done", secret_env={"TOKEN": "s3cr3t-token"}))
    running(node)
    started = json.loads((node.attempt() / "started.json").read_text())
    assert len(engine.boxes()) == 1
    assert "s3cr3t-token" not in engine.run("inspect", *engine.boxes())
    assert b"s3cr3t-token" not in b"".join(words_of_processes())
    os.kill(started["shim_pid"], signal.SIGKILL)
    lost = node.server.wait_for(facts.Lost)
    assert lost.reason == "shim_lost"
    wait_until(lambda: not engine.boxes(), "the container to be gone")


@by_podman
def test_a_container_that_everybody_lost_is_removed_by_the_next_node(node: NodeProcess, engine: RealEngine) -> None:
    node.server.give(ready(node, "echo begun; while :; do sleep 0.05; done"))
    running(node)
    started = json.loads((node.attempt() / "started.json").read_text())
    keepers = children_of(started["shim_pid"])
    node.kill()
    for pid in (*keepers, started["shim_pid"]):  # the keeper cannot clear up either
        os.kill(pid, signal.SIGSTOP)
    for pid in (*keepers, started["shim_pid"]):
        os.kill(pid, signal.SIGKILL)
    assert engine.boxes()
    node.start()
    node.server.wait_for(facts.Lost)
    wait_until(lambda: not engine.boxes(), "the container to be gone")


def words_of_processes() -> Iterator[bytes]:
    """The arguments of every process of the machine, which everybody can read."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@by_podman
def test_learners_in_containers_meet_over_the_loopback(node: NodeProcess) -> None:
    command = f"python3 -c {shlex.quote(MEET)}"
    node.server.give(ready(node, command, learners=2, slots=(0, 1)))
    assert node.server.wait_for(facts.Exited).exit_code == 0, log_of(node)
    assert "heard hello" in log_of(node)


@by_podman
def test_one_process_for_each_gpu(node: NodeProcess) -> None:
    node.server.give(ready(node, "echo rank $RANK of $WORLD_SIZE", launch="gpu", slots=(0, 1)))
    assert node.server.wait_for(facts.Exited).exit_code == 0, log_of(node)
    assert {"rank 0 of 2", "rank 1 of 2"} <= set(log_of(node).splitlines())


@by_podman
def test_an_image_that_went_is_asked_for_again(node: NodeProcess, engine: RealEngine) -> None:
    name, server = "localhost/passing:1", node.server
    engine.run("import", "--change", "LABEL of=this", str(tiny_image()), name)
    stage = stage_of(server, {"hello.txt": "hello"}, environment=in_image(name))
    server.give(stage)
    server.wait_for(facts.Staged)
    engine.run("rmi", "--force", name)
    hellos = len(server.hellos)
    server.give(launch_of(msgspec.structs.replace(stage, listed=False), "true"))
    assert "no longer" in (server.wait_for(facts.Exited).launch_error or "")
    server.wait(lambda: len(server.hellos) > hellos and 7 not in server.hellos[-1].staged, "a hello without it")


# ------------------------------------------------------------------------------------------------------------- pulling


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry"), closed=True) as made:
        yield made


def made_ready(node: NodeProcess, spec: int, name: str, **more: Any) -> facts.Staged | facts.StageFailed:
    node.server.give(orders.Stage(spec, environment=in_image(name, **more)))

    def told() -> list[facts.Staged | facts.StageFailed]:
        kinds = (facts.Staged, facts.StageFailed)
        return [fact for fact in node.server.facts if isinstance(fact, kinds) and fact.spec == spec]

    node.server.wait(lambda: bool(told()), f"the end of staging {spec}", 60)
    return told()[-1]


def test_images_are_pulled_with_credentials_that_nobody_sees(
    node: NodeProcess, engine: RealEngine, registry: Registry
) -> None:
    name = push(engine, registry, "team/net:1")
    denied = made_ready(node, 1, name)
    assert isinstance(denied, facts.StageFailed)
    assert denied.reason == "environment_failed"
    assert "runyard.registry" in denied.detail
    wrong = made_ready(node, 2, name, registry="ada:wrong")
    assert isinstance(wrong, facts.StageFailed)
    assert wrong.reason == "environment_failed"
    came = made_ready(node, 3, name, registry=CREDENTIALS)
    assert isinstance(came, facts.Staged), came
    phases = [fact.phase for fact in node.server.facts if isinstance(fact, facts.StageProgress)]
    assert any(phase.startswith(f"pulling image {name}") for phase in phases)
    # It is on the machine now; who may not have it still does not get it.
    assert isinstance(made_ready(node, 4, name), facts.StageFailed)
    assert isinstance(made_ready(node, 5, name, pull="never"), facts.StageFailed)
    again = made_ready(node, 6, name, registry=CREDENTIALS)
    assert isinstance(again, facts.Staged)
    assert again.fetched == 0
    word = CREDENTIALS.partition(":")[2]
    told = [str(fact) for fact in node.server.facts]
    assert not any(word in text for text in (*told, node.said()))
    for path in node.home.rglob("*"):
        if path.is_file():
            assert word.encode() not in path.read_bytes(), path
    missing = made_ready(node, 7, f"{registry.address}/team/other:1", registry=CREDENTIALS)
    assert isinstance(missing, facts.StageFailed)
    assert "check its path and tag" in missing.detail


@by_podman
def test_images_that_came_go_when_nothing_needs_them(node: NodeProcess, engine: RealEngine, registry: Registry) -> None:
    engine.run("import", "--change", "LABEL of=that", str(tiny_image()), "localhost/that:1")
    name = push(engine, registry, "team/that:1", "localhost/that:1")
    engine.run("rmi", "--force", "localhost/that:1")
    assert isinstance(made_ready(node, 1, name, registry=CREDENTIALS), facts.Staged)
    assert isinstance(made_ready(node, 2, IMAGE), facts.Staged)
    node.server.give(orders.CacheCommand(1, "clear"))
    kept = node.server.wait_for(facts.CacheState, lambda state: state.number == 1)
    assert (kept.removed, kept.kinds["images"] > 0) == (0, True)  # made ready just now, for runs that will come
    os.utime(node.home / "specs/1.json", (0, 0))
    node.server.give(orders.CacheCommand(2, "clear"))
    cleared = node.server.wait_for(facts.CacheState, lambda state: state.number == 2)
    assert (cleared.removed, cleared.kinds["images"]) == (1, 0)
    assert name not in engine.images()
    assert IMAGE in engine.images()


@by_podman
def test_a_registry_that_is_away_is_the_platforms_fault(node: NodeProcess) -> None:
    away = made_ready(node, 1, "127.0.0.1:9/team/net:1")
    assert isinstance(away, facts.StageFailed)
    assert away.reason == "staging_failed"
    assert "could not be reached" in away.detail


@by_podman
def test_an_image_of_the_machine_that_is_not_there(node: NodeProcess) -> None:
    lacking = made_ready(node, 1, "localhost/nothing:1")
    assert isinstance(lacking, facts.StageFailed)
    assert lacking.reason == "environment_failed"
    assert "build or import it" in lacking.detail


def test_a_node_without_an_engine_says_so(tmp_path: Path) -> None:
    with running_node(tmp_path, "--container-engine", "none") as made:
        assert "container" not in made.server.hellos[-1].features
        refused = made_ready(made, 1, IMAGE)
        assert isinstance(refused, facts.StageFailed)
        assert refused.reason == "staging_failed"
