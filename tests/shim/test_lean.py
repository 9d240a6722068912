"""JSON by the C cores alone, records that are whole or absent, and what a start imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.shim import lean
from tests.shim.launching import SHIM

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_records_are_the_json_that_everybody_reads(record: dict[str, object]) -> None:
    assert json.loads(lean.encode(record)) == record
    assert lean.decode(json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")) == record
    assert "\n" not in lean.encode(record)


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"a": 1', b"1", b"null", b'{"a": 1}{', b"\xff", b"[" * 100_000, b'{"a" 1}']
)
def test_what_is_not_one_object_is_refused_without_quoting_it(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not one JSON object$"):
        lean.decode(text)


def test_a_value_that_json_cannot_hold_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="cannot hold a set"):
        lean.encode({"a": {1}})


def test_a_record_replaces_what_was_reserved_for_it(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        lean.reserve(folder, "exit.json")
        assert (tmp_path / "exit.json.tmp").stat().st_size == 8192
        lean.write_record(folder, "exit.json", {"a": 1})
        lean.write_record(folder, "exit.json", {"b": 2})
    finally:
        os.close(folder)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("exit.json", '{"b": 2}\n')]
    assert (tmp_path / "exit.json").stat().st_mode & 0o777 == 0o600


def test_the_alarm_rings_once_at_its_time_and_not_when_it_is_taken_back() -> None:
    alarm = lean.Alarm()
    try:
        alarm.set(lean.boottime_ns() + 20_000_000)
        alarm.set(None)
        with pytest.raises(BlockingIOError):
            os.read(alarm.fd, 8)
        at = lean.boottime_ns() + 20_000_000
        alarm.set(at)
        os.set_blocking(alarm.fd, True)
        os.read(alarm.fd, 8)
        assert lean.boottime_ns() >= at
        alarm.set(1)  # long past
        assert os.read(alarm.fd, 8) == (1).to_bytes(8, sys.byteorder)
    finally:
        os.close(alarm.fd)


def test_a_failing_call_of_the_c_library_is_an_error_with_its_name() -> None:
    with pytest.raises(FileNotFoundError, match="chdir"):
        lean.libc("chdir", b"/no/such/folder")


def imported(*arguments: str) -> set[str]:
    """The modules that an interpreter imports for these arguments, whatever comes of them."""
    command = [sys.executable, "-I", "-S", "-B", "-X", "importtime", *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stderr
    return {line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")}


def test_a_start_imports_no_module_that_costs_it_milliseconds() -> None:
    ours = imported(str(SHIM)) - imported("-c", "import os")  # without its arguments it imports all, and stops
    assert "runyard.shim.supervise" in ours
    assert {name for name in ours if not name.startswith("runyard.")} <= {
        "__future__",
        "_ctypes",
        "_json",
        "_socket",
        "errno",
        "select",
    }


def test_byte_code_is_kept_for_all_so_that_only_the_entry_is_compiled_at_a_start(tmp_path: Path) -> None:
    for path in SHIM.parent.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-I", "-S", "-B", str(tmp_path / "shim.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o077)
    assert "KeyError: '--lock-fd'" in result.stderr
    kept = {path.name.split(".")[0]: path.stat().st_mode & 0o777 for path in (tmp_path / "__pycache__").iterdir()}
    assert kept.keys() >= {"supervise", "cgroups", "lean"}
    assert set(kept.values()) == {0o644}
