"""Short functions, short files, names that say something: the house rules that a program can check."""

from pathlib import Path

import pytest

from tests.architecture.sources import (
    empty_names,
    is_long_file,
    long_functions,
    package_sources,
    parse,
    silence_without_reason,
)


def test_the_package_is_read() -> None:
    assert any(source.path.name == "__init__.py" for source in package_sources())


def test_no_function_is_long_without_a_reason() -> None:
    assert [found for source in package_sources() for found in long_functions(source)] == []


def test_no_file_is_long_without_a_reason() -> None:
    assert [source.place(len(source.lines)) for source in package_sources() if is_long_file(source)] == []


def test_no_class_has_an_empty_name() -> None:
    assert [found for source in package_sources() for found in empty_names(source)] == []


def test_every_silenced_check_says_why() -> None:
    assert [found for source in package_sources() for found in silence_without_reason(source)] == []


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "probe.py"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("signature", "lines", "found"),
    [
        ("def f():", 59, 0),
        ("def f():", 60, 1),
        ("async def f():", 60, 1),
        ("def f():  # long: one case a state", 80, 0),
        ("def f(\n    a,  # long: one case a state\n):", 80, 0),
        ("def f():  # long:", 80, 1),
    ],
)
def test_the_measure_of_functions(tmp_path: Path, signature: str, lines: int, found: int) -> None:
    source = parse(write(tmp_path, signature + "\n" + "    pass\n" * lines))
    assert len(list(long_functions(source))) == found


@pytest.mark.parametrize(
    ("head", "lines", "found"), [("", 500, False), ("", 501, True), ("# long: a table\n", 501, False)]
)
def test_the_measure_of_files(tmp_path: Path, head: str, lines: int, found: bool) -> None:
    assert is_long_file(parse(write(tmp_path, head + "x = 1\n" * lines))) is found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("RunManager", 1),
        ("HTTPHelper", 1),
        ("RunService", 1),
        ("ServiceDialect", 0),
        ("Utilisation", 0),
        ("Managed", 0),
    ],
)
def test_the_measure_of_names(tmp_path: Path, name: str, found: int) -> None:
    assert len(list(empty_names(parse(write(tmp_path, f"class {name}:\n    pass\n"))))) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import a  # noqa: PLC0415", 1),
        ("import a  # noqa: PLC0415, F401", 1),
        ("import a  # noqa: PLC0415 - it takes 80 ms and few commands need it", 0),
        ("import a  # pyright: ignore[reportMissingImports]", 1),
        ("import a  # pyright: ignore[reportMissingImports] # only where there is a GPU", 0),
        ("import a  # noqa: F401 # pyright: ignore[reportUnusedImport]", 1),
        ("a = '# noqa: F401'", 0),
        ("# few commands need it\nimport a  # noqa: PLC0415\nimport b  # noqa: PLC0415", 0),
        ("# few commands need it\nimport c\nimport a  # noqa: PLC0415", 1),
    ],
)
def test_the_measure_of_silence(tmp_path: Path, line: str, found: int) -> None:
    assert len(list(silence_without_reason(parse(write(tmp_path, line + "\n"))))) == found
