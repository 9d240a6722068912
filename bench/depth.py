"""A deep queue: how fast runs come in, and what then becomes of everything else.

A real server and node in a home of their own; what is timed goes over HTTP through the SDK, or is the command line.
The queue is held while it fills: nothing but the requests that are measured happens meanwhile.
"""

import argparse
import json
import math
import os
import resource
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from bench.machine import compile_ours
from bench.yardstick import server_of_its_own
from runyard.client.client import Client
from runyard.client.run_calls import Overrides, Submission
from tools.environment import program
from tools.runyard_cli import Runyard
from tools.screen import table

MANIFEST = """model_definition:
  name: depth
  framework: {name: python}
  execution:
    command: "true {n}"
    compute_configuration: {name: small}
"""
CHUNK = 100_000
SLOTS = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``target``: empty where there is none."""

    measure: str
    ours: float
    target: str
    unit: str
    median: float
    min: float
    max: float
    n: int


def row(measure: str, values: Sequence[float], unit: str, target: str = "", *, ours: float | None = None) -> Row:
    """A row; its figure is the median, unless told."""
    middle = median(values)
    return Row(measure, middle if ours is None else ours, target, unit, middle, min(values), max(values), len(values))


def p99(values: Sequence[float]) -> float:
    """The value that one in a hundred is above."""
    return sorted(values)[max(0, math.ceil(0.99 * len(values)) - 1)]


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def cpu_of(argv: Sequence[str], environment: dict[str, str]) -> float:
    """CPU seconds of a command, user's and system's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Bench:
    """One installation and what is known of it."""

    def __init__(self, runyard: Runyard, runs: int) -> None:
        self.runyard = runyard
        self.runs = runs
        self.client = Client(self.url(), self.token())
        self.rows: list[Row] = []
        self.waiting = 0

    def url(self) -> str:
        return str(json.loads((self.runyard.home / "up.json").read_text())["url"])

    def token(self) -> str:
        return (self.runyard.home / "token").read_text().strip()

    def add(self, *rows: Row) -> None:
        """Note rows, and tell them at once."""
        for each in rows:
            self.rows.append(each)
            print(f"{each.measure}: {each.ours:.4g} {each.unit} (target {each.target or '-'})", flush=True)

    def pss(self, module: str) -> float:
        """Proportional set size in MB of our process that runs a module."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_text().split("\0")
                if module in words and any(str(self.runyard.home) in word for word in words):
                    text = (folder / "smaps_rollup").read_text()
                    return int(text.partition("\nPss:")[2].split()[0]) / 1000
            except OSError:
                continue
        raise SystemExit(f"{module} does not run")

    def submission(self, first: int, count: int, tag: str) -> dict[str, object]:
        """The body of a submission."""
        parameters = [{"n": number, "lr": 0.001 * number} for number in range(first, first + count)]
        return Submission(MANIFEST, parameters=parameters, overrides=Overrides(tags=(tag,))).document()

    def post(self, path: str, body: bytes) -> tuple[float, bytes]:
        """Seconds from the first byte sent to the last byte of the answer."""
        host = self.url().removeprefix("http://")
        connection = HTTPConnection(host, timeout=600)
        headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"}
        begun = time.perf_counter()
        connection.request("POST", "/api/v1" + path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        took = time.perf_counter() - begun
        connection.close()
        if answer.status >= 300:
            raise SystemExit(f"POST {path}: {answer.status} {content[:300]!r}")
        return took, content

    def submit(self, count: int, tag: str) -> tuple[float, list[str]]:
        """Submit runs in one call."""
        body = json.dumps(self.submission(self.waiting, count, tag)).encode()
        took, content = self.post("/training-runs", body)
        self.waiting += count
        ids = json.loads(content)["ids"]
        if len(set(ids)) != count:
            raise SystemExit(f"{count} runs were asked for and {len(set(ids))} accepted")
        return took, ids

    def staged(self) -> None:
        """Wait until all that waits is ready: its making ready is work, too."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if self.client.run("last").readiness != "staging":
                return
            time.sleep(0.2)
        raise SystemExit("the runs were never ready")


