"""Fixtures that start shims, as root and as nobody in particular."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shim.launching import Launcher, launcher_in
from tests.shim.warm_shims import Warm


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """Starts shims as the user who runs the tests."""
    with launcher_in(tmp_path) as made:
        yield made


@pytest.fixture
def open_launcher() -> Iterator[Launcher]:
    """The same below a folder that every user can pass, so that shims can run without privileges."""
    folder = Path(tempfile.mkdtemp(prefix="shim-"))
    folder.chmod(0o755)
    try:
        with launcher_in(folder) as made:
            yield made
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that every user can pass."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def warm(base: Path) -> Iterator[Warm]:
    """A warm parent that is ready, under its shim."""
    made = Warm(base)
    try:
        assert made.hear()["event"] == "ready"
        yield made
    finally:
        made.close()
