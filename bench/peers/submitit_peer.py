"""submitit, its local executor: a process a run, a function pickled to a file; two at a time by our own hand."""

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
desk = import_module("desk")


def call(folder: str, site: str, script: str, words: list[str], number: int) -> str:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_module("desk").inside(site, script, words, number)


class Submitit(desk.Peer):  # type: ignore[name-defined]  # found by its path
    def start(self) -> None:
        self.executor = import_module("submitit").LocalExecutor(folder=str(self.folder / "logs"))
        self.executor.update_parameters(timeout_min=30)

    def many(self, python: str, script: str, words: list[str], count: int) -> list[str]:
        site, folder = desk.site_of(python), str(Path(__file__).parent)

        def one(number: int) -> str:
            return self.executor.submit(call, folder, site, script, words, number).result()

        with ThreadPoolExecutor(desk.SLOTS) as pool:
            return list(pool.map(one, range(count)))


desk.serve(Submitit())
