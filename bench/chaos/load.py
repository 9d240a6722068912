"""The load: runs of several kinds, asked for and partly canceled from a thread of its own while all else is struck."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from bench.chaos.place import HERE, Place
from runyard.client import Client, Submission
from runyard.client.errors import ClientError, Refused

T = TypeVar("T")
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of run: words of its command line, its options below ``runyard``, and what it is for."""

    words: str
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    by_bash: bool = False
    share: int = 1
    code: int = 0
    lines: int = 1
    s3: bool = False


KINDS: Mapping[str, Kind] = {
    "trivial": Kind("--lines 1", share=6),
    "steady, warm": Kind("--lines 20 --points 20 --pause 0.05", share=5, lines=20),
    "steady, by bash": Kind("--lines 25 --points 25 --pause 0.05", by_bash=True, share=5, lines=25),
    "with checkpoints": Kind(
        "--lines 30 --points 30 --pause 0.05 --save 5", {"max_retries": 3}, by_bash=True, share=3, lines=30
    ),
    "with checkpoints, warm": Kind("--lines 30 --pause 0.05 --save 5", {"max_retries": 3}, share=2, lines=30),
    "long": Kind("--lines 150 --points 150 --pause 0.05", by_bash=True, share=2, lines=150),
    "failing": Kind("--lines 5 --points 5 --pause 0.02 --code 3", share=2, code=3, lines=5),
    "to S3": Kind("--lines 10 --pause 0.05", by_bash=True, share=3, lines=10, s3=True),
}


def manifest(kind: Kind, place: Place) -> str:
    """The manifest of a kind, in dialect two."""
    results: dict[str, object] = {"id": "results", "type": "local", "training_results": {"container": "chaos"}}
    if kind.s3 and place.store is not None:
        server, door = place.store
        keys = {"user_name": server.access_key_id, "password": server.secret_access_key}
        results |= {
            "type": "s3_datastore",
            "connection": {"auth_url": f"http://127.0.0.1:{door.port}", "region": server.region, **keys},
        }
    command = f"python3 train.py --witness {place.witness} {kind.words}"
    return json.dumps(
        {
            "name": "chaos",
            "gpus": 1,
            "cpus": 0.1,
            "memory": "128MiB",
            "learners": 1,
            "data_stores": [results],
            "framework": {"name": "python", "command": f"exec {command}" if kind.by_bash else command},
            "runyard": {"grace": "1s", **kind.options},
        }
    )


@dataclass(slots=True)
class Asked:
    """What was asked for: every accepted run with its kind, those whose cancel was answered, and of those that it was
    too late for nothing is noted. ``trouble``: requests that had to be repeated."""

    kinds: dict[str, str] = field(default_factory=dict[str, str])
    canceled: set[str] = field(default_factory=set[str])
    trouble: int = 0


class Load:
    """Keeps ``ahead`` runs waiting or running until it is told to stop, and until ``least`` have been accepted."""

    def __init__(self, place: Place, seed: int, least: int, ahead: int) -> None:
        self.asked = Asked()
        self._place, self._least, self._ahead = place, least, ahead
        self._chance = random.Random(f"load {seed}")
        self._seed = seed
        self._client = Client(place.address, (place.home / "token").read_text().strip())
        self._definition = place.yard.definition(HERE / "model")
        self._stop = threading.Event()
        self._calls = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.problem: str = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No more runs are asked for, but those which are lacking to the least number."""
        self._stop.set()
        self._thread.join(PATIENCE_S * 3)
        if self._thread.is_alive():
            self.problem = "the load did not end"

    def _work(self) -> None:
        try:
            while not self._stop.is_set() or len(self.asked.kinds) < self._least:
                counts = self._tried(self._client.status).counts
                active = sum(counts.get(each, 0) for each in ("waiting", "starting", "running", "stopping"))
                if len(self.asked.kinds) < self._least or active < self._ahead:
                    self._submit()
                self._cancel()
                self._stop.wait(0.3)
        except Exception as error:  # told as what voids the campaign
            self.problem = f"{type(error).__name__}: {error}"

    def _tried(self, call: Callable[[], T]) -> T:
        """A request, repeated until it is answered: what a careful client does."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except ClientError as error:
                broken = not isinstance(error, Refused) or error.problem.status >= 500
                if not broken or time.monotonic() > deadline:
                    raise
                self.asked.trouble += 1
                time.sleep(0.2)

    def _submit(self) -> None:
        names = [name for name, kind in KINDS.items() for _ in range(kind.share) if not kind.s3 or self._place.store]
        name, count = self._chance.choice(names), self._chance.randint(2, 12)
        submission = Submission(
            manifest(KINDS[name], self._place),
            self._definition,
            parameters=[{"n": number} for number in range(count)],
            append_args=True,
            force=True,
        )
        self._calls += 1
        key = f"chaos-{self._seed}-{self._calls}"
        submitted = self._tried(lambda: self._client.submit(submission, idempotency_key=key))
        self.asked.kinds.update(dict.fromkeys(submitted.ids, name))

    def _cancel(self) -> None:
        if self._chance.random() < 0.12:
            run = self._chance.choice(list(self.asked.kinds)[-60:])
            self.asked.canceled.add(run)
            try:
                self._tried(lambda: self._client.cancel(run))
            except Refused as error:
                if error.problem.status != 409:
                    raise
