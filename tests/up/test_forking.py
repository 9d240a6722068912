"""A fork of the supervisor is what a new interpreter would be: words, streams, signals, descriptors, chance."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runyard.up.forking import Forked
from runyard.up.supervise import Child
from tests.support.waiting import wait_until
from tests.up.test_supervise import keeping


def told(folder: Path, name: str) -> list[dict[str, Any]]:
    """What the children of a name said of themselves."""
    return [json.loads(path.read_text()) for path in folder.glob(f"{name}.*.json")]


def test_a_fork_is_told_apart_from_its_supervisor_and_from_other_forks(tmp_path: Path) -> None:
    with keeping(tmp_path, "forked", "server", "node") as both:
        wait_until(lambda: len(both.notes("began")) == 2, "both began")
        both.stop()
    server, node = told(tmp_path, "server")[0], told(tmp_path, "node")[0]
    assert all(one != other for one, other in zip(server["chance"], node["chance"], strict=True))
    for name, each in (("server", server), ("node", node)):
        assert each["descriptors"] == [0, 1, 2]
        assert each["handlers"] == [str(signal.SIG_DFL)] * 2
        assert each["blocked"] == []
        assert each["words"] == each["command"][1:] == [name, str(tmp_path)]
        assert each["comm"] == "tests.up.kept"
        assert (tmp_path / f"{name}.log").read_text().startswith(f"{name} prints\n")


def test_an_error_ends_a_fork_and_is_told_in_its_log(tmp_path: Path) -> None:
    with keeping(tmp_path, "forked", "broken") as kept:
        wait_until(lambda: len(kept.notes("began")) == 2, "another one in its place")
        said = kept.stop()
    assert "broken ended with status 1; it is started again" in said
    assert "ValueError: what broke it" in (tmp_path / "broken.log").read_text()


def test_the_end_of_a_fork_is_waited_for_and_known_from_then_on() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        forked = Forked(process.pid)
        with pytest.raises(subprocess.TimeoutExpired):
            forked.wait(0.05)
        assert forked.poll() is None
        forked.kill()
        assert forked.wait(30) == forked.poll() == -9
        forked.terminate()  # nobody is hit: the number may be another process's by now


PROBE = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from runyard.up import forking
if sys.argv[2] == "thread":
    import runyard.node.main
    threading.Thread(target=threading.Event().wait, daemon=True).start()
if sys.argv[2] == "absent":
    sys.modules["fastapi"] = None
for name in ("runyard.node.main", "runyard.server"):
    image = forking.Image(name)
    print(name, image.load() is not None, image.load() is image.main, "sqlalchemy" in sys.modules)
"""


@pytest.mark.parametrize(
    ("what", "known", "said"),
    [
        ("good", ["runyard.node.main True True False", "runyard.server True True True"], []),
        (
            "thread",
            ["runyard.node.main False True False", "runyard.server False True True"],
            ["runyard.node.main gets an interpreter of its own (a library began a thread", "runyard.server gets an"],
        ),
        (
            "absent",
            ["runyard.node.main True True False", "runyard.server False True False"],
            ["runyard.server gets an interpreter of its own (ModuleNotFoundError"],
        ),
    ],
)
def test_what_cannot_be_forked_gets_an_interpreter_of_its_own(what: str, known: list[str], said: list[str]) -> None:
    """Each is tried once; and what the node is forked from holds nothing of the server's."""
    words = [sys.executable, "-c", PROBE, "", what]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == known
    lines = done.stderr.splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))


def test_without_an_image_a_child_is_executed(tmp_path: Path) -> None:
    child = Child("server", "runyard.server", ["--help"], tmp_path / "log")
    child.start()
    assert child.process is not None
    assert child.process.wait(60) == 0
    assert "usage: python -m runyard.server" in (tmp_path / "log").read_text()
