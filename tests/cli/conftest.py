"""A service and a command line that knows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.calling import Cli
from tests.client.api_server import TOKEN, ApiServer


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as started:
        yield started


@pytest.fixture
def nobody(tmp_path: Path) -> Cli:
    """A command line that knows no service."""
    return Cli(tmp_path)


@pytest.fixture
def cli(server: ApiServer, tmp_path: Path) -> Cli:
    """A command line in a folder with ``model/train.py`` and ``m.yml``."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "train.py").write_text("print()\n")
    (tmp_path / "m.yml").write_text("model_definition:\n  name: demo\n")
    return Cli(tmp_path, {"RUNYARD_URL": server.url, "RUNYARD_TOKEN": TOKEN})
