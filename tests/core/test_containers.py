"""Which engine is chosen, and what it is told."""

import shlex
import subprocess
from dataclasses import replace

import pytest

from runyard.core import containers
from runyard.core.containers import DOCKER, PODMAN, Absent, Box, Engine, Mount
from runyard.core.errors import Refused

PODMAN_4 = Engine(PODMAN, "/usr/bin/podman", (4, 3))
DOCKER_20 = Engine(DOCKER, "/usr/bin/docker", (20, 10))
BOX = Box(
    name="runyard-1",
    image="sha256:abc",
    home="h1",
    user=(50001, 50001),
    groups=(7,),
    mounts=(Mount("/data/x", "/data/x", True), Mount("/own", "/own")),
    memory_bytes=512 << 20,
    cpu_millis=1500,
    pids=99,
    shm_bytes=64 << 20,
    network=True,
)


@pytest.mark.parametrize(
    ("wanted", "looked", "chosen"),
    [
        ("auto", (DOCKER_20, PODMAN_4), PODMAN_4),
        ("auto", (Absent(PODMAN, "not installed"), DOCKER_20), DOCKER_20),
        ("docker", (PODMAN_4, DOCKER_20), DOCKER_20),
        ("docker", (PODMAN_4, Absent(DOCKER, "no daemon")), "docker: no daemon"),
        ("auto", (Absent(PODMAN, "a"), Absent(DOCKER, "b")), "podman: a; docker: b"),
        ("none", (PODMAN_4,), "containers are switched off (the setting `container_engine`)"),
        ("auto", (), "no podman or docker was found"),
    ],
)
def test_the_engine(wanted: str, looked: tuple[Engine | Absent, ...], chosen: Engine | str) -> None:
    assert containers.choose(wanted, looked) == chosen


def test_podman_is_told_the_limits_of_the_machine() -> None:
    box = replace(BOX, limits=(("nofile", 1024, 20000), ("nproc", -1, -1)))
    told = ["--ulimit", "nofile=1024:20000", "--ulimit", "nproc=-1:-1"]
    words = containers.create_arguments(PODMAN_4, box)
    assert words[words.index("--ulimit") :][:4] == told
    assert "--ulimit" not in containers.create_arguments(DOCKER_20, box)


def test_a_container_is_closed_in_on_all_sides() -> None:
    words = shlex.join(containers.create_arguments(PODMAN_4, BOX))
    for part in (
        "create --name runyard-1 --label runyard.home=h1",
        "--pull never --log-driver none",
        "--read-only --cap-drop ALL",
        "--security-opt no-new-privileges",
        "--network host",
        "--memory 536870912b --memory-swap 536870912b",
        "--cpus 1.500 --pids-limit 99",
        "--shm-size 67108864b",
        "--user 50001:50001 --group-add 7",
        "--mount type=bind,source=/data/x,target=/data/x,readonly",
        "--mount type=bind,source=/own,target=/own",
        "--env NVIDIA_VISIBLE_DEVICES=void",
        "--entrypoint /bin/sh sha256:abc -c",
    ):
        assert part in words
    assert "--privileged" not in words
    assert "--device" not in words
    assert "--network none" in shlex.join(containers.create_arguments(DOCKER_20, replace(BOX, network=False)))


def test_without_root_podman_keeps_the_users_own_number() -> None:
    words = containers.create_arguments(replace(PODMAN_4, rootless=True), BOX)
    assert words[words.index("--userns") + 1] == "keep-id"
    assert "--user" not in words


def test_a_path_that_an_engine_cannot_be_told_is_refused() -> None:
    with pytest.raises(Refused, match="comma"):
        containers.create_arguments(PODMAN_4, replace(BOX, mounts=(Mount("/a,b", "/a,b"),)))


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (replace(PODMAN_4, cdi=True), ["--device", "nvidia.com/gpu=GPU-1", "--device", "nvidia.com/gpu=GPU-2"]),
        (
            Engine(DOCKER, "d", (25, 0), cdi=True),
            ["--device", "nvidia.com/gpu=GPU-1", "--device", "nvidia.com/gpu=GPU-2"],
        ),
        (replace(DOCKER_20, cdi=True), ["--gpus", '"device=GPU-1,GPU-2"']),
        (DOCKER_20, ["--gpus", '"device=GPU-1,GPU-2"']),
    ],
)
def test_gpus_are_named_one_by_one(engine: Engine, words: list[str]) -> None:
    told = containers.gpu_arguments(engine, ("GPU-1", "GPU-2"))
    assert told[-len(words) :] == words
    assert all("all" not in word for word in told)


def test_podman_without_a_specification_cannot_give_gpus() -> None:
    with pytest.raises(Refused, match="nvidia-ctk cdi generate"):
        containers.gpu_arguments(PODMAN_4, ("GPU-1",))


def test_credentials_are_a_folder_and_no_word() -> None:
    assert containers.pull_arguments(PODMAN_4, "a:1", None) == ["pull", "a:1"]
    assert containers.pull_arguments(PODMAN_4, "a:1", "/d") == ["pull", "--authfile", "/d/config.json", "a:1"]
    assert containers.pull_arguments(DOCKER_20, "a:1", "/d") == ["--config", "/d", "pull", "a:1"]


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ('echo "$WORD"; echo to-err >&2', 0, ["it's", ".", "a $HOME", "to-err"]),
        ("exit 7", 7, []),
        ("false; echo never", 1, []),
        ("false | cat", 1, []),
        ("set -- $_ry_s; echo [$1]", 0, ["[]"]),
        ("echo $PYTHONPATH", 0, ["/first:/mine:/last"]),
        ("kill -TERM $$", 143, None),
    ],
)
def test_what_process_1_makes_of_a_script(shell: str, command: str, code: int, said: list[str] | None) -> None:
    env = {"WORD": "it's\n.\na $HOME", "PYTHONPATH": "/mine"}
    text = containers.script(env, "/", containers.shell_words(command), ("/first", "/last"))
    done = subprocess.run(
        [f"/bin/{shell}", "-c", containers.WAITING],
        input=text,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert containers.READY in done.stderr
    assert said is None or done.stdout.splitlines() == said


def test_without_the_end_of_its_script_process_1_runs_nothing() -> None:
    text = containers.script({}, "/", containers.shell_words("echo never"), ("/a", "/b"))
    half = text.removesuffix(containers.END_OF_SCRIPT + "\n")
    done = subprocess.run(
        ["/bin/sh", "-c", containers.WAITING], input=half, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (127, "")
