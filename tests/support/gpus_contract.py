"""What every :class:`runyard.node.gpus.seeing.Gpus` has to do, real ones and pretended ones alike."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

import pytest

from runyard.core.gpus import broken, foreign
from runyard.node.gpus.seeing import Gpus, Unseen, knows_pids, told_apart
from tests.support.waiting import wait_until

SLACK = 256 << 20
HELD = 2 << 30


class GpusContract(ABC):
    """Fixtures of a subclass: ``gpus``, of which ``index`` is free and well."""

    index = 0

    @abstractmethod
    def stranger(self, size: int) -> AbstractContextManager[int]:
        """A process that holds so many bytes of the GPU meanwhile; its pid."""

    def test_a_free_gpu_is_free_and_well(self, gpus: Gpus) -> None:
        sight = gpus.look(self.index)
        assert foreign(sight, SLACK, in_use=False) is None
        assert broken(sight) is None
        assert sight.busy is None or 0 <= sight.busy <= 100

    def test_what_a_stranger_holds_is_seen_and_gone_with_it(self, gpus: Gpus) -> None:
        with self.stranger(HELD) as pid:
            wait_until(lambda: gpus.look(self.index).used >= HELD, "it is seen", 120)
            sight = gpus.look(self.index)
            found = foreign(sight, SLACK, in_use=False)
            assert found is not None
            assert HELD <= found.size < HELD + (4 << 30), "what CUDA takes for itself comes to it"
            if knows_pids():
                (holder,) = [each for each in sight.holders if each.pid == pid]
                told = told_apart(holder, (), pids_known=True)
                assert (told.ours, told.seen) == (False, True)
                assert told.name
        wait_until(lambda: foreign(gpus.look(self.index), SLACK, in_use=False) is None, "it is free again", 30)

    def test_no_error_is_waited_for_in_vain_and_no_longer_than_told(self, gpus: Gpus) -> None:
        try:
            found = gpus.wait(0.05)
        except Unseen as error:
            pytest.skip(f"this driver tells no events: {error}")
        assert found is None
