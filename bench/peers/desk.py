"""What the peers' scripts share; run by the peers' own interpreter, so it is standard library alone.

A peer's script makes a :class:`Peer` and calls :func:`serve`. It is asked in JSON lines, ``{"work": "trivial", ...}``,
and answers each with one line: ``{"seconds": ..., "told": [...]}`` or ``{"error": "..."}``.
"""

import contextlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from site import addsitedir
from typing import Any

SLOTS = 2


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def memory(root: int) -> float:
    """MB of a process and all below it, shared pages in shares; the caller's own left out."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(stat[1]), []).append(int(entry))
    found, waiting = 0, list(children.get(root, []))
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        with contextlib.suppress(OSError):
            rollup = Path("/proc", str(pid), "smaps_rollup").read_text()
            found += int(rollup.partition("Pss:")[2].split()[0]) * 1024
    return found / 1e6


class Peer:
    """One peer. ``many`` runs a script so many times, two at once, and returns what each run wrote."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="runyard-peer-"))
        self.ended: float | None = None
        """When the last run had ended, where ``many`` knows it better than by its own return."""

    def start(self) -> None:
        """Bring up whatever it needs."""

    def stop(self) -> None:
        """End all that :meth:`start` brought up."""

    def many(self, python: str, script: str, words: list[str], count: int) -> list[str]:
        """Raises anything when it went wrong."""
        raise NotImplementedError

    def bulk(self, count: int) -> float:
        """Runs a second that it takes without running them. Raises ``NotImplementedError`` where it cannot."""
        raise NotImplementedError


def reports(texts: list[str]) -> list[Any]:
    """The last JSON object of each run's output."""
    found = [[json.loads(line) for line in text.splitlines() if line.startswith("{")] for text in texts]
    return [each[-1] for each in found if each]


def first_lines(peer: Peer, order: dict[str, Any]) -> dict[str, Any]:
    """Ms from the call of a submission to the first line, one run at a time, idle."""
    times: list[float] = []
    for _ in range(order["count"] + 1):
        began = boottime_ns()
        (told,) = reports(peer.many(order["python"], order["script"], order["words"], 1))
        times.append((told[order["key"]] - began) / 1e6)
        time.sleep(0.2)
    return {"ms": times[1:]}


def answer(peer: Peer, order: dict[str, Any]) -> dict[str, Any]:
    if order["work"] == "first_line":
        return first_lines(peer, order)
    if order["work"] == "bulk":
        return {"rate": peer.bulk(order["count"])}
    if order["work"] == "memory":
        return {"mb": memory(os.getpid())}
    began = time.perf_counter()
    texts = peer.many(order["python"], order["script"], order["words"], order["count"])
    seconds = (peer.ended or time.perf_counter()) - began
    if len(texts) != order["count"] or not all(texts):
        raise RuntimeError(f"{order['count']} runs were asked for and {sum(map(bool, texts))} wrote something")
    return {"seconds": seconds, "told": reports(texts)}


def serve(peer: Peer) -> None:
    """Answer orders until there are no more."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what peers print must not come between our lines
    began = time.perf_counter()
    try:
        peer.start()
    except BaseException as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}), file=out)
        raise
    try:
        print(json.dumps({"up_s": time.perf_counter() - began}), file=out)
        for line in sys.stdin:
            try:
                told = answer(peer, json.loads(line))
            except NotImplementedError:
                told = {"error": "not measured"}
            except BaseException as error:  # told to whoever asked
                traceback.print_exc()
                told = {"error": f"{type(error).__name__}: {error}"[:300]}
            print(json.dumps(told), file=out)
    finally:
        peer.stop()
        shutil.rmtree(peer.folder, ignore_errors=True)


def started(python: str, script: str, words: list[str], number: int) -> str:
    """Run the script in a process of its own, for peers that call functions."""
    command = [python, script, *words, "--n", str(number)] if "stamp" not in script else [python, script]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def inside(site: str, script: str, words: list[str], number: int) -> str:
    """Run the script in this very process, for peers that reuse theirs, or make one for each call of a function."""
    if site not in sys.path:
        addsitedir(site)
    before, sys.argv = sys.argv, [script, *words, "--n", str(number)] if "stamp" not in script else [script]
    written = io.StringIO()
    try:
        with contextlib.redirect_stdout(written):
            runpy.run_path(script, run_name="__main__")
    finally:
        sys.argv = before
    return written.getvalue()


def site_of(python: str) -> str:
    """Where an interpreter's packages lie."""
    return str(next(Path(python).parent.parent.glob("lib/python3*/site-packages")))
