"""Schemathesis over the whole OpenAPI document, with a real server: ``python -m bench.schema --minutes 5``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.schema_hooks import BUCKET
from tests.hostile.yard import running_yard

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
"""Which checks are left out of which operations, each with its reason."""


def examine(folder: Path, seconds: int, examples: int) -> tuple[int, str]:
    """Run all checks: the exit code, and what was told."""
    with running_yard(folder) as yard:
        assert yard.call("PUT", f"/data/{BUCKET}/one.txt", b"1").status == 201
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                f"--config-file={CONFIGURATION}",
                "run",
                f"http://127.0.0.1:{yard.port}/api/openapi.json",
                f"--header=Authorization: Bearer {yard.tokens['owner']}",
                f"--max-examples={examples}",
                f"--max-time={seconds}",
                "--request-timeout=20",
                "--seed=1",
                "--no-color",
                "--warnings=off",
            ],
            cwd=folder,  # where its own files go
            env={**os.environ, "PYTHONPATH": str(CONFIGURATION.parents[1])},
            capture_output=True,
            text=True,
            timeout=seconds + 120,
            check=False,
        )
    return done.returncode, done.stdout + done.stderr


def main() -> int:
    """Exit code: that of Schemathesis, 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.schema", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runyard-schema-") as folder:
        code, told = examine(Path(folder), round(given.minutes * 60), 200)
    print(told)
    return code


if __name__ == "__main__":
    sys.exit(main())
