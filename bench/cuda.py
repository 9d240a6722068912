"""On real GPUs: a program forked warm beside one started fresh and beside a bare interpreter, in turns.

``python -m bench.cuda --json FILE``, on a machine with an NVIDIA GPU and a CUDA build of PyTorch. What it tells: from
the answer of the POST to the end of the first training step on the GPU, where that time goes, how long short runs one
after the other on one GPU take beside ``xargs``, and whether all of them learnt the same, to the last bit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.machine import boottime_ns
from bench.values import Row, check, number, row
from bench.yard import PROGRAMS, Yard, manifest, parameters
from bench.yardstick import plain_environment, real_gpus, timed, xargs
from tools.environment import program

MODEL = PROGRAMS / "on_gpu"
SCRIPT = MODEL / "on_gpu.py"


@dataclass(frozen=True, slots=True)
class Start:
    """One run, ms: from its beginning (the answer of the POST, or the spawn) to the first line, the end of the imports,
    the model on the GPU, the end of the first step; and what it learnt."""

    first_line: float
    imported: float
    ready: float
    first_step: float
    digest: str
    way: str


def start_of(began: int, told: dict[str, object], way: str) -> Start:
    check(told["unused_before"] is True, "CUDA was in use before the program asked for it")
    check(told["devices"] == 1, f"the program sees {told['devices']} devices, and was given one")
    first_line, imported, ready, first_step = (
        (int(str(told[key])) - began) / 1e6 for key in ("first_line", "imported", "device_ready", "first_step")
    )
    return Start(first_line, imported, ready, first_step, str(told["digest"]), way)


def ours(yard: Yard, text: str) -> Start:
    batch = yard.run(MODEL, text, [{"n": 0}])
    return start_of(batch.accepted, yard.told(batch.ids[0]), next(iter(batch.ways.values())))


def bare() -> Start:
    began = boottime_ns()
    done = subprocess.run(
        [str(program("python")), str(SCRIPT)],
        env={**plain_environment(), "CUDA_VISIBLE_DEVICES": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return start_of(began, json.loads(done.stdout.splitlines()[-1]), "bare")


def starts(yard: Yard, times: int) -> tuple[list[Start], list[Start], list[Start]]:
    """Warm, fresh (exec) and bare, in turns."""
    warm_text, exec_text = manifest("on_gpu"), manifest("on_gpu", warm="off")
    yard.warmed(MODEL, warm_text, {"n": 0})
    found: tuple[list[Start], list[Start], list[Start]] = ([], [], [])
    for _ in range(times):
        for into, one in zip(found, (ours(yard, warm_text), ours(yard, exec_text), bare()), strict=True):
            into.append(one)
    check({each.way for each in found[0]} == {"warm"}, f"started as {[each.way for each in found[0]]}, wanted warm")
    check({each.way for each in found[1]} == {"exec"}, f"started as {[each.way for each in found[1]]}, wanted exec")
    digests = {each.digest for each in (*found[0], *found[1], *found[2])}
    check(len(digests) == 1, f"warm, exec and bare learnt different things: {digests}")
    return found


def parts(found: Sequence[Start]) -> str:
    """Where the time goes, in a sentence."""
    line, imported, ready, step = (
        median(getattr(each, name) for each in found) for name in ("first_line", "imported", "ready", "first_step")
    )
    words = f"first line {number(line)}, imports {number(imported - line)}, model on the GPU {number(ready - imported)}"
    return f"{words}, first step {number(step - ready)} ms"


def rows_of_starts(yard: Yard, times: int) -> list[Row]:
    warm, fresh, plain = starts(yard, times)
    stick = median(each.first_step for each in plain)
    what = "to the end of the first step on a GPU"
    return [
        row(f"accepted POST {what}: {name}", "ms", [s.first_step for s in found], yardstick=stick, note=parts(found))
        for name, found in (("warm", warm), ("exec", fresh))
    ] + [row(f"a fresh interpreter {what} (yardstick)", "ms", [s.first_step for s in plain], note=parts(plain))]


def many(yard: Yard, count: int, turns: int) -> list[Row]:
    """Short runs on one GPU, one after the other."""
    shares: list[float] = []
    for _ in range(turns):
        theirs = timed(lambda: xargs(SCRIPT, count, 1, env={"CUDA_VISIBLE_DEVICES": "0"}))
        batch = yard.run(MODEL, manifest("on_gpu"), parameters(count))
        check(set(batch.ways.values()) == {"warm"}, batch.not_warm)
        shares.append(batch.seconds / theirs)
    return [row(f"{count} short runs on one GPU, warm / xargs -P1 of the same script", "x", shares)]


def say(rows: Sequence[Row]) -> None:
    for each in rows:
        spread = f"{number(each.ours)} {each.unit} ({number(each.min)} to {number(each.max)})"
        print(f"{each.measure}: {spread} {each.note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    with real_gpus() as runyard:
        yard = Yard(runyard, 1)
        yard.client.set_quota("default", {"gpus": 1})
        rows = rows_of_starts(yard, given.times)
        say(rows)
        said = len(rows)
        rows += many(yard, given.count, given.turns)
        say(rows[said:])
    if given.json is not None:
        given.json.write_text(json.dumps([each.document() for each in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
