"""requirements.txt: names and versions are taken, everything else is refused with its line or noted."""

from pathlib import Path

import pytest

from runyard.node.environments.faults import EnvironmentFault
from runyard.node.environments.requirements import LIMIT, parse_requirements, read_requirements

HASH = "sha256:" + "a" * 64


def test_names_versions_extras_markers_and_hashes_are_taken() -> None:
    text = f"""\ufeff# for training
numpy >=1.26, <3   # numbers
torch[opt]==2.13.0 ; python_version >= "3.8"
\t
click==8.1 \\
    --hash={HASH} \\
    --hash={HASH}
tqdm"""
    found = parse_requirements(text.lstrip("\ufeff"))
    assert found.lines == (
        "numpy<3,>=1.26",
        'torch[opt]==2.13.0; python_version >= "3.8"',
        f"click==8.1 --hash={HASH} --hash={HASH}",
        "tqdm",
    )
    assert [each.name for each in found.wanted] == ["numpy", "torch", "click", "tqdm"]
    assert found.notes == ()


@pytest.mark.parametrize(
    "option",
    ["-i https://h/s", "--index-url=https://h/s", "--extra-index-url https://h", "-f d", "--pre", "--no-index",
     "--trusted-host h"],
)  # fmt: skip
def test_where_packages_come_from_is_the_operators(option: str) -> None:
    found = parse_requirements(f"tqdm\n{option}\n")
    assert found.lines == ("tqdm",)
    assert found.notes[0].startswith(f"requirements.txt, line 2: {option.split('=')[0].split()[0]} is ignored")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-e .", "option that cannot be given"),
        ("--editable=src", "option that cannot be given"),
        ("-r more.txt", "names another file"),
        ("--requirement more.txt", "names another file"),
        ("-c held.txt", "names another file"),
        (".", "no name of a package"),
        ("./pkg", "no name of a package"),
        ("/opt/pkg", "no name of a package"),
        ("pkg-1.0-py3-none-any.whl", "no name of a package"),
        ("git+https://h/x.git", "no name of a package"),
        ("https://h/x.zip", "no name of a package"),
        ("file:///opt/x", "no name of a package"),
        ("x @ https://h/x.whl", "only names and versions"),
        ("x @ git+ssh://h/x", "from an address"),
        ("two words", "is no requirement"),
        ("$HOME", "is no requirement"),
        ("x; os.system('true')", "is no requirement"),
        ("--config-settings=a", "option that cannot be given"),
    ],
)
def test_everything_else_is_refused_with_its_line(line: str, words: str) -> None:
    with pytest.raises(EnvironmentFault) as fault:
        parse_requirements(f"tqdm\n# a comment\n{line}\n")
    assert "requirements.txt, line 3: " in fault.value.detail
    assert words in fault.value.detail


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    assert read_requirements(str(path)) is None
    path.write_bytes(b"\xef\xbb\xbftqdm\r\n")
    found = read_requirements(str(path))
    assert found is not None
    assert found.lines == ("tqdm",)
    path.write_bytes(b"#" * (LIMIT + 1))
    with pytest.raises(EnvironmentFault, match="more than 256 KiB"):
        read_requirements(str(path))
    path.write_bytes("tqdm".encode("utf-16"))
    with pytest.raises(EnvironmentFault, match="UTF-8"):
        read_requirements(str(path))
