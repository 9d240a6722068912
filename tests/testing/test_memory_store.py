"""The store in memory keeps the contract of the store; and the contract notices stores that do not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from runyard.core.lifecycle import Transition
from runyard.core.metering import LedgerEntry
from runyard.core.run import Run
from runyard.core.scheduling.snapshot import QueueClass
from runyard.core.use import Held
from runyard.ports.store import NO_PACE, NOT_CLOSED, Store, Submission
from runyard.testing.memory_store import MemoryStore
from runyard.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class Unguarded(MemoryStore):
    """Applies whatever comes."""

    def apply(
        self,
        transitions: Sequence[Transition],
        ledger: Sequence[LedgerEntry] = (),
        *,
        whole: bool = False,
        held: Sequence[Held] = (),
    ) -> tuple[bool, ...]:
        fresh = []
        for transition in transitions:
            there = self.run(transition.before.id) or transition.before
            fresh.append(replace(transition, before=replace(transition.before, version=there.version)))
        return super().apply(fresh, ledger, whole=whole, held=held)


class Forgetful(MemoryStore):
    """Takes every request for a new one."""

    def submit(self, submission: Submission) -> tuple[tuple[str, ...], bool]:
        return super().submit(replace(submission, idempotency_key=None))


class Upended(MemoryStore):
    """Shows the heads of a class last first."""

    def classes(
        self,
        now_ms: int,
        heads: int,
        *,
        expected: Mapping[int, int] = NO_PACE,
        opens: Mapping[str, int] = NOT_CLOSED,
    ) -> Sequence[QueueClass]:
        found = super().classes(now_ms, heads, expected=expected, opens=opens)
        return [replace(each, heads=each.heads[::-1]) for each in found]


class Stuck(MemoryStore):
    """Moves nothing."""

    def set_rank(self, run_id: str, position: int, now_ms: int) -> bool:
        return self.run(run_id) is not None


class Lossy(MemoryStore):
    """Forgets the attempts before the last."""

    def run(self, run_id: str) -> Run | None:
        run = super().run(run_id)
        return run if run is None else replace(run, attempts=run.attempts[-1:])


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Unguarded, "test_a_stale_change_is_refused_and_the_others_apply"),
        (Unguarded, "test_of_appliers_at_once_one_wins_each_run"),
        (Forgetful, "test_the_same_request_again_gets_the_first_answer"),
        (Forgetful, "test_of_the_same_request_at_once_one_is_accepted"),
        (Upended, "test_classes_show_their_first_ready_runs"),
        (Stuck, "test_any_number_of_moves_to_one_place"),
        (Lossy, "test_a_run_is_read_back_as_it_became"),
    ],
)
def test_the_contract_notices(broken: type[MemoryStore], test: str) -> None:
    getattr(StoreContract(), test)(MemoryStore())
    with pytest.raises((AssertionError, ValueError)):
        getattr(StoreContract(), test)(broken())