@contextmanager
def others(bench: Bench, ids: Sequence[str]) -> Iterator[dict[str, list[float]]]:
    """Requests of somebody else meanwhile, one after another: a look, and a cancel of one of ``ids``. Seconds."""
    found: dict[str, list[float]] = {"look": [], "cancel": []}
    over = threading.Event()

    def look() -> None:
        client = Client(bench.url(), bench.token())
        while not over.is_set():
            found["look"].append(seconds(lambda: client.run(ids[0])))
            over.wait(0.01)

    def cancel() -> None:
        client = Client(bench.url(), bench.token())
        for run_id in ids[1:]:
            if over.is_set():
                return
            found["cancel"].append(seconds(lambda: client.cancel(run_id)))  # noqa: B023 - at once
            over.wait(0.02)

    threads = [threading.Thread(target=work) for work in (look, cancel)]
    for each in threads:
        each.start()
    try:
        yield found
    finally:
        over.set()
        for each in threads:
            each.join()


def starting(bench: Bench) -> None:
    """Start-up of commands, and what idle processes hold."""
    time.sleep(3)
    bench.add(row("server PSS, idle", [bench.pss("runyard.server")], "MB", "<= 110"))
    bench.add(row("node PSS, idle", [bench.pss("runyard.node")], "MB", "<= 40"))
    _, ids = bench.submit(1, "one")
    runyard, environment = str(program("runyard")), bench.runyard.environment()
    for words, target in ((["--help"], "<= 0.12"), (["show", ids[0]], "<= 0.2"), (["list"], "")):
        taken = [cpu_of([runyard, *words], environment) for _ in range(11)]
        bench.add(row(f"runyard {words[0]}, CPU", taken, "s", target))
    ups: list[float] = []
    port = bench.url().rpartition(":")[2]
    for _ in range(3):
        bench.runyard.ask("down")
        words = ["up", "--detach", "--fake-gpus", str(SLOTS), "--port", port]
        ups.append(seconds(lambda: bench.runyard.ask(*words)))  # noqa: B023 - at once
    bench.add(row("up to healthy, node joined", ups, "s"))
    bench.client = Client(bench.url(), bench.token())


def by_the_command_line(bench: Bench, times: int = 5) -> None:
    """1,000 runs by the command line, from its start to its end."""
    manifest = bench.runyard.home / "manifest.yml"
    manifest.write_text(MANIFEST)
    model = bench.runyard.home / "model"
    model.mkdir()
    (model / "train.py").write_text("print()\n")
    taken = [
        seconds(lambda: bench.runyard.ask("train", str(model), str(manifest), "--set", "n=1..1000:1000"))
        for _ in range(times)
    ]
    bench.client.cancel_many(states=["waiting"])
    bench.waiting = 0
    bench.add(row("1,000 runs by the command line", taken, "s", "< 1"))


