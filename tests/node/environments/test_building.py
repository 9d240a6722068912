"""Environments that a real node builds, from packages in a folder: once, whole, without running what they bring."""

import fcntl
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runyard.core.reasons import Reason
from runyard.wire import facts, orders
from tests.node.nodes import RUN, NodeProcess, launch_of, of_run, running_node, stage_of
from tests.support.waiting import wait_until
from tests.support.wheels import make_wheel, only_from

PINS = orders.Environment(packages=("tiny==1.0",))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Packages: ``tiny`` (1.0, 2.0) with a script, ``needy`` that needs it, ``trap`` with code for every start."""
    folder = tmp_path / "index"
    cli = "import sys, tiny\ndef main(): print('tiny', tiny.__version__, sys.prefix)\n"
    for version in ("1.0", "2.0"):
        files = {"tiny/__init__.py": f"__version__ = {version!r}\n", "tiny/cli.py": cli}
        make_wheel(folder, "tiny", version, files, scripts={"tiny-cli": "tiny.cli:main"})
    make_wheel(folder, "needy", "1.0", requires=("tiny>=1",))
    make_wheel(folder, "other", "1.0")
    trap = f"import os; open({str(tmp_path / 'was-run')!r}, 'a').write(str(os.getuid()) + ' ')\n"
    make_wheel(folder, "trap", "1.0", {"trap.pth": trap})
    return folder


@pytest.fixture
def node(tmp_path: Path, index: Path) -> Iterator[NodeProcess]:
    options = [f"--pip-option={word}" for word in only_from(index)]
    with running_node(tmp_path, *options) as running:
        yield running


def staged(node: NodeProcess, stage: orders.Stage) -> facts.Staged:
    node.server.give(stage)
    return node.server.wait_for(facts.Staged, lambda fact: fact.spec == stage.spec, seconds=60)


def failed(node: NodeProcess, stage: orders.Stage) -> facts.StageFailed:
    node.server.give(stage)
    return node.server.wait_for(facts.StageFailed, lambda fact: fact.spec == stage.spec, seconds=60)


def requirements(node: NodeProcess, text: str, spec: int = 7, **more: object) -> orders.Stage:
    return stage_of(node.server, {"requirements.txt": text}, spec, **more)


def env_folder(node: NodeProcess) -> Path:
    return node.home / "cache" / "env"


def built(node: NodeProcess) -> set[str]:
    """The environments that are whole."""
    return {path.name.removesuffix(".size") for path in env_folder(node).glob("*.size")}


def printed(node: NodeProcess, stage: orders.Stage, command: str) -> list[str]:
    """What a program prints with an environment."""
    node.server.give(launch_of(stage, command))
    exited = node.server.wait_for(facts.Exited, of_run(RUN), seconds=60)
    node.server.wait(lambda: len(node.server.log(RUN)) >= exited.log_bytes, "the log")
    out = node.server.log(RUN).decode()
    assert exited.exit_code == 0, out
    return out.splitlines()


def test_pins_and_a_layer_above_them_are_built_once(node: NodeProcess) -> None:
    first = staged(node, orders.Stage(1, environment=PINS))
    assert json.loads(first.environment)["packages"] == {"tiny": "1.0"}
    assert first.fetched > 1000
    text = "needy\n# more\nother==1.0\n"
    above = requirements(node, text, 2, environment=PINS)
    layer = staged(node, above)
    assert json.loads(layer.environment)["packages"] == {"needy": "1.0", "other": "1.0", "tiny": "1.0"}
    assert layer.fetched > 0
    there = built(node)
    assert len(there) == 2
    node.end()
    node.start()
    assert staged(node, orders.Stage(3, environment=PINS)).fetched == 0
    again = msgspec.structs.replace(above, spec=4)
    assert staged(node, again).fetched == 0
    assert built(node) == there
    command = (
        "tiny-cli; python -c 'import needy, other, tiny; print(tiny.__file__)'; "
        "python -c 'import runyard; print(runyard.__file__)'; echo $VIRTUAL_ENV"
    )
    script, module, recorder, active = printed(node, again, command)
    assert script == f"tiny 1.0 {active}", "the base's script runs under the layer's interpreter"
    assert os.path.basename(active) in there
    assert module.startswith(f"{node.home}/cache/env/")
    assert not module.startswith(active), "what the base has is not installed again"
    assert recorder.endswith("/recorder/path/runyard.py")


def test_what_the_nodes_own_interpreter_has_is_not_built(node: NodeProcess) -> None:
    version = importlib.metadata.version("msgspec")
    own = orders.Environment(packages=(f"msgspec=={version}",))
    found = staged(node, requirements(node, "click\nabsent; sys_platform == 'win32'\n", environment=own))
    assert json.loads(found.environment)["interpreter"] == sys.executable
    assert not built(node)
    (prefix,) = printed(node, orders.Stage(8, environment=own), "python -c 'import sys; print(sys.prefix)'")
    assert prefix == sys.prefix


def test_a_layer_above_the_nodes_own_interpreter_sees_all_of_it(node: NodeProcess) -> None:
    command = "python -c 'import tiny, msgspec, runyard; print(tiny.__version__, msgspec.__file__)'"
    (line,) = printed(node, requirements(node, "tiny<2"), command)
    version, _, path = line.partition(" ")
    assert (version, path) == ("1.0", importlib.import_module("msgspec").__file__)
    log = node.server.log(RUN, stream="load-model").decode()
    assert "requirements.txt asks for what is not there: tiny<2." in log
    assert "Successfully installed tiny-1.0" in log


FAULTS = (
    ("absent==1.0\n", PINS, "No matching distribution found for absent==1.0. The index has none"),
    ("other==7\n", PINS, "No matching distribution found for other==7."),
    ("tiny==2.0\n", PINS, "The user requested tiny==2.0; The user requested (constraint) tiny==1.0"),
    ("other\n-e .\n", PINS, "requirements.txt, line 2: '-e .'"),
    ("", orders.Environment(packages=("tiny==3.0",)), "No matching distribution found for tiny==3.0"),
    ("", orders.Environment(python="/nowhere/env"), "This machine has no /nowhere/env"),
)


def test_what_cannot_be_had_is_the_users_to_mend(node: NodeProcess) -> None:
    for spec, (text, pins, words) in enumerate(FAULTS):
        fact = failed(node, requirements(node, text, spec, environment=pins))
        assert fact.reason == Reason.environment_failed
        assert words in fact.detail
        assert fact.detail in fact.model_log
    assert len(built(node)) == 1
    assert {path.name for path in env_folder(node).iterdir() if path.is_dir()} == built(node), "no half is left"


def test_an_index_that_does_not_answer_is_the_platforms_fault(tmp_path: Path) -> None:
    words = ("--index-url", "http://127.0.0.1:9/simple", "--retries", "1", "--timeout", "1")
    with running_node(tmp_path, *(f"--pip-option={word}" for word in words)) as node:
        fact = failed(node, orders.Stage(7, environment=orders.Environment(packages=("absent-zz==1",))))
    assert fact.reason == Reason.staging_failed
    assert "could not be fetched or written now" in fact.detail


def test_what_packages_bring_for_every_start_is_never_run_by_the_node(node: NodeProcess, tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    pins = orders.Environment(packages=("trap==1.0",))
    staged(node, orders.Stage(1, environment=pins))
    staged(node, requirements(node, "other\n", 2, environment=pins))
    assert not marker.exists()


def test_what_a_killed_node_left_half_is_built_anew_once_its_pip_has_ended(node: NodeProcess) -> None:
    """The lock is pip's too, so nobody builds beside the pip of a node that is gone."""
    staged(node, orders.Stage(1, environment=PINS))
    (key,) = built(node)
    node.kill()
    (env_folder(node) / f"{key}.size").unlink()
    with (env_folder(node) / f"{key}.lock").open("w") as pip:
        fcntl.flock(pip, fcntl.LOCK_EX)  # as the descriptor that pip inherited
        node.start()
        node.server.give(orders.Stage(2, environment=PINS))
        assert staged(node, orders.Stage(3)).fetched == 0, "others go on meanwhile"
        assert not any(isinstance(fact, facts.Staged) and fact.spec == 2 for fact in node.server.facts)
        assert (env_folder(node) / key).exists()
    assert node.server.wait_for(facts.Staged, lambda fact: fact.spec == 2, seconds=60).fetched > 0


