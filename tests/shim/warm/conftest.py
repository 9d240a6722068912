"""One warm parent with the framework for all tests of a worker, and a slim one."""

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.shim.warm.parents import Twice, Warm

FRAMEWORK = ("numpy", "torch", "torch._dynamo", "torch.optim", "torch.utils.data", "torch.nn.functional")


@pytest.fixture(scope="session")
def slim_parent() -> Iterator[Warm]:
    warm = Warm()
    assert not warm.failure
    yield warm
    warm.close()


@pytest.fixture(scope="session")
def torch_parent() -> Iterator[Warm]:
    if find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: pip install 'runyard[samples]'")
    warm = Warm(*FRAMEWORK, "no_such_module")
    assert not warm.failure
    yield warm
    warm.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user can reach, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def slim(slim_parent: Warm, folder: Path) -> Twice:
    return Twice(slim_parent, folder)


@pytest.fixture
def framework(torch_parent: Warm, folder: Path) -> Twice:
    return Twice(torch_parent, folder)
