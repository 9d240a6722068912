"""Schemathesis over the whole OpenAPI document: no 5xx, nothing undocumented, no answer of another form."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("schemathesis", reason="the extra `dev` brings it")

from bench.schema import examine

SECONDS = 15


@pytest.mark.slow
def test_no_operation_breaks_its_description(tmp_path: Path) -> None:
    code, told = examine(tmp_path, SECONDS, 5)
    assert code == 0, told[-6000:]
    assert "Tested: " in told
