"""The package index, asked by a real pip: of a folder of packages."""

from pathlib import Path

import pytest

from bench.soak.holding import lengths
from runyard.adapters.pip_index import PipIndex, read_versions
from tests.support.wheels import make_wheel, only_from


def test_a_real_pip_lists_what_has_a_wheel_for_this_python(tmp_path: Path) -> None:
    for version in ("1.9", "1.10", "2.0rc1"):
        make_wheel(tmp_path, "tiny-thing", version)
    (tmp_path / "tiny_thing-3.0.tar.gz").write_bytes(b"")
    (tmp_path / "tiny_thing-4.0-cp27-none-any.whl").write_bytes(b"")
    index = PipIndex(only_from(tmp_path))
    assert index.versions("tiny-thing") == ("2.0rc1", "1.10", "1.9")
    make_wheel(tmp_path, "tiny-thing", "5.0")
    assert index.versions("tiny-thing") == ("2.0rc1", "1.10", "1.9"), "an answer is kept for a while"
    assert index.versions("no-such-thing") == ()


def test_names_that_nobody_asks_for_any_more_leave_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runyard.adapters.pip_index.MOST_KNOWN", 2)
    index = PipIndex(timeout_s=0.001)
    assert [index.versions(f"tiny{number}") for number in range(4)] == [None] * 4
    assert (lengths(index)["._known"], lengths(index)["._asking"]) == (2, 0)


def test_an_index_that_takes_too_long_cannot_be_asked(tmp_path: Path) -> None:
    assert PipIndex(only_from(tmp_path), timeout_s=0.01).versions("tiny") is None


@pytest.mark.parametrize("name", ["", "-r", "a b", "../x", "a==1", "a[b]"])
def test_only_names_are_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a distribution"):
        PipIndex().versions(name)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ERROR: ... x==0.0.0.dev0 (from versions: 1.0, 2.0+cpu, 2.0, 10.0)\n", ("10.0", "2.0", "1.0")),
        ("ERROR: ... x==0.0.0.dev0 (from versions: none)\n", ()),
        ("WARNING: Retrying (Retry(total=0...\nERROR: ... (from versions: none)\n", None),
        ("WARNING: Retrying (Retry(total=0...\nERROR: ... (from versions: 1.0)\n", ("1.0",)),
        ("ERROR: Cannot install x==0.0.0.dev0 because these package versions have conflicting dependencies.\n", None),
        ("no such option: --dry-run\n", None),
    ],
)
def test_what_pip_says(text: str, found: tuple[str, ...] | None) -> None:
    assert read_versions(text) == found
