"""What the look through a program's folders tells at its end: whether anything but folders lies outside of its work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runyard.node.metrics.finding import MOST_DEPTH, Finder, Found
from runyard.node.prepare import OWN_FOLDERS, SHARED_FOLDERS
from runyard.node.sweep import Tree


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for name in (*OWN_FOLDERS, *SHARED_FOLDERS):
        (tmp_path / "own" / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "own/work/train.py").write_text("pass\n")
    return tmp_path / "own"


def look(own: Path, owner: int | None = None) -> Found:
    with Tree(str(own.parent), "own", owner) as tree:
        return Finder().look(tree, lambda _path, _descriptor: None)


def test_files_in_the_working_directory_alone_leave_the_rest_bare(own: Path) -> None:
    (own / "work/events.out.tfevents.1").write_bytes(b"")
    (own / "work/.git").mkdir()
    found = look(own)
    assert found.bare
    assert [source.path for source in found.sources] == ["work/events.out.tfevents.1"]


def a_file(place: Path) -> None:
    place.write_text("x")


def a_link(place: Path) -> None:
    place.symlink_to("/etc")


def a_folder_that_is_passed_over(place: Path) -> None:
    (place.parent / ".git").mkdir()


def a_folder_too_deep(place: Path) -> None:
    place.joinpath(*["d"] * (MOST_DEPTH + 1)).mkdir(parents=True)


@pytest.mark.parametrize("place", ["logs/x", "state/logs/tb/x", "state/x", "result/model/x"])
@pytest.mark.parametrize("leave", [a_file, a_link, a_folder_that_is_passed_over, a_folder_too_deep])
def test_whatever_else_there_is_may_be_a_result(own: Path, place: str, leave: Callable[[Path], None]) -> None:
    assert look(own).bare
    leave(own / place)
    assert not look(own).bare


def test_a_folder_that_is_not_the_program_s_own_is_not_known_to_be_bare(own: Path) -> None:
    (own / "logs").rmdir()
    assert not look(own).bare
    (own / "logs").mkdir()
    assert not look(own, owner=os.geteuid() + 1).bare
