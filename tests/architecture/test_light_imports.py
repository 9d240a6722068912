"""The client and the command line start fast: what they import must not load the server's libraries."""

import json
import subprocess
import sys

import pytest

HEAVY = [
    "alembic",
    "cryptography",
    "fastapi",
    "msgspec",
    "obstore",
    "pydantic",
    "pynvml",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "yaml",
]
PROBE = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps(sorted(set(sys.argv[2:]) & set(sys.modules))))
"""


def loaded(module: str) -> list[str]:
    """Which of the heavy libraries a fresh interpreter holds after importing the module."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE, module, *HEAVY], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("module", ["runyard", "runyard.client", "runyard.cli.main"])
def test_importing_loads_none_of_the_servers_libraries(module: str) -> None:
    assert loaded(module) == []


def test_the_probe_sees_what_is_loaded() -> None:
    assert loaded("yaml") == ["yaml"]
