"""Container images as people use them: from a command or a manifest to results and a bill."""

import os
from collections.abc import Iterator

import pytest

from tests.support.engines import IMAGE, RealEngine, running_engine
from tests.support.installation import Installation, running_installation, write_code
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.story,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="the engine's folders of these tests need root"),
]
FFDL = """
name: boxed
gpus: 1
cpus: 0.5
memory: 256MiB
framework: {name: custom, version: "localhost/tiny:1", command: "cat hello.txt; echo w > $RESULT_DIR/model/w"}
"""
WAIT = "echo begun; until [ -e $CHECKPOINT_DIR/go ]; do sleep 0.05; done; echo went on"


@pytest.fixture(scope="module")
def engine() -> Iterator[RealEngine]:
    with running_engine("podman") as made:
        yield made


@pytest.fixture(scope="module")
def yard(engine: RealEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with pytest.MonkeyPatch.context() as variables:
        for name, value in engine.env.items():
            variables.setenv(name, value)  # as the operator has set them where Runyard is started
        settings = 'container_engine = "podman"\nprice_gpu_hour = 3600.0\n'
        root = tmp_path_factory.mktemp("containers")
        with running_installation(root, "--fake-gpus", "2", settings=settings) as made:
            write_code(made.folder / "model", {"hello.txt": "hello from the model\n"})
            (made.folder / "ffdl.yml").write_text(FFDL)
            yield made


def test_a_command_runs_in_an_image_and_show_says_so(yard: Installation) -> None:
    (yard.folder / "model").mkdir(exist_ok=True)
    done = yard.cli("run", "--framework", f"custom:{IMAGE}", "--follow", "--", "cat model/hello.txt; id -u; pwd")
    assert "hello from the model" in done.stdout
    shown = yard.json("show", "last")
    assert (shown["state"], shown["attempts"][-1]["way"]) == ("completed", "container")
    assert shown["environment"]["image"] == IMAGE
    assert shown["environment"]["image_id"]
    assert float(shown["cost"]) > 0
    assert "container. By Podman" in yard.cli("show", "last").stdout


def test_the_other_dialect_too_with_results(yard: Installation) -> None:
    yard.cli("train", "model", "ffdl.yml", "--wait")
    yard.cli("download", "last", "--to", str(yard.folder / "results"))
    assert [path.read_text() for path in (yard.folder / "results").rglob("model/w")] == ["w\n"]


def test_doctor_tells_the_engine(yard: Installation) -> None:
    said = yard.cli("doctor", "--home", str(yard.home), check=None).stdout
    assert "containers: Podman" in said


def test_an_image_that_cannot_be_had_fails_with_what_to_do(yard: Installation) -> None:
    yard.cli("run", "--framework", "custom:localhost/none:1", "--wait", "--", "true", check=1)
    shown = yard.json("show", "last")
    assert (shown["state"], shown["fault"]) == ("failed", "user")
    assert "build or import it there" in " ".join(yard.cli("show", "last").stdout.split())
    assert "localhost/none:1" in yard.cli("logs", "--stream", "load-model", "last").stdout


def test_a_container_goes_on_while_its_node_is_killed_and_started_again(yard: Installation, engine: RealEngine) -> None:
    yard.cli("run", "--framework", f"custom:{IMAGE}", "--", WAIT)
    wait_until(lambda: "begun" in yard.cli("logs", "last", check=None).stdout, "the first line", 60)
    assert len(engine.boxes()) == 1
    yard.kill("node")
    run = yard.json("show", "last")["id"]
    (yard.home / "node/runs" / run / "checkpoints/go").touch()
    yard.cli("wait", "last")
    shown = yard.json("show", "last")
    assert (shown["state"], len(shown["attempts"])) == ("completed", 1)
    assert yard.cli("logs", "last").stdout.splitlines()[:2] == ["begun", "went on"]


def test_cancel_leaves_nothing(yard: Installation, engine: RealEngine) -> None:
    yard.cli("run", "--framework", f"custom:{IMAGE}", "--", WAIT)
    wait_until(lambda: "begun" in yard.cli("logs", "last", check=None).stdout, "the first line", 60)
    yard.cli("cancel", "last")
    yard.cli("wait", "last", check=3)
    wait_until(lambda: engine.boxes() == [], "no container to be left")
