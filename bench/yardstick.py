"""What the benches share: a server of their own for the time of a measurement, xargs as the yardstick, the table."""

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from tools.environment import clean_environment, program
from tools.free_port import free_port
from tools.runyard_cli import CommandFailed, Runyard


@contextlib.contextmanager
def server_of_its_own(fake_gpus: int, settings: Mapping[str, object] | None = None) -> Iterator[Runyard]:
    """An installation in a temporary home with pretended GPUs, all of which its account may use; gone afterwards.
    ``settings``: what its ``settings.toml`` holds."""
    with _started(["--fake-gpus", str(fake_gpus)], settings or {}) as runyard:
        yield runyard


@contextlib.contextmanager
def real_gpus() -> Iterator[Runyard]:
    """The same, on the GPUs of this machine."""
    with _started(["--gpus", "all"], {}) as runyard:
        yield runyard


@contextlib.contextmanager
def _started(options: Sequence[str], settings: Mapping[str, object]) -> Iterator[Runyard]:
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder:
        runyard = Runyard(Path(folder))
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
        (Path(folder) / "settings.toml").write_text("".join(lines), encoding="utf-8")
        try:
            runyard.ask("up", "--detach", *options, "--port", str(free_port()))
            yield runyard
        finally:
            stop(runyard)


def stop(runyard: Runyard) -> None:
    """End an installation, even one that never answered; nothing of it may be left for the next measure."""
    try:
        runyard.ask("down", "--cancel-runs")
    except CommandFailed:
        runyard.ask("down")


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def xargs(script: Path, count: int, at_once: int, *words: str, env: Mapping[str, str] | None = None) -> str:
    """The yardstick: the script `count` times, each in a process of its own, with the interpreter that runs get, and
    after ``words`` its number as ``--n``; what they wrote."""
    numbers = "\n".join(str(number) for number in range(count))
    done = subprocess.run(
        ["xargs", f"-P{at_once}", "-n1", str(program("python")), str(script), *words, "--n"],
        input=numbers,
        env={**plain_environment(), **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def plain_environment() -> dict[str, str]:
    """As a run's: nothing that changes how Python starts or prints. (Compiled files are there for both.)"""
    return {name: value for name, value in clean_environment().items() if not name.startswith("PYTHON")}


def spread(values: Sequence[float], digits: int = 2) -> list[str]:
    """Median, least and most."""
    return [f"{value:.{digits}f}" for value in (median(values), min(values), max(values))]
