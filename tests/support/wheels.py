"""Wheels made by hand (PEP 427), in a folder that pip takes packages from without any network."""

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str] | None = None,
    *,
    requires: tuple[str, ...] = (),
    scripts: Mapping[str, str] | None = None,
) -> Path:
    """A wheel of pure Python with these files; without any, with a module of its name that tells its version.
    ``scripts``: console scripts, name -> ``module:function``."""
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    module = {f"{plain}/__init__.py": f"__version__ = {version!r}\n"}
    held = {**({} if files and any(path.startswith(plain) for path in files) else module), **(files or {})}
    held[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    held[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if scripts:
        lines = "".join(f"{script} = {target}\n" for script, target in scripts.items())
        held[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}"
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in held.items())
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{plain}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in (held | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            archive.writestr(path, text)
    return target


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def only_from(folder: Path) -> list[str]:
    """The words for pip to take packages from that folder alone."""
    return ["--no-index", "--find-links", str(folder)]
