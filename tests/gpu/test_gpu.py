"""On real GPUs: what a run sees, that memory is free after its end, and a sum over two of them by nccl."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from runyard.node.containers.engines import find
from runyard.node.inventory import Device
from runyard.up.gpus import SLACK_BYTES, card_of
from tests.support.installation import RUNYARD, Installation, manifest, running_installation, write_code
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
SEE = """
import json, os, torch
print(json.dumps([os.environ["CUDA_VISIBLE_DEVICES"], os.environ["GPU_COUNT"], torch.cuda.device_count()]))
print(float((torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")).sum()))
"""
SEEDED = """
import torch
torch.manual_seed(7)
layer = torch.nn.Linear(64, 64, device="cuda")
loss = layer(torch.randn(256, 64, device="cuda")).square().sum()
loss.backward()
print(layer.weight.grad.sum().item().hex(), torch.cuda.device_count())
"""
HOLD = """
import time, torch
memory = torch.ones(1 << 30, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("held", flush=True)
time.sleep(600)
"""
REDUCE = """
import os, torch
from torch import distributed
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
distributed.init_process_group("nccl")
part = torch.full((8,), float(distributed.get_rank() + 1), device="cuda")
distributed.all_reduce(part)
print("sum", float(part[0]), "of", distributed.get_world_size(), flush=True)
distributed.destroy_process_group()
"""


def submit(yard: Installation, code: str, *options: str, configuration: str = "small", extra: str = "") -> str:
    """Submit a program; returns its id."""
    folder = write_code(yard.folder / "code", {"train.py": code})
    (yard.folder / "m.yml").write_text(manifest("python3 train.py", configuration=configuration, extra=extra))
    return str(yard.json("train", str(folder), "m.yml", *options)["ids"][0])


def test_doctor_finds_nothing_bad(yard: Installation, devices: tuple[Device, ...]) -> None:
    words = [str(RUNYARD), "doctor", "--gpu", "--json", "--home", str(yard.home)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
    found = json.loads(done.stdout)["findings"]
    assert [each for each in found if each["level"] == "bad"] == []
    assert done.returncode == 0
    assert {f"GPU {device.index}" for device in devices} <= {each["what"] for each in found}


def test_a_run_sees_the_device_it_was_given_and_no_other(yard: Installation, devices: tuple[Device, ...]) -> None:
    run = submit(yard, SEE, "--wait")
    first, second = yard.cli("logs", run).stdout.splitlines()[:2]
    visible, count, seen = json.loads(first)
    assert visible in {str(device.index) for device in devices}
    assert (count, seen) == ("1", 1)
    assert float(second) == 64**3


def test_a_forked_program_has_its_device_and_the_same_result(yard: Installation) -> None:
    results: dict[str, str] = {}
    for warm in ("auto", "auto", "off"):  # the first may come before its parent has imported
        run = submit(yard, SEEDED, "--wait", extra=f"runyard: {{warm: {warm}}}\n")
        way = yard.json("show", run)["attempts"][-1]["way"]
        results[way] = yard.cli("logs", run).stdout.splitlines()[0]
    assert set(results) == {"warm", "exec"}
    assert results["warm"] == results["exec"]


def test_runs_beside_each_other_have_different_devices(yard: Installation, devices: tuple[Device, ...]) -> None:
    if len(devices) < 2:
        pytest.skip("this machine has one GPU")
    runs = [submit(yard, "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(600)") for _ in "ab"]
    wait_until(lambda: all(yard.cli("logs", run).stdout for run in runs), "both print", 60)
    assert len({yard.cli("logs", run).stdout.split()[0] for run in runs}) == 2
    yard.cli("cancel", *runs)
    yard.cli("wait", *runs, check=3)


def test_memory_is_free_after_a_cancel(yard: Installation, devices: tuple[Device, ...]) -> None:
    nvml = pytest.importorskip("pynvml")
    nvml.nvmlInit()
    before = {device.index: card_of(nvml, device.index).used for device in devices}

    def taken() -> int:
        return sum(card_of(nvml, index).used - used for index, used in before.items())

    run = submit(yard, HOLD)
    wait_until(lambda: "held" in yard.cli("logs", run).stdout, "it holds memory", 120)
    assert taken() >= 1 << 30
    yard.cli("cancel", run)
    yard.cli("wait", run, check=3)
    wait_until(lambda: taken() < SLACK_BYTES, "its memory is free", 30)
    nvml.nvmlShutdown()


def test_two_processes_add_up_over_nccl(yard: Installation, devices: tuple[Device, ...]) -> None:
    if len(devices) < 2:
        pytest.skip("this machine has one GPU")
    run = submit(yard, REDUCE, "--wait", configuration="medium", extra="runyard: {launch: gpu}\n")
    assert yard.cli("logs", run).stdout.count("sum 3.0 of 2") == 2


REACH = """
import glob, json, os, torch
def opens(path):
    try:
        os.close(os.open(path, os.O_RDWR))
        return True
    except OSError:
        return False
opened = [path for path in glob.glob("/dev/nvidia[0-9]*") if opens(path)]
print("TOLD", json.dumps([len(opened), torch.cuda.device_count(), float(torch.ones(8, device="cuda").sum())]))
"""


def test_a_program_opens_the_gpu_that_it_was_given_and_no_other(yard: Installation) -> None:
    run = submit(yard, REACH)
    yard.client().wait([run], timeout=300)
    log = yard.cli("logs", run).stdout
    told = next(line for line in log.splitlines() if "TOLD" in line).partition("TOLD ")[2]
    assert json.loads(told) == [1, 1, 8.0]


@pytest.mark.parametrize("kind", ["podman", "docker"])
def test_a_container_has_the_gpu_that_it_was_given_and_no_other(
    devices: tuple[Device, ...], tmp_path: Path, kind: str
) -> None:
    """By the engine of this machine, with whatever names GPUs to it; ``RUNYARD_TEST_IMAGE``: an image with PyTorch."""
    image = os.environ.get("RUNYARD_TEST_IMAGE")
    found = find(kind, dict(os.environ))
    if image is None or isinstance(found, str):
        pytest.skip(f"RUNYARD_TEST_IMAGE names no image with PyTorch, or there is no {kind}: {found}")
    settings = f'container_engine = "{kind}"\n'
    with running_installation(tmp_path, "--gpus", "all", settings=settings) as yard:
        framework = f"{{name: custom, version: '{image}'}}"
        folder = write_code(yard.folder / "code", {"train.py": SEE})
        text = manifest("python3 train.py", configuration="small").replace(
            "  execution:", f"  framework: {framework}\n  execution:"
        )
        (yard.folder / "m.yml").write_text(text)
        yard.cli("train", str(folder), "m.yml", "--wait", timeout=500)
        seen, total, *_ = yard.cli("logs", "last").stdout.splitlines()
        assert json.loads(seen) == ["0", "1", 1]
        assert float(total) == 64.0**3
