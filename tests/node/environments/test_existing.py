"""Environments of others are found by their files, and never executed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runyard.node.environments.existing import find_existing
from runyard.node.environments.faults import EnvironmentFault

ALL = ("*",)
TRAP = "#!/bin/sh\ntouch {}\n"


def program(path: Path, text: str = "\x7fELF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def base(folder: Path, version: str = "3.9") -> Path:
    """An interpreter with the standard library beside it."""
    (folder / "lib" / f"python{version}" / "site-packages").mkdir(parents=True)
    (folder / "lib" / f"python{version}" / "os.py").touch()
    (folder / "secret").mkdir()
    python = program(folder / "bin" / f"python{version}")
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(python)
    return python


def virtual(folder: Path, home: Path, *, system: bool = False) -> Path:
    (folder / "lib" / "python3.9" / "site-packages").mkdir(parents=True)
    (folder / "bin").mkdir()
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(home / "bin" / "python3.9")
    (folder / "pyvenv.cfg").write_text(
        f"home = {home}/bin\ninclude-system-site-packages = {str(system).lower()}\nversion = 3.9.18\n"
    )
    return folder


def test_a_virtual_environment_with_what_it_stands_on(tmp_path: Path) -> None:
    base(tmp_path / "py")
    folder = virtual(tmp_path / "env", tmp_path / "py")
    for wanted in (folder, folder / "bin" / "python3", f"{folder}/bin/../"):
        found = find_existing(str(wanted), ALL, str(tmp_path))
        assert found.python == "3.9.18"
        assert found.prefix == str(folder)
        assert found.folder == f"{folder}/bin"
        assert found.sites == (f"{folder}/lib/python3.9/site-packages",)
        assert found.visible == (str(folder), f"{tmp_path}/py/bin", f"{tmp_path}/py/lib")
        assert found.variables() == {"VIRTUAL_ENV": str(folder)}
    shared = find_existing(str(virtual(tmp_path / "both", tmp_path / "py", system=True)), ALL, str(tmp_path))
    assert shared.sites[1:] == (f"{tmp_path}/py/lib/python3.9/site-packages",)


def test_a_conda_environment_by_folder_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base(tmp_path / "conda" / "envs" / "vision", "3.10")
    folder = tmp_path / "conda" / "envs" / "vision"
    (folder / "conda-meta").mkdir()
    (folder / "conda-meta" / "python-3.10.14-hd12c33a_0_cpython.json").write_text("{}")
    (tmp_path / "home" / ".conda").mkdir(parents=True)
    (tmp_path / "home" / ".conda" / "environments.txt").write_text(f"/gone\n{folder}\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for wanted in (str(folder), "vision"):
        found = find_existing(wanted, ALL, str(tmp_path))
        assert (found.python, found.prefix, found.conda) == ("3.10.14", str(folder), True)
        assert found.variables() == {"CONDA_PREFIX": str(folder)}
        assert found.visible == (str(folder),)
    with pytest.raises(EnvironmentFault, match="its conda environments are gone, vision"):
        find_existing("speech", ALL, str(tmp_path))


def test_an_interpreter_of_another_name_gets_a_folder_in_which_it_is_python(tmp_path: Path) -> None:
    python = base(tmp_path / "py")
    other = program(tmp_path / "py" / "bin" / "python3.8")
    found = find_existing(str(other), ALL, str(tmp_path / "node"))
    calling, _, rest = found.folder.partition(":")
    assert rest == f"{tmp_path}/py/bin"
    assert f'exec "{other}"' in (Path(calling) / "python").read_text()
    assert found.python == "3.8"
    assert calling in found.visible
    plain = find_existing(str(python), ALL, str(tmp_path / "node"))
    assert plain.folder == f"{tmp_path}/py/bin"
    assert plain.visible == (f"{tmp_path}/py/bin", f"{tmp_path}/py/lib"), "the prefix may be somebody's home"


def test_a_name_is_looked_for_on_the_path_and_behind_pyenvs_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base(tmp_path / "pyenv" / "versions" / "3.9.18")
    program(tmp_path / "pyenv" / "shims" / "python3.9", "#!/usr/bin/env bash\nexec pyenv\n")
    monkeypatch.setenv("PATH", f"relative:{tmp_path}/pyenv/shims")
    found = find_existing("python3.9", ALL, str(tmp_path))
    assert found.executable == f"{tmp_path}/pyenv/versions/3.9.18/bin/python3.9"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("{}/none", "This machine has no {}/none: name an interpreter"),
        ("{}/empty", "has no bin/python: it is no environment"),
        ("{}/file/python", "is no interpreter of Python"),
        ("{}/py/bin/bash", "is no interpreter of Python"),
        ("{}/alone/bin/python", "no Python's standard library beside it"),
        ("no-such-name", "knows no environment and no interpreter 'no-such-name'"),
        ("a name", "is no name of an environment"),
        ("env/bin/python", "is no whole path"),
    ],
)
def test_refusals(tmp_path: Path, wanted: str, words: str) -> None:
    base(tmp_path / "py")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "python").touch()
    program(tmp_path / "py" / "bin" / "bash")
    program(tmp_path / "alone" / "bin" / "python")
    with pytest.raises(EnvironmentFault) as fault:
        find_existing(wanted.format(tmp_path), ALL, str(tmp_path))
    assert words.format(tmp_path) in fault.value.detail


def test_the_operator_says_which_may_be_used(tmp_path: Path) -> None:
    base(tmp_path / "py")
    inside = virtual(tmp_path / "open" / "env", tmp_path / "py")
    outside = virtual(tmp_path / "closed", tmp_path / "py")
    allowed = (f"{tmp_path}/open/*",)
    assert find_existing(str(inside), allowed, str(tmp_path)).prefix == str(inside)
    for wanted in (outside, f"{tmp_path}/open/../closed/bin/python"):
        with pytest.raises(EnvironmentFault, match="may not be used here: the operator allows"):
            find_existing(str(wanted), allowed, str(tmp_path))
    with pytest.raises(EnvironmentFault, match="the operator allows"):
        find_existing(str(inside), ("",), str(tmp_path))


def test_nothing_of_it_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    folder = tmp_path / "env"
    program(folder / "bin" / "python", TRAP.format(marker))
    (folder / "bin" / "python3").symlink_to("python")
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    site = folder / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (site / "trap.pth").write_text(f"import os; os.system('touch {marker}')\n")
    assert find_existing(str(folder), ALL, str(tmp_path)).python == "3.11.2"
    assert not marker.exists()


def test_a_real_virtual_environment(tmp_path: Path) -> None:
    folder = tmp_path / "real"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    found = find_existing(str(folder), ALL, str(tmp_path))
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert [os.path.isdir(site) for site in found.sites] == [True]
    assert any(os.path.realpath(sys.executable).startswith(path) for path in found.visible)