def test_halves_that_nobody_asks_for_again_are_removed_at_the_start(node: NodeProcess) -> None:
    node.end()
    half, held = (env_folder(node) / (letter * 64) for letter in "ab")
    for path in (half, held):
        (path / "bin").mkdir(parents=True)
    with (env_folder(node) / f"{held.name}.lock").open("w") as pip:
        fcntl.flock(pip, fcntl.LOCK_EX)
        node.start()
        wait_until(lambda: not half.exists(), "the half to go")
        assert held.exists()


def test_many_that_want_the_same_wait_for_one_build(node: NodeProcess) -> None:
    for spec in range(1, 7):
        node.server.give(orders.Stage(spec, environment=PINS))
    fetched = [
        node.server.wait_for(facts.Staged, lambda fact, n=spec: fact.spec == n, seconds=60).fetched
        for spec in range(1, 7)
    ]
    assert sorted(fetched)[:5] == [0] * 5
    assert max(fetched) > 0
    assert {fact.phase for fact in node.server.facts if isinstance(fact, facts.StageProgress)} & {
        "installing tiny==1.0"
    }


def test_environments_count_in_the_cache_and_go_when_they_were_not_used_lately(tmp_path: Path, index: Path) -> None:
    make_wheel(index, "big", "1.0", {"big/data.txt": "x" * (2 << 20)})
    options = [f"--pip-option={word}" for word in only_from(index)]
    with running_node(tmp_path, "--cache-limit", "1", *options) as node:
        staged(node, orders.Stage(1, environment=orders.Environment(packages=("big==1.0",))))
        (first,) = built(node)
        staged(node, orders.Stage(2, environment=PINS))
        assert first in built(node), "what is ready and was never used stays for a while"
        os.utime(node.home / "specs" / "1.json", (1e9, 1e9))
        staged(node, orders.Stage(3))
        wait_until(lambda: first not in built(node), "the old one to go")
        wait_until(lambda: not (node.home / "specs" / "1.json").exists(), "its spec to be forgotten")
        assert len(built(node)) == 1
