"""Every row of the table: the error that it gets, nothing half done, and the memory of the server all the while."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.node.unpack import CodeInvalid, Limits, unpack
from tests.hostile.case import Case, Zip
from tests.hostile.page import PAGE, render
from tests.hostile.table import CASES, ZIPS
from tests.hostile.yard import Yard, running_yard

MOST_MIB = 300
ZIP_LIMITS = Limits(size=32 << 20)


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A real server process for all rows."""
    with running_yard(tmp_path_factory.mktemp("hostile")) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.what}")
def test_hostile_input(yard: Yard, case: Case) -> None:
    before = yard.state()
    case.check(case.send(yard))
    if case.kept is None:
        assert yard.state() == before
    else:
        yard.settle()
    assert yard.peak_mib() < MOST_MIB


@pytest.mark.parametrize("row", ZIPS, ids=lambda row: row.what)
def test_hostile_zip(yard: Yard, row: Zip, tmp_path: Path) -> None:
    content = row.make()
    address = f"/definitions/{hashlib.sha256(content).hexdigest()}"
    assert yard.call("PUT", address, content).status == 201
    assert yard.call("GET", address).body == content
    with pytest.raises(CodeInvalid) as refused:
        unpack(io.BytesIO(content), str(tmp_path / "out"), ZIP_LIMITS)
    assert row.words in str(refused.value)
    assert {each.name for each in tmp_path.iterdir()} <= {"out"}
    kept = [each for each in tmp_path.rglob("*") if not each.is_dir()]
    assert not [each for each in kept if each.is_symlink() or not each.is_file()]
    assert sum(each.stat().st_size for each in kept) <= ZIP_LIMITS.size
    assert yard.peak_mib() < MOST_MIB


def test_the_page_tells_these_rows() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `python -m tests.hostile.page`"


def test_there_are_many_rows_and_each_is_another() -> None:
    rows = [(case.kind, case.what) for case in CASES] + [("zip", row.what) for row in ZIPS]
    assert len(rows) >= 150
    assert len(set(rows)) == len(rows)
    silent = [case.what for case in CASES if case.code and not case.words]
    assert not silent
