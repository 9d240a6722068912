"""What `doctor --gpu` tries, tried on processors; what it says where there is no GPU."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from runyard.node.inventory import find_devices
from runyard.up.gpu_tries import HELD_BYTES
from runyard.up.gpus import Card, answer_of, described, freed, multiplied, reduced
from tests.support.installation import RUNYARD, children_of, cmdline

pytestmark = pytest.mark.skipif(
    find_spec("torch") is None, reason="PyTorch is not installed: pip install 'runyard[samples]'"
)
GIB = 1 << 30


def held_by_children() -> int:
    """Bytes that the tries hold."""
    found = 0
    for pid in children_of(os.getpid()):
        if "gpu_tries" in cmdline(pid):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            found += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))
    return found


def test_a_product_on_a_device_of_its_own() -> None:
    found = multiplied(0, "cpu")
    assert (found.what, found.level) == ("GPU 0, a product", "ok"), found
    assert "PyTorch" in found.text


def test_memory_is_free_after_the_process_was_killed() -> None:
    found = freed(3, "cpu", held_by_children)
    assert (found.what, found.level) == ("GPU 3, memory", "ok"), found
    assert float(found.text.split()[0]) >= round(HELD_BYTES / GIB, 1)


def test_memory_that_stays_taken_is_bad() -> None:
    calls = iter([0, *[HELD_BYTES] * 1000])
    found = freed(0, "cpu", lambda: next(calls), within_s=0.2)
    assert found.level == "bad"
    assert "still taken 0.2 s after" in found.text


def test_a_sum_over_two_processes() -> None:
    found = reduced("cpu", (0, 1))
    assert (found.what, found.level) == ("GPUs 0 and 1, a sum", "ok"), found
    assert "gloo by 2 processes" in found.text


def test_what_goes_wrong_becomes_a_sentence() -> None:
    child = subprocess.Popen([sys.executable, "-c", "1"], stdout=subprocess.PIPE, text=True)
    assert answer_of(child) == {"error": "the process ended without an answer (status 0)"}
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"], stdout=subprocess.PIPE, text=True)
    assert "killed" in answer_of(child, 0.2)["error"]


def test_a_device_in_words() -> None:
    assert described(Card(0, "H100", 80 * GIB, 0, ())).text == "H100, 80.0 GiB, 80.0 GiB free"
    busy = described(Card(1, "H100", 80 * GIB, 20 * GIB, ((7, 19 * GIB), (8, None))))
    assert (busy.what, busy.level) == ("GPU 1", "note")
    assert busy.text.endswith("60.0 GiB free; processes hold memory of it: 7 (19.0 GiB), 8 (unknown)")


@pytest.mark.skipif(bool(find_devices()), reason="this machine has a GPU: tests/gpu tries it")
def test_without_a_gpu_it_is_bad_that_there_is_none(tmp_path: Path) -> None:
    words = [str(RUNYARD), "doctor", "--gpu", "--json", "--home", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    bad = [each for each in json.loads(done.stdout)["findings"] if each["level"] == "bad"]
    assert [each["what"] for each in bad] == ["GPUs"]
    assert "no NVIDIA driver answers" in bad[0]["text"]
    assert multiplied(0, "cuda").text.startswith("PyTorch sees no CUDA device")
