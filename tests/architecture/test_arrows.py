"""Imports point inward: the contracts stand in pyproject.toml, one a sentence."""

import os
import subprocess
import sys
from pathlib import Path

from tests.architecture.sources import ROOT

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint(config: Path, folder: Path, package_parent: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT_IMPORTS), "--config", str(config), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(package_parent), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_arrow_points_downwards() -> None:
    result = lint(ROOT / "pyproject.toml", ROOT, ROOT / "src")
    assert result.returncode == 0, result.stdout + result.stderr


def broken_contracts(tmp_path: Path, importer: str, imported: str) -> str:
    """What lint-imports says of a package of our name that holds one forbidden import, by our own contracts."""
    for module in (importer, imported):
        path = tmp_path / "runyard"
        for part in module.split("."):
            path = path / part
            path.mkdir(parents=True, exist_ok=True)
            (path / "__init__.py").touch()
    (tmp_path / "runyard" / "__init__.py").touch()
    target = tmp_path / "runyard" / Path(*importer.split(".")) / "__init__.py"
    target.write_text(f"import runyard.{imported}\n", encoding="utf-8")
    result = lint(ROOT / "pyproject.toml", tmp_path, tmp_path)
    return "\n".join(line for line in result.stdout.splitlines() if line.rstrip().endswith("BROKEN"))


def test_the_contracts_catch_what_they_are_for(tmp_path: Path) -> None:
    forbidden = [
        ("core", "ports"),
        ("engine", "adapters.sql"),
        ("engine", "wire"),
        ("manifest", "engine"),
        ("adapters.sql", "adapters.node"),
        ("adapters.sql", "api"),
        ("api", "adapters.sql"),
        ("api", "server"),
        ("node", "engine"),
        ("node", "manifest"),
        ("node", "adapters.sql"),
        ("wire", "stores"),
        ("client", "manifest"),
        ("client", "wire"),
        ("client", "cli"),
        ("api", "client"),
        ("cli", "engine"),
        ("cli", "server"),
        ("cli", "up"),
        ("shim", "core"),
        ("recorder", "client"),
        ("engine", "testing"),
        ("somewhere_new", "core"),
    ]
    missed = [
        f"{importer} -> {imported}"
        for number, (importer, imported) in enumerate(forbidden)
        if not broken_contracts(tmp_path / str(number), importer, imported)
    ]
    assert missed == []


def test_the_contracts_let_pass_what_they_should(tmp_path: Path) -> None:
    allowed = [
        ("server", "adapters.sql"),
        ("api", "engine"),
        ("api", "wire"),
        ("adapters.objects", "stores"),
        ("adapters.node", "wire"),
        ("engine", "ports"),
        ("ports", "core"),
        ("node", "stores"),
        ("stores", "wire"),
        ("cli", "client"),
        ("up", "cli"),
        ("client", "core"),
        ("testing", "engine"),
    ]
    refused = [
        f"{importer} -> {imported}: {broken}"
        for number, (importer, imported) in enumerate(allowed)
        if (broken := broken_contracts(tmp_path / str(number), importer, imported))
    ]
    assert refused == []
