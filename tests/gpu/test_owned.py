"""On real GPUs: what strangers hold is seen before a start, and errors are heard without harm to what is well."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from runyard.core.gpus import HARDWARE
from runyard.node.gpus.nvml import Nvml, open_nvml
from runyard.node.inventory import Device
from tests.gpu.test_gpu import HOLD, SEE, submit
from tests.support.gpus_contract import GpusContract
from tests.support.installation import Installation
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

STRANGER = """
import sys, torch
memory = torch.ones(int(sys.argv[1]), dtype=torch.uint8, device="cuda:" + sys.argv[2])
torch.cuda.synchronize()
print("held", flush=True)
sys.stdin.read()
"""
WILD = """
import torch
kernel = torch.cuda._compile_kernel('extern "C" __global__ void wild(float* p) { p[1ull << 44] = 1; }', "wild")
kernel(grid=(1, 1, 1), block=(1, 1, 1), args=[torch.zeros(1, device="cuda")])
torch.cuda.synchronize()
"""


@contextmanager
def stranger(size: int, index: int) -> Iterator[int]:
    """A process that is nobody's run and holds memory of a GPU; its pid."""
    words = [sys.executable, "-c", STRANGER, str(size), str(index)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process.pid
        finally:
            process.kill()


class TestNvml(GpusContract):
    @pytest.fixture
    def gpus(self, devices: tuple[Device, ...]) -> Nvml:
        found = open_nvml([device.index for device in devices])
        assert found is not None
        return found

    @contextmanager
    def stranger(self, size: int) -> Iterator[int]:
        with stranger(size, self.index) as pid:
            yield pid


def shut(yard: Installation) -> list[str]:
    return [sentence for node in yard.get("/status")["nodes"] for sentence in node["shut_gpus"]]


def test_a_run_waits_for_a_stranger_and_starts_when_that_has_gone(
    yard: Installation, devices: tuple[Device, ...]
) -> None:
    assert shut(yard) == []
    with_all = {1: "small", 2: "medium", 4: "large"}.get(len(devices))
    if with_all is None:
        pytest.skip("no configuration has all GPUs of this machine")
    with stranger(4 << 30, devices[0].index):
        run = submit(yard, SEE, configuration=with_all)
        wait_until(lambda: "are held by a process" in yard.json("explain", run)["sentence"], "it is told why", 60)
        sentence = yard.json("explain", run)["sentence"]
        assert f"GPU {devices[0].index} of " in sentence
        assert yard.json("show", run)["state"] == "waiting"
        assert "are held by" in yard.cli("nodes", "list").stdout
    (done,) = yard.client().wait([run], timeout=120)
    assert done.state == "completed"
    assert shut(yard) == []


def test_what_a_killed_run_held_does_not_keep_the_next_one_waiting(yard: Installation) -> None:
    run = submit(yard, HOLD)
    wait_until(lambda: "held" in yard.cli("logs", run).stdout, "it holds memory", 120)
    after = submit(yard, SEE, configuration="small")
    yard.cli("cancel", run)
    (done,) = yard.client().wait([after], timeout=120)
    assert [each.reason for each in done.attempts] == ["finished"]


def test_a_programs_own_fault_is_heard_and_drains_nothing(yard: Installation) -> None:
    run = submit(yard, WILD)
    (done,) = yard.client().wait([run], timeout=300)
    log = yard.cli("logs", run).stdout
    if "_compile_kernel" in log and "AttributeError" in log:
        pytest.skip("this PyTorch cannot compile a kernel")
    assert done.state == "failed"
    assert done.raw["fault"] == "user", "it is not the machine's"
    assert "illegal" in log.lower()
    assert shut(yard) == []
    said = yard.home / "log" / "node.log"
    if "Errors of GPUs are not heard of" in said.read_text():
        pytest.skip("this driver tells no events")
    wait_until(lambda: "reported XID" in said.read_text(), "the event of the driver", 30)
    heard = [line for line in said.read_text().splitlines() if "reported XID" in line]
    assert not any(f"XID {number} " in line for line in heard for number in HARDWARE)
    after = submit(yard, SEE, "--wait")
    assert yard.json("show", after)["state"] == "completed"


def test_doctor_tells_of_errors(yard: Installation, devices: tuple[Device, ...]) -> None:
    told = yard.cli("doctor", "--gpu", "--home", str(yard.home), check=None, timeout=500).stdout
    for device in devices:
        assert f"ok    GPU {device.index}, errors: its memory counts none" in told
