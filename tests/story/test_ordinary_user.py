"""An installation of an ordinary user's where user namespaces are not allowed: what is not isolated is said plainly.
(Where they are allowed: test_escapes.py.)"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.node.features import OPEN
from tests.story.test_escapes import ORDINARY, finished, told
from tests.support import as_user
from tests.support.installation import RUNYARD, Installation, manifest, running_installation, write_code

pytestmark = [
    pytest.mark.story,
    pytest.mark.timeout(200),
    pytest.mark.skipif(os.geteuid() != 0, reason="root alone starts programs of another user"),
]
HOW = "`sysctl -w user.max_user_namespaces=15000`"
READS = r"""
import json, sys
print("TOLD", json.dumps({"token": len(open(sys.argv[1]).read()), "pid": __import__("os").getpid()}))
"""


@pytest.fixture
def yard() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="ordinary-", dir="/var/lib"))
    root.chmod(0o755)
    try:
        with running_installation(root, "--fake-gpus", "1", user=ORDINARY, allowed=False) as installation:
            installation.wait_connected()
            yield installation
    finally:
        shutil.rmtree(root)


def test_without_user_namespaces_the_run_the_machine_and_the_doctor_say_what_is_open(yard: Installation) -> None:
    run, log = finished(yard, "reads", READS, str(yard.home / "token"), way="exec")
    assert told(log)["token"] > 10  # it is true, then
    assert told(log)["pid"] > 100
    note = run.attempts[-1].way_note
    assert f"Not isolated: {OPEN}" in note
    assert HOW in note
    assert run.attempts[-1].tamper_proof is False
    shown = yard.cli("show", run.id).stdout
    assert OPEN in shown
    assert any(OPEN in each and HOW in each for each in yard.get("/status")["nodes"][0]["notes"])
    words = [sys.executable, as_user.__file__, "--no-namespaces", str(ORDINARY), str(yard.folder)]
    said = subprocess.run([*words, str(RUNYARD), "doctor"], capture_output=True, text=True, check=False).stdout
    lines = [line for line in said.splitlines() if line.startswith("note  not isolated: ")]
    assert any(OPEN in line and HOW in line for line in lines), said


def test_what_needs_a_namespace_is_refused_and_not_left_out(yard: Installation) -> None:
    write_code(yard.folder / "offline", {"train.py": "print('ran')"})
    (yard.folder / "offline.yml").write_text(manifest("python3 train.py", extra="runyard: {network: off}\n"))
    done = yard.cli("train", "offline", "offline.yml", check=4)
    assert "network" in done.stderr
