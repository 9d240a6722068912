"""The store's contract: secrets, and runs that wait for other runs."""

from __future__ import annotations

from runyard.core import lifecycle
from runyard.core.run import BLOCKED, StateName, StopCause, Waiting
from runyard.ports.secrets import SecretRecord
from runyard.ports.store import Store
from runyard.testing.builders import NOW, a_run_id, a_spec
from runyard.testing.lives import accept, finish, known, start, step

ALL = 1000


class SecretContract:
    """What accounts keep for their programs."""

    def test_a_secret_is_kept_replaced_and_removed(self, store: Store) -> None:
        first = SecretRecord("acme", "HF_TOKEN", NOW, b"sealed \x00\xff")
        assert store.secret("acme", "HF_TOKEN") is None
        store.put_secret(first)
        assert store.secret("acme", "HF_TOKEN") == first
        second = SecretRecord("acme", "HF_TOKEN", NOW + 1, b"other")
        store.put_secret(second)
        assert list(store.secrets("acme")) == [second]
        assert store.delete_secret("acme", "HF_TOKEN")
        assert not store.delete_secret("acme", "HF_TOKEN")
        assert list(store.secrets("acme")) == []

    def test_secrets_are_listed_by_name_and_belong_to_their_account(self, store: Store) -> None:
        for account_id, name in (("acme", "b"), ("acme", "A"), ("other", "A"), ("acme", "a")):
            store.put_secret(SecretRecord(account_id, name, NOW, account_id.encode()))
        assert [each.name for each in store.secrets("acme")] == ["A", "a", "b"]
        assert [each.sealed for each in store.secrets("other")] == [b"other"]
        assert not store.delete_secret("other", "b")
        assert store.secret("other", "a") is None

    def test_a_record_does_not_show_its_value(self) -> None:
        assert "sesame" not in repr(SecretRecord("acme", "A", NOW, b"sesame"))


class AfterContract:
    """Who waits for whom."""

    def test_runs_after_others_are_accepted_blocked_and_say_for_whom(self, store: Store) -> None:
        first, second = accept(store, 2)
        third, fourth = accept(store, 2, first=10, after=(second.id, first.id, second.id))
        assert (third.state, fourth.state, first.state) == (Waiting(BLOCKED), Waiting(BLOCKED), Waiting())
        told = store.dependencies([first.id, third.id, a_run_id(99), fourth.id])
        assert {key: list(value) for key, value in told.items()} == {
            third.id: [second.id, first.id],
            fourth.id: [second.id, first.id],
        }
        assert list(store.dependents([first.id], ALL)) == [third.id, fourth.id]
        assert list(store.dependents([second.id, first.id], 1)) == [third.id]
        assert list(store.dependents([third.id, a_run_id(99)], ALL)) == []
        assert list(store.dependents([], ALL)) == []

    def test_the_blocked_are_paged_by_their_number(self, store: Store) -> None:
        first = accept(store)[0]
        waiting = accept(store, 3, first=10, after=(first.id,))
        pairs = [(run.seq, run.id) for run in waiting]
        assert list(store.blocked(0, ALL)) == pairs
        assert list(store.blocked(0, 2)) == pairs[:2]
        assert list(store.blocked(pairs[1][0], 2)) == pairs[2:]

    def test_who_is_free_or_final_is_no_dependent(self, store: Store) -> None:
        first = accept(store)[0]
        freed, canceled, left = accept(store, 3, first=10, after=(first.id,))
        freed = step(store, lifecycle.unblocked(freed, NOW))
        assert freed.state == Waiting()
        step(store, lifecycle.stop(canceled, StopCause.cancel, NOW))
        assert list(store.dependents([first.id], ALL)) == [left.id]
        assert list(store.blocked(0, ALL)) == [(left.seq, left.id)]
        assert list(store.dependencies([freed.id])[freed.id]) == [first.id]

    def test_one_that_did_not_complete_cancels_who_waits(self, store: Store) -> None:
        first = accept(store)[0]
        second = accept(store, first=10, after=(first.id,))[0]
        ended = step(store, lifecycle.dependency_failed(second, "It failed.", NOW))
        assert (ended.state_name, store.counts("acme")[StateName.canceled]) == (StateName.canceled, 1)
        assert list(store.dependents([first.id], ALL)) == []

    def test_a_dependency_outlives_the_record_that_it_names_and_goes_with_its_own(self, store: Store) -> None:
        first = accept(store)[0]
        second = accept(store, first=10, after=(first.id,))[0]
        finish(store, first)
        assert store.delete_run(first.id)
        assert list(store.dependencies([second.id])[second.id]) == [first.id]
        step(store, lifecycle.stop(second, StopCause.cancel, NOW))
        assert store.delete_run(second.id)
        assert second.id not in store.dependencies([second.id])

    def test_blocked_runs_are_staged_and_are_nobodys_head(self, store: Store) -> None:
        before = accept(store)[0]
        blocked = accept(store, 3, first=10, after=(before.id,))
        free = accept(store, first=20)[0]
        for run in (before, blocked[0], free):
            assert store.mark_staged(run.spec_id, "n1", NOW) >= 1
        assert known(store, blocked[0].id).ready_on == "n1"
        assert known(store, blocked[0].id).state == Waiting(BLOCKED)
        heads = [head.run_id for each in store.classes(NOW, ALL) for head in each.heads]
        assert heads == [before.id, free.id]
        start(store, known(store, before.id))
        start(store, known(store, free.id), slots=(1,))
        assert [each.heads for each in store.classes(NOW, ALL)] == [()]
        step(store, lifecycle.unblocked(known(store, blocked[1].id), NOW))
        assert [[head.run_id for head in each.heads] for each in store.classes(NOW, ALL)] == [[blocked[1].id]]

    def test_the_blocked_do_not_count_as_being_ahead(self, store: Store) -> None:
        first = accept(store)[0]
        accept(store, 2, first=10, after=(first.id,))
        urgent = accept(store, first=20, spec=a_spec(priority=90), after=(first.id,))[0]
        last = accept(store, first=30)[0]
        assert store.ahead_of(last) == 1
        assert store.ahead_of(urgent) == 0
        step(store, lifecycle.unblocked(urgent, NOW))
        assert (store.ahead_of(first), store.ahead_of(last)) == (1, 2)

    def test_some_runs_are_read_at_once(self, store: Store) -> None:
        runs = accept(store, 3)
        asked = [runs[2].id, a_run_id(99), runs[0].id, "no id \udfff"]
        assert list(store.runs_of(asked)) == [runs[2], runs[0]]
        assert list(store.runs_of([])) == []
