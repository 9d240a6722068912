"""An environment of somebody else's (``runyard.python``): found and described by its files alone, never executed here.

A virtual environment is known by its ``pyvenv.cfg`` (docs.python.org/3/library/venv.html), a conda environment by its
``conda-meta``, an interpreter by the standard library beside it.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import msgspec

from runyard.node.environments.faults import EnvironmentFault
from runyard.node.environments.interpreter import Interpreter, calling_folder

SYSTEM_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin")
_PARTS = ("bin", "lib", "lib64", "libexec", "include", "share")
"""What of an interpreter's prefix its programs need: the prefix itself may be somebody's home."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def find_existing(wanted: str, allowed: Sequence[str], root: str) -> Interpreter:
    """The interpreter that a path or a name means. ``allowed``: the operator's globs; ``root``: a folder of the node's
    where it may put something. Raises :class:`EnvironmentFault`."""
    executable = _by_path(wanted) if "/" in wanted else _by_name(wanted)
    prefix = os.path.dirname(os.path.dirname(executable))
    if not any(fnmatchcase(path, pattern) for pattern in allowed for path in (executable, prefix)):
        raise EnvironmentFault(
            f"{executable} may not be used here: the operator allows {', '.join(allowed) or 'no environment'} (the "
            "setting `pythons`)."
        )
    if os.path.isfile(prefix + "/pyvenv.cfg"):
        return _virtual(executable, prefix, root)
    if os.path.isdir(prefix + "/conda-meta"):
        return _conda(executable, prefix, root)
    return _plain(executable, root)


# ----------------------------------------------------------------------------------------------------------- finding


def _by_path(wanted: str) -> str:
    path = os.path.normpath(os.path.expanduser(wanted) if wanted.startswith("~/") else wanted)
    if not os.path.isabs(path):
        raise EnvironmentFault(f"{wanted} is no whole path: write it from / on.")
    if os.path.isdir(path):
        inside = next((f"{path}/bin/{name}" for name in ("python", "python3") if _runs(f"{path}/bin/{name}")), None)
        if inside is None:
            raise EnvironmentFault(f"{path} is a folder of this machine, but has no bin/python: it is no environment.")
        return inside
    if not os.path.exists(path):
        raise EnvironmentFault(
            f"This machine has no {path}: name an interpreter that is there, or the folder of a virtual or conda "
            "environment."
        )
    if not _runs(path) or not os.path.basename(path).startswith(("python", "pypy")):
        raise EnvironmentFault(f"{path} is no interpreter of Python.")
    return path


def _by_name(wanted: str) -> str:
    """A conda environment of the node's user, or an interpreter on the paths of programs."""
    if _NAME.fullmatch(wanted) is None:
        raise EnvironmentFault(f"{wanted!r} is no name of an environment.")
    known = list(_conda_folders())
    for folder in known:
        if os.path.basename(folder) == wanted and _runs(f"{folder}/bin/python"):
            return f"{folder}/bin/python"
    for path in _programs(wanted):
        return path
    names = sorted({os.path.basename(folder) for folder in known})
    conda = f"; its conda environments are {', '.join(names)}" if names else ""
    raise EnvironmentFault(
        f"This machine knows no environment and no interpreter {wanted!r}{conda}. Name a path, or register it: "
        f"`runyard frameworks add {wanted} --python PATH`."
    )