def bulk(bench: Bench, times: int = 3) -> None:
    """Many runs in one call; what others wait for meanwhile; what is held afterwards."""
    small = [1000 / bench.submit(1000, "small")[0] for _ in range(5)]
    bench.add(row("bulk submission, 1,000 in a call", small, "runs/s"))
    _, victims = bench.submit(1000, "victims")
    bench.staged()
    before = bench.pss("runyard.server")
    count = min(CHUNK, max(1000, bench.runs // 2))
    rates: list[float] = []
    looks: list[float] = []
    cancels: list[float] = []
    for _ in range(times):
        with others(bench, victims) as found:
            took, _ids = bench.submit(count, "bulk")
            bench.staged()
            time.sleep(0.5)
        rates.append(count / took)
        looks.append(max(found["look"]))
        cancels.append(max(found["cancel"]))
        victims = victims[len(found["cancel"]) + 1 :]
    bench.add(row(f"bulk submission, {count:,} in a call, others asking", rates, "runs/s"))
    bench.add(row("longest look meanwhile and while made ready", looks, "s", "< 1"))
    bench.add(row("longest cancel meanwhile and while made ready", cancels, "s", "< 1"))
    alone = [count / bench.submit(count, "bulk")[0]]
    after = bench.pss("runyard.server")
    bench.add(row(f"server PSS right after accepting {count:,}", [after], "MB", "<= 150"))
    bench.staged()
    alone += [count / bench.submit(count, "bulk")[0] for _ in range(times - 1)]
    bench.add(row(f"bulk submission, {count:,} in a call", alone, "runs/s", ">= 20000"))
    bench.staged()
    time.sleep(3)
    bench.add(row(f"server PSS with {bench.waiting:,} waiting", [bench.pss("runyard.server")], "MB", "<= 150"))
    bench.add(row("server PSS before it", [before], "MB"))


def fill(bench: Bench) -> None:
    """As many waiting runs as was asked for."""
    begun = time.perf_counter()
    while bench.waiting < bench.runs:
        bench.submit(min(CHUNK, bench.runs - bench.waiting), "filling")
    bench.staged()
    bench.add(row(f"filled to {bench.waiting:,} waiting, made ready", [time.perf_counter() - begun], "s"))


def bare_commits(folder: Path, count: int, rows: int = 16) -> list[float]:
    """Milliseconds of durable commits of a bare table, each of as many pages as a cancel writes: the yardstick."""
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as driver:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0"):
            driver.execute(f"PRAGMA {pragma}").fetchall()
        driver.execute("CREATE TABLE pages (number INTEGER PRIMARY KEY, content BLOB)")
        everywhere = [(number, bytes(3500)) for number in range(100 * rows)]
        driver.execute("BEGIN")
        driver.executemany("INSERT INTO pages VALUES (?, ?)", everywhere)
        driver.execute("COMMIT")

        def commit(first: int) -> None:
            driver.execute("BEGIN IMMEDIATE")
            driver.executemany(
                "UPDATE pages SET content = ? WHERE number = ?",
                [(first.to_bytes(4, "big"), (first + 97 * row) % len(everywhere)) for row in range(rows)],
            )
            driver.execute("COMMIT")

        return [seconds(lambda: commit(number)) * 1000 for number in range(count)]  # noqa: B023 - at once


def asking(bench: Bench, times: int = 1000) -> None:
    """Single runs and first pages in the deep queue."""
    _, ids = bench.submit(times, "single")
    bench.submit(1, "rare")
    client = bench.client
    depth = f"at {bench.waiting:,}"
    shows = [seconds(lambda: client.run(run_id)) * 1000 for run_id in ids]  # noqa: B023 - at once
    bench.add(row(f"show p99 {depth}", shows, "ms", "<= 10", ours=p99(shows)))
    explains = [seconds(lambda: client.explain(run_id)) * 1000 for run_id in ids[:20]]  # noqa: B023 - at once
    bench.add(row(f"explain of the last {depth}", explains, "ms", "<= 50"))
    cancels = [seconds(lambda: client.cancel(run_id)) * 1000 for run_id in ids]  # noqa: B023 - at once
    bench.add(row(f"cancel to canceled p99 {depth}", cancels, "ms", "<= 10", ours=p99(cancels)))
    commits = bare_commits(bench.runyard.home, times)
    bench.add(row("a bare durable commit of as many pages, p99", commits, "ms", ours=p99(commits)))
    if any(client.run(run_id).state != "canceled" for run_id in ids[:5]):
        raise SystemExit("a canceled run is not canceled")
    pages: dict[str, Callable[[], object]] = {
        "list": lambda: list(client.runs(limit=100)),
        "list, by state": lambda: list(client.runs(states=["waiting"], limit=100)),
        "list, by a state of none": lambda: list(client.runs(states=["running"], limit=100)),
        "list, by tag": lambda: list(client.runs(tag="bulk", limit=100)),
        "list, by rare tag": lambda: list(client.runs(tag="rare", limit=100)),
        "list, by tag and state": lambda: list(client.runs(tag="bulk", states=["waiting"], limit=100)),
        "list, by tag and a state of none": lambda: list(client.runs(tag="bulk", states=["completed"], limit=100)),
        "list, by name": lambda: list(client.runs(name="depth", limit=100)),
        "list, by a name of none": lambda: list(client.runs(name="nothing", limit=100)),
        "status": client.status,
        "queue": client.queue,
        "usage": client.usage,
    }
    for name, ask in pages.items():
        taken = [seconds(ask) * 1000 for _ in range(11)]
        bench.add(row(f"{name} {depth}", taken, "ms", "<= 50" if name != "usage" else ""))


def cancel_all(bench: Bench) -> None:
    """Cancel 100,000 in one call, while somebody else asks."""
    count = min(CHUNK, bench.runs // 2)
    bench.submit(count, "to-cancel")
    _, victims = bench.submit(500, "victims")
    bench.staged()
    with others(bench, victims) as found:
        took, content = bench.post("/training-runs/cancel", b'{"runs": ["tag:to-cancel"]}')
    canceled = len(json.loads(content)["items"])
    if canceled != count:
        raise SystemExit(f"{count} were to be canceled, {canceled} were")
    bench.add(row(f"cancel of {count:,} in one call", [count / took], "runs/s"))
    bench.add(row("longest look meanwhile", [max(found["look"])], "s", "< 1"))
    bench.add(row("longest cancel meanwhile", [max(found["cancel"])], "s", "< 1"))
    bench.add(row("server PSS right after it", [bench.pss("runyard.server")], "MB"))


def ended(bench: Bench) -> int:
    """How many runs have ended well."""
    return bench.client.status().counts.get("completed", 0)


def dispatch_rate(bench: Bench, count: int) -> float:
    """Runs a second that complete while the queue goes on, until some have."""
    client, begun, first = bench.client, time.perf_counter(), ended(bench)
    client.resume_queue()
    while (done := ended(bench) - first) < count:
        time.sleep(0.1)
    took = time.perf_counter() - begun
    client.pause_queue()
    while client.status().slots_used:
        time.sleep(0.1)
    bench.waiting -= ended(bench) - first
    return done / took


def shallow_rates(bench: Bench, count: int, times: int) -> list[float]:
    """The rate with a hundred waiting at the end of each measure."""
    rates: list[float] = []
    for _ in range(times + 1):
        bench.submit(count + 100 - bench.waiting, "shallow")
        bench.staged()
        rates.append(dispatch_rate(bench, count))
    bench.client.cancel_many(states=["waiting"])
    bench.waiting = 0
    return rates[1:]  # the first finds everything cold


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="how many wait in the end")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    parser.add_argument(
        "--rate-of", type=int, default=200, metavar="N", help="completed runs of one measure of the rate"
    )
    given = parser.parse_args()
    compile_ours()
    with server_of_its_own(SLOTS) as runyard:
        runyard.ask("quota", "set", "default", "--gpus", str(SLOTS))
        bench = Bench(runyard, given.runs)
        bench.client.pause_queue()
        starting(bench)
        by_the_command_line(bench)
        shallow = shallow_rates(bench, given.rate_of, 3)
        bulk(bench)
        depth = f"{bench.waiting:,}"
        deep = [dispatch_rate(bench, given.rate_of) for _ in range(3)]
        bench.add(row("dispatch rate at 100", shallow, "runs/s"), row(f"dispatch rate at {depth}", deep, "runs/s"))
        ratio = median(deep) / median(shallow)
        bench.add(row(f"dispatch rate at {depth} / at 100", [ratio], "x", ">= 0.9"))
        fill(bench)
        asking(bench)
        cancel_all(bench)
    print(
        table(["measure", "ours", "target", "unit", "median", "min", "max", "n"], [cells(each) for each in bench.rows])
    )
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(each) for each in bench.rows], indent=1) + "\n")


def cells(each: Row) -> list[str]:
    """A row as it is printed."""
    figures = [f"{value:.4g}" for value in (each.median, each.min, each.max)]
    return [each.measure, f"{each.ours:.4g}", each.target, each.unit, *figures, str(each.n)]


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
