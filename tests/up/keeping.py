"""A supervisor of small children, to be run as a process of its own: its signals are the process's."""

import json
import sys
from pathlib import Path

from runyard.up.forking import Image
from runyard.up.supervise import Child, Supervisor


def main() -> None:
    """Keep the children named on the command line, as forks or by interpreters of their own; their notes go to a
    folder."""
    folder, way = Path(sys.argv[1]), sys.argv[2]
    children: list[Child] = []
    for name in sys.argv[3:]:
        log = folder / f"{name}.log" if name != "missing" else folder / "nowhere" / "log"
        image = Image("tests.up.kept") if way == "forked" else None
        children.append(Child(name, "tests.up.kept", [name, str(folder)], log, image=image))
    Supervisor(children).run()
    (folder / "deaths").write_text(json.dumps({child.name: child.deaths for child in children}))


if __name__ == "__main__":
    main()
