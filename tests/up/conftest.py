"""Options of the commands for a folder of the test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runyard.cli.options import UpOptions


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., UpOptions]:
    """Options of `runyard up` on a free port of loopback."""

    def make(port: int = 0, *, detach: bool = True) -> UpOptions:
        return UpOptions(str(tmp_path / "home"), "127.0.0.1", port, "none", 1, 1, detach)

    return make
