"""What the benches share: a server of their own for the time of a measurement, xargs as the yardstick, the table."""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from tools.environment import program
from tools.free_port import free_port
from tools.runyard_cli import Runyard
from tools.screen import table


@contextlib.contextmanager
def server_of_its_own(fake_gpus: int) -> Iterator[Runyard]:
    """An installation in a temporary home with pretended GPUs, all of which its account may use; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder:
        runyard = Runyard(Path(folder))
        runyard.ask("up", "--detach", "--fake-gpus", str(fake_gpus), "--port", str(free_port()))
        try:
            yield runyard
        finally:
            runyard.ask("down", "--cancel-runs")


def timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def xargs(script: Path, count: int, at_once: int) -> None:
    """The yardstick: the script `count` times, each in a process of its own, with the interpreter that runs get."""
    numbers = "\n".join(str(number) for number in range(count))
    subprocess.run(
        ["xargs", f"-P{at_once}", "-n1", str(program("python")), str(script), "--n"],
        input=numbers,
        stdout=subprocess.DEVNULL,
        text=True,
        check=True,
    )


def spread(values: Sequence[float], digits: int = 2) -> list[str]:
    """Median, least and most."""
    return [f"{value:.{digits}f}" for value in (median(values), min(values), max(values))]


def comparison(names: tuple[str, str], ours: Sequence[float], yardstick: Sequence[float]) -> str:
    """The table: seconds of both, and the ratio of each pair that was measured in turn."""
    ratios = [mine / other for mine, other in zip(ours, yardstick, strict=True)]
    rows = [
        [names[0], *spread(ours), "s"],
        [names[1], *spread(yardstick), "s"],
        ["ratio", *spread(ratios), "x"],
    ]
    return table(["", "median", "least", "most", ""], rows)
