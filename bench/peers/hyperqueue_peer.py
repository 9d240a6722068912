"""HyperQueue: a server and a worker of two cores in this process, tasks in processes of their own."""

import os
import shutil
import sys
import time
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
desk = import_module("desk")


def written(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


class HyperQueue(desk.Peer):  # type: ignore[name-defined]  # found by its path
    def start(self) -> None:
        self.hq = import_module("hyperqueue")
        cluster = import_module("hyperqueue.cluster")
        self.cluster = cluster.LocalCluster(str(self.folder / "hq"), cluster.WorkerConfig(cores=desk.SLOTS))
        self.client = self.cluster.client()

    def stop(self) -> None:
        self.cluster.stop()

    def many(self, python: str, script: str, words: list[str], count: int) -> list[str]:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        job = self.hq.Job(default_workdir=out, default_env=dict(os.environ))
        for number in range(count):
            told = [] if "stamp" in script else [*words, "--n", str(number)]
            job.program([python, script, *told], stdout=str(out / str(number)), stderr=None)
        submitted = self.client.submit(job)
        left, deadline = set(range(count)), time.monotonic() + 250
        while left and time.monotonic() < deadline:  # its own waiting looks once a second
            left = {number for number in left if not written(out / str(number))}
            time.sleep(0.002)
        self.ended = time.perf_counter()
        self.client.wait_for_jobs([submitted])
        return [(out / str(number)).read_text() for number in range(count)]

    def bulk(self, count: int) -> float:
        """Jobs of one task each that wait behind two long ones."""
        blocking = self.hq.Job()
        for _ in range(desk.SLOTS):
            blocking.program(["sleep", "60"], stdout=None, stderr=None)
        self.client.submit(blocking)
        jobs = []
        began = time.perf_counter()
        for _ in range(count):
            job = self.hq.Job()
            job.program(["true"], stdout=None, stderr=None)
            jobs.append(job)
        for job in jobs:
            self.client.submit(job)
        return count / (time.perf_counter() - began)


desk.serve(HyperQueue())
