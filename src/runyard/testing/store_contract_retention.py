"""The store's contract: how long accounts keep what they have, and what went of runs."""

from __future__ import annotations

from dataclasses import replace

from runyard.core import lifecycle
from runyard.core.account import Scope
from runyard.core.events import EventKind
from runyard.core.retention import Part
from runyard.core.run import Run, StopCause
from runyard.core.spec import RunSpec
from runyard.ports.accounts import TokenRecord
from runyard.ports.store import Definition, Store
from runyard.testing.builders import NOW, a_spec, a_submission
from runyard.testing.lives import accept, finish, known, start, step

ALL = 1000
SENTENCE = "By the account's retention these went."


def _from(run_id: str) -> RunSpec:
    spec = a_spec()
    return replace(spec, options=replace(spec.options, start_from=run_id))


def _canceled(store: Store, run: Run) -> Run:
    return step(store, lifecycle.stop(run, StopCause.cancel, NOW + 7))


class RetentionContract:
    """What is kept, and for how long."""

    def test_an_account_has_what_was_said_last_and_nothing_else(self, store: Store) -> None:
        accept(store)
        assert store.retentions() == {}
        assert store.set_retention("acme", {Part.logs: 5, Part.records: 0})
        assert store.retentions() == {"acme": {Part.logs: 5, Part.records: 0}}
        assert store.set_retention("acme", {Part.results: 7})
        assert store.retentions() == {"acme": {Part.results: 7}}
        assert store.set_retention("acme", {})
        assert store.retentions() == {}
        assert not store.set_retention("nobody", {Part.logs: 5})

    def test_final_runs_are_told_in_order_with_their_end_and_their_pin(self, store: Store) -> None:
        plain, waiting = accept(store, 2)
        pinned = accept(store, first=10, spec=a_spec(tags=("keep", "other")))[0]
        running = start(store, accept(store, first=20)[0])
        done = finish(store, plain)
        canceled = _canceled(store, pinned)
        found = store.ended_runs(0, ALL)
        assert [each.run_id for each in found] == [done.id, canceled.id]
        assert [each.pinned for each in found] == [False, True]
        assert found[0].ended_ms == max(done.finished_ms or 0, done.stored_ms or 0)
        assert found[1].ended_ms == NOW + 7
        assert (found[0].account_id, found[0].spec_id) == ("acme", done.spec_id)
        assert [each.run_id for each in store.ended_runs(found[0].seq, ALL)] == [canceled.id]
        assert [each.run_id for each in store.ended_runs(0, 1)] == [done.id]
        assert {waiting.id, running.id}.isdisjoint(each.run_id for each in found)

    def test_those_of_all_accounts_come_in_one_order(self, store: Store) -> None:
        names = [f"account-{number:02d}" for number in range(25)]
        runs: list[Run] = []
        for turn in range(2):
            for place, name in enumerate(names if turn else names[:3]):
                run = accept(store, first=100 * turn + place, account_id=name, member_id=f"mia-{place}")[0]
                runs.append(_canceled(store, run) if place % 2 else finish(store, run))
            ids = [run.id for run in sorted(runs, key=lambda run: run.seq)]
            assert [each.run_id for each in store.ended_runs(0, ALL)] == ids
            half = sorted(run.seq for run in runs)[len(runs) // 2]
            assert [each.run_id for each in store.ended_runs(half, 2)] == ids[len(runs) // 2 + 1 :][:2]

    def test_what_went_is_noted_told_and_remembered(self, store: Store) -> None:
        done = finish(store, accept(store)[0])
        assert store.note_swept(done.id, frozenset({Part.logs}), SENTENCE, NOW + 9)
        now = known(store, done.id)
        assert now.notes[-1] == SENTENCE
        assert now.version > done.version
        assert store.note_swept(done.id, frozenset({Part.metrics, Part.logs}), "More.", NOW + 10)
        assert store.ended_runs(0, ALL)[0].gone == {Part.logs, Part.metrics}
        told = store.events(0, ALL, kinds=frozenset({EventKind.swept}))
        assert [(each.event.run_id, each.event.at_ms) for each in told] == [(done.id, NOW + 9), (done.id, NOW + 10)]
        assert dict(told[1].event.body) == {"parts": ["logs", "metrics"]}
        assert store.delete_run(done.id)
        assert store.ended_runs(0, ALL) == []

    def test_nothing_is_noted_of_a_run_that_is_not_final_or_not_there(self, store: Store) -> None:
        run = accept(store)[0]
        for run_id in (run.id, "training-nobody00"):
            assert not store.note_swept(run_id, frozenset({Part.logs}), SENTENCE, NOW)
        assert store.events(0, ALL, kinds=frozenset({EventKind.swept})) == []

    def test_runs_are_needed_as_long_as_who_needs_them_is_not_final(self, store: Store) -> None:
        first, origin, other = accept(store, 3)
        assert store.needed_runs() == frozenset()
        behind = accept(store, first=10, after=(first.id,))[0]
        resumed = accept(store, first=20, spec=_from(origin.id))[0]
        assert store.needed_runs() == {first.id, origin.id}
        _canceled(store, behind)
        assert store.needed_runs() == {origin.id}
        finish(store, resumed)
        assert store.needed_runs() == frozenset()
        assert other.id not in store.needed_runs()

    def test_idempotency_keys_are_forgotten_by_their_age(self, store: Store) -> None:
        accept(store)
        old = replace(a_submission(1, first=10), idempotency_key="old", request_digest="d", now_ms=NOW)
        young = replace(a_submission(1, first=20), idempotency_key="young", request_digest="d", now_ms=NOW + 1)
        ids = [store.submit(each)[0] for each in (old, young)]
        assert store.forget_keys(NOW) == 0
        assert [store.replay("acme", key, "d") for key in ("old", "young")] == ids
        assert store.forget_keys(NOW + 1) == 1
        assert store.replay("acme", "old", "d") is None
        assert store.replay("acme", "young", "d") == ids[1]

    def test_tokens_are_forgotten_when_they_have_ended_long_ago(self, store: Store) -> None:
        accept(store)
        ends = {"lives": None, "expired": NOW + 1, "later": NOW + 9, "revoked": None}
        for name, at in ends.items():
            store.add_token(TokenRecord(name, f"digest {name}", "h", Scope.member, "acme", "ada", name, NOW, None, at))
        assert store.revoke_token("acme", "revoked", NOW + 2)
        assert store.forget_tokens(NOW + 1) == 0
        assert store.forget_tokens(NOW + 3) == 2
        assert [each.id for each in store.tokens("acme")] == ["later", "lives"]

    def test_definitions_are_unneeded_once_no_recorded_run_has_them(self, store: Store) -> None:
        accept(store)
        shas = [letter * 64 for letter in "abc"]
        for sha in shas:
            store.add_definition(Definition("acme", sha, 10, NOW))
        store.submit(replace(a_submission(1, first=10), code_sha256=shas[0]))
        assert sorted(each[1] for each in store.unneeded_definitions(NOW + 1)) == shas[1:]
        assert store.unneeded_definitions(NOW) == []
        run = store.ended_runs(0, ALL)
        assert run == []
        assert store.drop_definition("acme", shas[1])
        assert store.definition("acme", shas[1]) is None
        assert not store.definition_known(shas[1])
