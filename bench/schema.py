"""Schemathesis over the whole OpenAPI document, with a real server: ``python -m bench.schema --minutes 5``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hostile.yard import running_yard

# Left out, each with its reason:
# positive_data_acceptance: a manifest is YAML in a JSON text, a bucket and a time have rules, one of two fields is
#   wanted:
#   all refused with 422 and a sentence, which JSON Schema has no word for.
# ensure_resource_availability: `POST /tokens` answers an id, and the token, which is no address: Schemathesis takes
#   the field for the parameter of that name.
LEFT_OUT = "positive_data_acceptance,ensure_resource_availability"


def examine(folder: Path, seconds: int, examples: int) -> tuple[int, str]:
    """Run all checks but those that are left out: the exit code, and what was told."""
    with running_yard(folder) as yard:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                f"http://127.0.0.1:{yard.port}/api/openapi.json",
                f"--header=Authorization: Bearer {yard.tokens['owner']}",
                f"--max-examples={examples}",
                f"--max-time={seconds}",
                f"--exclude-checks={LEFT_OUT}",
                "--request-timeout=20",
                "--seed=1",
                "--no-color",
                "--warnings=off",
            ],
            cwd=folder,  # where its own files go
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
