"""The contract of the store: canceling many waiting runs at once."""

from __future__ import annotations

from runyard.core import lifecycle
from runyard.core.events import EventKind
from runyard.core.run import Finished, StateName, StopCause
from runyard.ports.store import RunQuery, Store
from runyard.testing.builders import NOW, a_run_id, a_spec
from runyard.testing.lives import accept, finish, known, start


class CancelContract:
    """Ending what nothing has begun of."""

    def test_many_are_canceled_as_one_is(self, store: Store) -> None:
        alone, *runs = accept(store, 6)
        stop = lifecycle.stop(alone, StopCause.cancel, NOW + 5)
        assert stop is not None
        assert store.apply((stop,)) == (True,)
        asked = [runs[3].id, runs[0].id, "training-nothing00", runs[3].id]
        assert list(store.cancel_waiting("acme", asked, NOW + 5)) == [runs[0].id, runs[3].id]
        for run in (runs[0], runs[3]):
            found, like = known(store, run.id), known(store, alone.id)
            assert isinstance(found.state, Finished)
            assert (found.state, found.version, found.finished_ms) == (like.state, like.version, like.finished_ms)
            told, told_of_one = store.events(0, 9, run_id=run.id)[-1], store.events(0, 9, run_id=alone.id)[-1]
            assert (told.event.kind, told.event.at_ms) == (EventKind.finished, NOW + 5)
            assert told.event.body == told_of_one.event.body
        assert [run.id for run in store.waiting_page("acme", 9)] == [runs[1].id, runs[2].id, runs[4].id]
        assert [store.ahead_of(known(store, runs[each].id)) for each in (1, 2, 4)] == [0, 1, 2]
        assert store.counts("acme") == {StateName.waiting: 3, StateName.canceled: 3}

    def test_only_what_waits_and_never_began_is_canceled(self, store: Store) -> None:
        spec = a_spec(priority=60)
        runs = accept(store, 4, spec=spec)
        store.mark_staged(runs[0].spec_id, "n1", NOW)
        running, done = start(store, known(store, runs[0].id)), finish(store, known(store, runs[1].id))
        foreign = accept(store, first=20, account_id="beta", member_id="ben")[0]
        blocked = accept(store, first=30, after=(runs[0].id,))[0]
        asked = [running.id, done.id, foreign.id, blocked.id, runs[2].id]
        assert list(store.cancel_waiting("acme", asked, NOW)) == [runs[2].id, blocked.id]
        left = [known(store, each.id).state_name.value for each in (running, done, foreign)]
        assert left == ["running", "completed", "waiting"]
        assert list(store.cancel_waiting("acme", asked, NOW)) == []
        ready = [head.run_id for each in store.classes(NOW, 9) for head in each.heads]
        assert ready == [runs[3].id]
        assert store.ahead_of(known(store, foreign.id)) == 1

    def test_a_spec_of_which_all_are_canceled_is_not_staged(self, store: Store) -> None:
        runs = accept(store, 3)
        assert list(store.specs_to_stage(9)) == [runs[0].spec_id]
        assert len(store.cancel_waiting("acme", [run.id for run in runs], NOW)) == 3
        assert list(store.specs_to_stage(9)) == []

    def test_lists_tell_only_ids_where_only_those_are_asked_for(self, store: Store) -> None:
        accept(store, 3, spec=a_spec(tags=("x",)))
        query = RunQuery("acme", tag="x", limit=2)
        assert list(store.listed(query)) == [(run.seq, run.id) for run in store.runs(query)]
        assert [run_id for _seq, run_id in store.listed(query)] == [a_run_id(3), a_run_id(2)]
