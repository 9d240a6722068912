"""Tests on real GPUs: an installation that offers those of this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.node.inventory import Device, find_devices
from tests.support.installation import Installation, running_installation


@pytest.fixture(scope="session")
def devices() -> tuple[Device, ...]:
    """The GPUs of this machine; without one, or without PyTorch to use it, there is nothing to test."""
    found = find_devices()
    if not found:
        pytest.skip("this machine has no NVIDIA GPU")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed in this interpreter")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch of this interpreter sees no CUDA device")
    return found


@pytest.fixture(scope="session")
def yard(devices: tuple[Device, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running installation on all GPUs, whose programs run under this interpreter."""
    root: Path = tmp_path_factory.mktemp("gpu")
    with running_installation(root, "--gpus", "all") as installation:
        yield installation
