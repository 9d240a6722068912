"""One target under libFuzzer, which ends the process: ``python -m bench.fuzzing.one TARGET [OPTIONS] CORPUS...``."""

from __future__ import annotations

import sys

import atheris  # pyright: ignore[reportMissingImports]  # has no wheel for every Python

INSTRUMENTED = ["runyard.manifest", "runyard.node.unpack", "runyard.api.bodies", "runyard.api.files", "zipfile", "yaml"]

with atheris.instrument_imports(include=INSTRUMENTED):  # pyright: ignore[reportAttributeAccessIssue]  # a C module
    from bench.fuzzing.targets import TARGETS


def main() -> None:
    """Fuzz until libFuzzer's own limits; its exit code is not 0 after a crash."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
