"""Folders whose content the file system lays apart."""

import os
from pathlib import Path

import pytest

from runyard.adapters.objects.folder import FolderStore
from runyard.adapters.telemetry.files import LogFiles
from runyard.node.home import open_home
from runyard.stores.apart import TOP_OF_TREES, flags, lay_apart


def marked(path: Path) -> bool:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return bool(flags(folder) & TOP_OF_TREES)
    except OSError as error:
        pytest.skip(f"this file system has no such attributes: {error.strerror}")
    finally:
        os.close(folder)


def test_where_runs_come_and_go_each_has_its_own_place(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    assert not marked(plain)
    lay_apart(plain)
    if not marked(plain):
        pytest.skip("this file system does not take the attribute")
    FolderStore(tmp_path / "store")
    LogFiles(tmp_path / "logs")
    open_home(str(tmp_path / "node"))
    assert all(marked(tmp_path / name) for name in ("store", "logs", "node/runs"))
    assert not marked(tmp_path / "node/specs")


def test_a_folder_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    lay_apart(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
