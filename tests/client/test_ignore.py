"""What is packed of a folder is what git itself would take, judged by a real git on a real repository."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runyard.client.errors import PackingError
from runyard.client.ignore import walk

GIT = shutil.which("git")
pytestmark = pytest.mark.skipif(GIT is None, reason="needs git as the judge")
ENVIRONMENT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "HOME": "/nonexistent"}


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], env=ENVIRONMENT, capture_output=True, check=True)
    return done.stdout.decode()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def gits_choice(folder: Path) -> list[str]:
    """The files below ``folder`` that git would take, by its own rules."""
    listed = git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", ".")
    return sorted(name for name in listed.split("\0") if name)


def ours(folder: Path) -> list[str]:
    return [found.name for found in walk(folder).files]


TREE = [
    "a.py", "a.log", "b.log", "foo", "build/out.o", "build/keep.txt", "build/sub/x.o", "src/a.py", "src/a.log",
    "src/foo", "src/build/out.o", "src/deep/er/b.log", "src/deep/er/x y.txt", "docs/a.md", "docs/foo/a.md",
    "docs/foo/foo", "#hash", "!bang", "trail ", "src/abc/1", "src/abc/d/2", "f[1].txt", "data.csv", "data/one.csv",
    "data/two/three.csv", "ünï.txt", "back\\slash",
]  # fmt: skip
TABLE = [
    {".gitignore": "*.log\n"},
    {".gitignore": "*.log\n!b.log\n"},
    {".gitignore": "/a.log\n"},
    {".gitignore": "build/\n"},
    {".gitignore": "build/*\n!build/keep.txt\n"},
    {".gitignore": "build/\n!build/keep.txt\n"},
    {".gitignore": "/build\n"},
    {".gitignore": "build\n!/build\n"},
    {".gitignore": "foo\n"},
    {".gitignore": "foo/\n"},
    {".gitignore": "docs/foo\n"},
    {".gitignore": "**/foo\n"},
    {".gitignore": "foo/**\n"},
    {".gitignore": "src/**/b.log\n"},
    {".gitignore": "src/abc/**\n!src/abc/1\n"},
    {".gitignore": "src/abc/**/\n"},
    {".gitignore": "abc/**/2\n"},
    {".gitignore": "*\n!*.py\n"},
    {".gitignore": "*\n!*/\n!*.py\n"},
    {".gitignore": "*/\n"},
    {".gitignore": "*/\n!src/\n"},
    {".gitignore": "**/\n!src/\n!src/deep/\n"},
    {".gitignore": "/*\n!/src\n"},
    {".gitignore": "\\#hash\n\\!bang\n"},
    {".gitignore": "# a comment\n#hash\n"},
    {".gitignore": "trail\\ \n"},
    {".gitignore": "trail   \n"},
    {".gitignore": "x y.txt\n"},
    {".gitignore": "f[1].txt\n"},
    {".gitignore": "f\\[1\\].txt\n"},
    {".gitignore": "[a-c].log\n"},
    {".gitignore": "[!a].log\n"},
    {".gitignore": "[^a].log\n"},
    {".gitignore": "[[:alpha:]].log\n"},
    {".gitignore": "[[:digit:][:lower:]].log\n[^[:alpha:]]hash\n[:alph:].log\n"},
    {".gitignore": "?.log\n"},
    {".gitignore": "src/?.log\n"},
    {".gitignore": "back\\\\slash\n"},
    {".gitignore": "*.csv\r\n!one.csv\r\n"},
    {".gitignore": "ünï.txt\n"},
    {".gitignore": "/\n//\n!\n\n"},
    {".gitignore": "data/\n", "data/.gitignore": "!one.csv\n"},
    {".gitignore": "data/*\n", "data/.gitignore": "!one.csv\n"},
    {".gitignore": "*.log\n", "src/.gitignore": "!a.log\n", "src/deep/.gitignore": "er/b.log\n"},
    {"src/.gitignore": "/a.log\ndeep\n"},
    {"src/.gitignore": "*\n!.gitignore\n"},
    {".gitignore": "*.log\n!src/\n!docs\n"},
    {".gitignore": "[\n[a\na]\n"},
    {".gitignore": "src/a*/1\nsrc/*/2\n"},
    {".gitignore": "**/er/**\n"},
    {".gitignore": "a/**/b\n**\n!**/\n!data/**\n"},
    {".gitignore": "/src/deep/er/\n"},
    {".git/info/exclude": "*.log\nfoo\n", ".gitignore": "!b.log\n"},
]  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    write(tmp_path, dict.fromkeys(TREE, "x"))
    return tmp_path


@pytest.mark.parametrize("files", TABLE, ids=lambda files: " ".join(map(repr, files.values())))
def test_a_table_of_ignore_files_is_read_as_git_reads_it(repository: Path, files: dict[str, str]) -> None:
    write(repository, files)
    assert ours(repository) == gits_choice(repository)


@pytest.mark.parametrize("sub", ["src", "docs", "src/deep"])
@pytest.mark.parametrize(
    "files",
    [
        {".gitignore": "*.log\n/foo\n/src/foo\n"},
        {".gitignore": "deep/er\n"},
        {".gitignore": "src/deep/er/*.txt\n", "src/.gitignore": "b.log\n"},
        {".gitignore": "/src/*\n!/src/deep\n", ".git/info/exclude": "*.txt\n"},
    ],
)
def test_a_folder_inside_a_repository_obeys_the_files_above_it(
    repository: Path, files: dict[str, str], sub: str
) -> None:
    write(repository, files)
    assert ours(repository / sub) == gits_choice(repository / sub)


def test_a_folder_that_the_repository_ignores_is_sent_nevertheless(repository: Path) -> None:
    write(repository, {".gitignore": "/src/\n*.log\n"})
    assert gits_choice(repository / "src") == []
    assert "a.py" in ours(repository / "src")


WORDS = st.sampled_from(["a", "b", "ab", "a.py", "*", "**", "?", "*.py", "[ab]", "[!a]", "a*", "*b"])
PATTERNS = st.builds(
    lambda negated, rooted, words, folder: (
        ("!" if negated else "") + ("/" if rooted else "") + "/".join(words) + folder
    ),
    st.booleans(),
    st.booleans(),
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
)
NAMES = st.lists(st.sampled_from(["a", "b", "ab", "a.py", "c"]), min_size=1, max_size=4).map("/".join)


@pytest.fixture(scope="module")
def one_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q")
    return folder


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(
    names=st.sets(NAMES, min_size=1, max_size=8),
    top=st.lists(PATTERNS, max_size=4),
    nested=st.lists(PATTERNS, max_size=3),
)
def test_any_rules_on_any_tree_are_read_as_git_reads_them(
    one_repository: Path, names: set[str], top: list[str], nested: list[str]
) -> None:
    folder = one_repository
    for entry in folder.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name in sorted(names):
        path = folder / name
        if not any(parent.is_file() for parent in path.parents) and not path.exists():
            write(folder, {name: "x"})
    write(folder, {".gitignore": "\n".join(top)})
    if (folder / "a").is_dir():
        write(folder, {"a/.gitignore": "\n".join(nested)})
    assert ours(folder) == gits_choice(folder)


def test_our_own_ignore_file_at_the_top_switches_gits_off(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", "a.log": "", "b.bin": "", "sub/c.log": "", ".gitignore": "*.log\n"})
    write(tmp_path, {"sub/.gitignore": "*\n", ".runyardignore": "*.bin\n"})
    assert ours(tmp_path) == [".gitignore", ".runyardignore", "a.log", "a.py", "sub/.gitignore", "sub/c.log"]


def test_our_own_ignore_file_further_down_replaces_gits_there(tmp_path: Path) -> None:
    write(tmp_path, {"a.log": "", "sub/b.log": "", "sub/c.txt": "", ".gitignore": "*.log\n"})
    write(tmp_path, {"sub/.gitignore": "*.txt\n", "sub/.runyardignore": "!b.log\n"})
    assert ours(tmp_path) == [".gitignore", "sub/.gitignore", "sub/.runyardignore", "sub/b.log", "sub/c.txt"]


def test_some_names_are_never_sent(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", ".git/config": "", "__pycache__/a.pyc": "", "sub/__pycache__/b.pyc": ""})
    write(tmp_path, {".runyard/token": "", "env/pyvenv.cfg": "", "env/lib/x.py": "", ".runyardignore": "!.runyard\n"})
    assert ours(tmp_path) == [".runyardignore", "a.py"]


def test_what_was_downloaded_is_not_sent_again(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", "training-a1B2c3D4e/learner-1/training-log.txt": "", "training-materials/b.py": ""})
    found = walk(tmp_path)
    assert [each.name for each in found.files] == ["a.py", "training-materials/b.py"]
    assert list(found.notices) == ["left out training-a1B2c3D4e: it holds what a run has stored"]


def test_links_are_followed_inside_the_folder_alone(tmp_path: Path) -> None:
    top, outside = tmp_path / "top", tmp_path / "outside"
    write(top, {"real/a.py": "x", "b.py": "y"})
    write(outside, {"secret.txt": "s"})
    (top / "alias").symlink_to("real")
    (top / "file").symlink_to("b.py")
    (top / "out").symlink_to(outside)
    (top / "nowhere").symlink_to("missing")
    (top / "real" / "loop").symlink_to("../real")
    found = walk(top)
    assert [each.name for each in found.files] == ["alias/a.py", "b.py", "file", "real/a.py"]
    assert sorted(notice.split(":")[0] for notice in found.notices) == [
        "left out alias/loop",
        "left out nowhere",
        "left out out",
        "left out real/loop",
    ]


def test_what_is_no_file_is_left_out_with_a_notice(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": ""})
    os.mkfifo(tmp_path / "pipe")
    found = walk(tmp_path)
    assert [each.name for each in found.files] == ["a.py"]
    assert found.notices == ("left out pipe: it is no regular file",)


def test_a_link_into_the_repositorys_own_folder_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", ".git/config": "token"})
    (tmp_path / "config").symlink_to(".git/config")
    assert ours(tmp_path) == ["a.py"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PackingError, match="cannot be read"):
        walk(tmp_path / "missing")
