"""A supervisor of small children, to be run as a process of its own: its signals are the process's."""

import json
import sys
from pathlib import Path

from runyard.up.supervise import Child, Supervisor

CHILD = """
import os, signal, sys, time
name, folder = sys.argv[1], sys.argv[2]
def note(what):
    with open(os.path.join(folder, "notes"), "a") as file:
        file.write(f"{what} {name} {os.getpid()}\\n")
def stop(number, frame):
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note("began")
if name.startswith("quick"):
    sys.exit(3)
while True:
    signal.pause()
"""


def main() -> None:
    """Keep the children named on the command line; their notes go to a folder."""
    folder = Path(sys.argv[1])
    children = []
    for name in sys.argv[2:]:
        argv = ["/nowhere/program"] if name == "missing" else [sys.executable, "-c", CHILD, name, str(folder)]
        children.append(Child(name, argv, folder / f"{name}.log"))
    Supervisor(children).run()
    (folder / "deaths").write_text(json.dumps({child.name: child.deaths for child in children}))


if __name__ == "__main__":
    main()
