"""Ray: tasks with ``max_calls=1``, a fresh process each; ``jobs``: its job server, a process and a log a job."""

import os
import sys
import time
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
desk = import_module("desk")


def call(folder: str, site: str, script: str, words: list[str], number: int) -> str:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_module("desk").inside(site, script, words, number)


class Ray(desk.Peer):  # type: ignore[name-defined]  # found by its path
    def start(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.ray = import_module("ray")
        self.ray.init(num_cpus=desk.SLOTS, include_dashboard="jobs" in sys.argv, dashboard_host="127.0.0.1")
        self.task = self.ray.remote(max_calls=1)(call)

    def stop(self) -> None:
        self.ray.shutdown()

    def many(self, python: str, script: str, words: list[str], count: int) -> list[str]:
        site, folder = desk.site_of(python), str(Path(__file__).parent)
        return list(self.ray.get([self.task.remote(folder, site, script, words, number) for number in range(count)]))


class RayJobs(Ray):
    def many(self, python: str, script: str, words: list[str], count: int) -> list[str]:
        jobs = import_module("ray.job_submission")
        client = jobs.JobSubmissionClient(f"http://{self.url()}")
        left, running, texts = list(range(count)), dict[str, int](), dict[int, str]()
        while left or running:
            while left and len(running) < desk.SLOTS:
                number = left.pop(0)
                told = [] if "stamp" in script else [*words, "--n", str(number)]
                running[client.submit_job(entrypoint=" ".join([python, script, *told]))] = number
            for job, number in list(running.items()):
                if client.get_job_status(job).is_terminal():
                    texts[number] = client.get_job_logs(job)
                    del running[job]
            time.sleep(0.02)
        return [texts[number] for number in range(count)]

    def url(self) -> str:
        worker = import_module("ray._private.worker")
        return str(worker._global_node.webui_url)


desk.serve(RayJobs() if "jobs" in sys.argv else Ray())
