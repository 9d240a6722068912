"""Dask: a scheduler and two workers of one thread, each task a function that starts the program in its own process."""

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
desk = import_module("desk")


def call(folder: str, python: str, script: str, words: list[str], number: int) -> str:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_module("desk").started(python, script, words, number)


class Dask(desk.Peer):  # type: ignore[name-defined]  # found by its path
    def start(self) -> None:
        distributed = import_module("distributed")
        self.cluster = distributed.LocalCluster(
            n_workers=desk.SLOTS, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        )
        self.client = distributed.Client(self.cluster)

    def stop(self) -> None:
        self.client.close()
        self.cluster.close()

    def many(self, python: str, script: str, words: list[str], count: int) -> list[str]:
        folder = str(Path(__file__).parent)
        futures = [
            self.client.submit(call, folder, python, script, words, number, pure=False) for number in range(count)
        ]
        return list(self.client.gather(futures))


if __name__ == "__main__":
    desk.serve(Dask())
