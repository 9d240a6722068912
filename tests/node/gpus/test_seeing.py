"""Pretended GPUs keep the contract of real ones; holders are told apart by the kernel's word."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from runyard.core.gpus import Holder, Sight
from runyard.node.gpus.pretended import Pretended
from runyard.node.gpus.seeing import Unseen, Xid, told_apart
from tests.support.gpus import pretend
from tests.support.gpus_contract import GpusContract
from tests.support.waiting import wait_until


class TestPretended(GpusContract):
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path) -> Path:
        self.folder = tmp_path
        return tmp_path

    @pytest.fixture
    def gpus(self, home: Path) -> Pretended:
        return Pretended(str(home), [0, 1])

    @contextmanager
    def stranger(self, size: int) -> Iterator[int]:
        pretend(self.folder, {0: Sight(size, (Holder(os.getpid(), size),))})
        yield os.getpid()
        pretend(self.folder)

    def test_an_error_is_told_as_soon_as_it_stands_there(self, gpus: Pretended) -> None:
        told: list[Xid | None] = []
        listener = Thread(target=lambda: told.append(gpus.wait(60)))
        listener.start()
        pretend(self.folder, xids=[(1, 79)])
        listener.join(30)
        assert told == [Xid(1, 79)]
        assert gpus.wait(0) is None, "each once"

    def test_one_that_does_not_answer(self, gpus: Pretended) -> None:
        pretend(self.folder, unseen=[1])
        assert gpus.look(0) == Sight(0)
        with pytest.raises(Unseen):
            gpus.look(1)


def test_a_run_of_ours_is_told_from_one_of_others() -> None:
    child = subprocess.Popen(["sleep", "600"], env={**os.environ, "TRAINING_ID": "training-aaaaaaaaa"})
    try:
        wait_until(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n", "it is itself", 10)
        held = Holder(child.pid, 5)
        assert told_apart(held, ["training-aaaaaaaaa"], pids_known=True) == Holder(child.pid, 5, "sleep", ours=True)
        assert told_apart(held, ["training-bbbbbbbbb"], pids_known=True) == Holder(child.pid, 5, "sleep")
        assert told_apart(held, ["training-aaaaaaaaa"], pids_known=False) == Holder(child.pid, 5, seen=False)
    finally:
        child.kill()
        child.wait()
    assert told_apart(held, [], pids_known=True).seen is False, "it is gone"
