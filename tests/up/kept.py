"""A small child of a supervisor, which notes what it is and what happens to it.

``python -m tests.up.kept NAME FOLDER``, or :func:`main` in a fork.
"""

import json
import os
import random
import secrets
import signal
import ssl
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from runyard.up.forking import descriptors


def main(words: Sequence[str]) -> int:
    """Live until SIGTERM; ``quick`` ones end at once, ``broken`` ones by an error."""
    name, folder = words[0], Path(words[1])

    def note(what: str) -> None:
        with (folder / "notes").open("a") as file:
            file.write(f"{what} {name} {os.getpid()}\n")

    def stop(_number: int, _frame: object) -> None:
        note("stopped")
        sys.exit(0)

    handlers = [str(signal.getsignal(each)) for each in (signal.SIGTERM, signal.SIGCHLD)]
    signal.signal(signal.SIGTERM, stop)
    told = {
        "chance": [random.random(), secrets.token_hex(8), ssl.RAND_bytes(8).hex(), str(uuid.uuid4())],
        "descriptors": sorted(descriptors()),
        "handlers": handlers,
        "blocked": [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "words": sys.argv[1:],
        "command": Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode().split("\0"),
        "comm": Path("/proc/self/comm").read_text().strip(),
    }
    (folder / f"{name}.{os.getpid()}.json").write_text(json.dumps(told))
    sys.stdout.write(f"{name} prints\n")
    note("began")
    if name.startswith("quick"):
        return 3
    if name == "broken":
        raise ValueError("what broke it")
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
