"""joblib: functions in processes that are used again; no process per run."""

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
desk = import_module("desk")


def call(folder: str, site: str, script: str, words: list[str], number: int) -> str:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_module("desk").inside(site, script, words, number)


class Joblib(desk.Peer):  # type: ignore[name-defined]  # found by its path
    def start(self) -> None:
        self.joblib = import_module("joblib")
        self.pool = self.joblib.Parallel(n_jobs=desk.SLOTS)

    def many(self, python: str, script: str, words: list[str], count: int) -> list[str]:
        site, folder = desk.site_of(python), str(Path(__file__).parent)
        work = self.joblib.delayed(call)
        return list(self.pool(work(folder, site, script, words, number) for number in range(count)))


desk.serve(Joblib())
