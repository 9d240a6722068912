"""Lines of one run's log a second while `runyard logs --follow` reads along, against `python -u` of the same script to
a bare file.

The program takes its own time, from its first line to its last. Both are measured in turns, several times; every line
must have reached the follower. As much memory as ours puts into files is touched before either
(`bench.machine.touch_memory`), and what was written before is on the disk. Beside it: processor time of server, node
and follower for each gigabyte.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

from bench.machine import touch_memory
from bench.values import Row, number, row
from bench.yardstick import server_of_its_own
from tools.environment import program
from tools.runyard_cli import Runyard
from tools.screen import table

MODEL = Path(__file__).resolve().parent / "models" / "chatty"
LINE = 100
_COPIES = 4
"""Files of the size of the log: the program's, the server's, the follower's, and one for what is in between."""
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Followed:
    """One run that was followed: lines a second by the program's own clock, seconds of processor time of the server, of
    the node and of the follower, and seconds from the program's last line to the follower's end."""

    rate: float
    server_s: float
    node_s: float
    follower_s: float
    lag_s: float


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processor_s(pid: int) -> float:
    """What a process has used of the processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def service(runyard: Runyard) -> tuple[int, int]:
    """The processes of the server and of the node."""
    supervisor = json.loads((runyard.home / "up.json").read_text())["pid"]
    found: dict[str, int] = {}
    for pid in children(supervisor):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        found["node" if "runyard.node" in words else "server"] = pid
    return found["server"], found["node"]


def bare(lines: int, folder: Path) -> float:
    """Lines a second of `python -u` to a file."""
    path = folder / "bare.txt"
    _begin(lines, folder)
    with path.open("wb") as file:
        subprocess.run([str(program("python")), "-u", str(MODEL / "chatty.py"), str(lines)], stdout=file, check=True)
    return lines / _took(path)


def _begin(lines: int, folder: Path) -> None:
    """Have either begin on the same machine: the disk idle, and pages there for the files of a followed run."""
    os.sync()
    touch_memory(folder, _COPIES * lines * LINE)


def _took(path: Path) -> float:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 200))
        return next(float(line.split()[1]) for line in file.read().decode().splitlines() if line.startswith("took"))


def _whole(path: Path, lines: int) -> None:
    """Raises ``SystemExit`` unless every line is there once, in order."""
    with path.open("rb") as file:
        for number in range(lines):
            line = file.readline()
            if len(line) != LINE or int(line[:10]) != number:
                raise SystemExit(f"the follower has no line {number}, but {line[:60]!r}")


def followed(runyard: Runyard, lines: int, folder: Path) -> Followed:
    """One run with a follower from its submission on."""
    pids = service(runyard)
    path = folder / "followed.txt"
    _begin(lines, folder)
    told = runyard.ask_record("train", str(MODEL), str(MODEL / "manifest.yml"), "--set", f"lines={lines}")
    (run,) = cast("list[str]", told["ids"])
    before = [processor_s(pid) for pid in pids]
    with path.open("wb") as file:
        follower = subprocess.Popen(
            [str(program("runyard")), "logs", run, "--follow"],
            env=runyard.environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
        )
        _, status, usage = os.wait4(follower.pid, 0)
        follower.returncode = os.waitstatus_to_exitcode(status)
    ended = time.time()
    server_s, node_s = (processor_s(pid) - was for pid, was in zip(pids, before, strict=True))
    if follower.returncode != 0:
        raise SystemExit(f"the follower ended with {follower.returncode}")
    runyard.ask("wait", run)
    _whole(path, lines)
    finished = cast("str", runyard.ask_record("show", run)["finished_at"])
    return Followed(lines / _took(path), server_s, node_s, usage.ru_utime + usage.ru_stime, ended - _unix(finished))


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def rows_of(lines: int, pairs: list[tuple[float, Followed]]) -> list[Row]:
    """The figures of all pairs."""
    gigabytes = lines * LINE / 1e9
    ratios = [each.rate / bare_rate for bare_rate, each in pairs]
    service_s = [(each.server_s + each.node_s) / gigabytes for _, each in pairs]
    return [
        row("log lines of one run, followed, / python -u to a bare file", "x", ratios, ">= 0.95"),
        row("lines of the program, followed", "lines/s", [each.rate for _, each in pairs]),
        row("lines of python -u to a bare file", "lines/s", [rate for rate, _ in pairs]),
        row("processor time of server and node for each GB of log", "s", service_s),
        row("processor time of the follower for each GB", "s", [each.follower_s / gigabytes for _, each in pairs]),
        row("end of the program to end of the follower", "s", [each.lag_s for _, each in pairs]),
    ]


def main() -> None:
    """Print the table; ``--json`` writes the rows as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=3_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one pair, a tenth of the lines")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    if given.quick:
        given.lines, given.repeat = given.lines // 10, 1
    pairs: list[tuple[float, Followed]] = []
    with tempfile.TemporaryDirectory() as name, server_of_its_own(1) as runyard:
        folder = Path(name)
        followed(runyard, 1000, folder)  # not timed: the first run warms up what later ones find warm
        for _ in range(given.repeat):
            pairs.append((bare(given.lines, folder), followed(runyard, given.lines, folder)))
            told = pairs[-1][1]
            print(f"bare {pairs[-1][0]:,.0f} lines/s, followed {told.rate:,.0f} lines/s", flush=True)
    rows = rows_of(given.lines, pairs)
    print(table(["", "median", "least", "most", "", "target"], [_told(each) for each in rows]))
    if given.json is not None:
        given.json.write_text(json.dumps([each.document() for each in rows], indent=1) + "\n", encoding="utf-8")


def _told(found: Row) -> list[str]:
    return [found.measure, *map(number, (found.median, found.min, found.max)), found.unit, found.target]


if __name__ == "__main__":
    main()
