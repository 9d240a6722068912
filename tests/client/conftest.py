"""A service to talk to, and nothing of the machine's own settings."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.client import Client, Limits, Patience
from tests.client.api_server import TOKEN, ApiServer


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("RUNYARD_URL", "RUNYARD_TOKEN", "ML_ENV", "ML_USERNAME", "ML_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUNYARD_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as started:
        yield started


@pytest.fixture
def client(server: ApiServer) -> Iterator[Client]:
    limits = Limits(connect=2, read=10, tries=4, first_pause=0.01)
    patience = Patience(idle=5, first=0.01, longest=0.05, absence=20, first_absence=0.5)
    with Client(server.url, TOKEN, limits=limits, patience=patience) as made:
        yield made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a program and, beside it, ``manifest.yml``."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "train.py").write_text("import json\njson.load(open('config.json'))\n")
    (tmp_path / "manifest.yml").write_text("model_definition:\n  name: demo\n")
    return folder