def _conda_folders() -> Iterator[str]:
    """The environments that conda has noted for the node's user (``~/.conda/environments.txt``, one a line)."""
    try:
        with open(os.path.expanduser("~/.conda/environments.txt"), encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    yield from (line.strip() for line in lines if line.strip().startswith("/"))


def _programs(name: str) -> Iterator[str]:
    """Interpreters of a name, on the node's own ``PATH`` first. What pyenv puts there are scripts, which stand for the
    versions beside them."""
    folders = [*os.environ.get("PATH", "").split(":"), *SYSTEM_FOLDERS]
    for folder in dict.fromkeys(folder for folder in folders if os.path.isabs(folder)):
        path = os.path.join(folder, name)
        if _runs(path) and _is_binary(path):
            yield path
        elif os.path.basename(folder) == "shims":
            yield from sorted(glob.glob(f"{os.path.dirname(folder)}/versions/*/bin/{name}"), reverse=True)


def _runs(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _is_binary(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


# -------------------------------------------------------------------------------------------------------- describing


def _virtual(executable: str, prefix: str, root: str) -> Interpreter:
    config = read_config(prefix + "/pyvenv.cfg")
    real = os.path.realpath(executable)
    homes = [path for path in (config.get("home", ""), os.path.dirname(real)) if os.path.isabs(path)]
    version = _version(config.get("version") or config.get("version_info") or "") or _version_of(prefix, real)
    sites = _sites(prefix, version)
    visible = [prefix]
    for home in homes:
        base = os.path.dirname(home)
        visible += _base_paths(base)
        if config.get("include-system-site-packages", "").lower() == "true":
            sites += [site for site in _sites(base, version) if site not in sites]
    return _described(executable, prefix, version, sites, visible, root)


def _conda(executable: str, prefix: str, root: str) -> Interpreter:
    records = glob.glob(prefix + "/conda-meta/python-[0-9]*.json")
    version = _version(os.path.basename(records[0]).removeprefix("python-")) if records else ""
    version = version or _version_of(prefix, os.path.realpath(executable))
    found = _described(executable, prefix, version, _sites(prefix, version), [prefix], root)
    return msgspec.structs.replace(found, conda=True)


def _plain(executable: str, root: str) -> Interpreter:
    real = os.path.realpath(executable)
    base = os.path.dirname(os.path.dirname(real))
    paths = _base_paths(base)
    if not paths:
        raise EnvironmentFault(
            f"{executable} is no interpreter that can be used here: it has no Python's standard library beside it. "
            "Name the folder of a virtual or conda environment."
        )
    version = _version_of(base, real)
    return _described(executable, None, version, _sites(base, version), paths, root)


def _described(
    executable: str, prefix: str | None, version: str, sites: Sequence[str], visible: Sequence[str], root: str
) -> Interpreter:
    """Where its folder's ``python`` is another one, a folder of the node's has one that calls it."""
    folder = os.path.dirname(executable)
    real = os.path.realpath(executable)
    needed = [*visible]
    if any(os.path.realpath(f"{folder}/{name}") != real for name in ("python", "python3")):
        key = hashlib.sha256(executable.encode()).hexdigest()[:16]
        own = calling_folder(f"{root}/bin-{key}", executable)
        needed.append(own)
        folder = f"{own}:{folder}"
    return Interpreter(
        folder=folder,
        visible=tuple(path for path in dict.fromkeys(needed) if os.path.exists(path)),
        executable=executable,
        python=version,
        sites=tuple(sites),
        prefix=prefix,
        relies_on=(executable,),
    )


def read_config(path: str) -> dict[str, str]:
    """The ``key = value`` lines of a ``pyvenv.cfg``."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _base_paths(base: str) -> list[str]:
    """What a program needs of an interpreter's prefix; nothing where there is no standard library of Python."""
    if not glob.glob(glob.escape(base) + "/lib*/python3*/os.py"):
        return []
    return [f"{base}/{part}" for part in _PARTS if os.path.isdir(f"{base}/{part}")]


def _sites(prefix: str, version: str) -> list[str]:
    """Where the packages of a prefix lie."""
    major_minor = ".".join(version.split(".")[:2])
    places = (
        f"lib/python{major_minor}/site-packages",
        f"lib64/python{major_minor}/site-packages",
        f"lib/python{major_minor}/dist-packages",
        f"local/lib/python{major_minor}/dist-packages",
        "lib/python3/dist-packages",
    )
    found = [f"{prefix}/{place}" for place in places if os.path.isdir(f"{prefix}/{place}")]
    # lib64 is often a link to lib
    return list({os.path.realpath(path): path for path in reversed(found)}.values())[::-1]


def _version_of(base: str, executable: str) -> str:
    """Major and minor version of a prefix's Python, from the interpreter's name or the folder of its library."""
    named = _version(os.path.basename(executable).removeprefix("python"))
    if "." in named:
        return named
    found = sorted(glob.glob(glob.escape(base) + "/lib*/python3*/os.py"), key=_numbers)
    return _version(os.path.basename(os.path.dirname(found[-1])).removeprefix("python")) if found else ""


def _numbers(path: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", os.path.basename(os.path.dirname(path))))


def _version(text: str) -> str:
    match = re.match(r"\d+(?:\.\d+){0,2}", text)
    return match[0] if match else ""
