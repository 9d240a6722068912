"""The store's contract: submissions, and reading runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from runyard.core import lifecycle
from runyard.core.account import Account
from runyard.core.errors import Conflict, NotFound
from runyard.core.events import Event, EventKind
from runyard.core.resources import Resources
from runyard.core.run import Run, StateName, StopCause, Waiting
from runyard.core.spec import EvaluationMetrics, Framework, Options
from runyard.ports.store import RunQuery, Store, StoredSpec
from runyard.testing.builders import NOW, ONE_GPU, a_run_id, a_spec, a_submission
from runyard.testing.lives import accept, finish, known, start, step

ALL = 1000


def ids(runs: Sequence[Run]) -> list[str]:
    """The ids of runs, in their order."""
    return [run.id for run in runs]


class RunContract:
    """The way in, and looking."""

    def test_a_submission_becomes_waiting_runs(self, store: Store) -> None:
        spec = a_spec(name="mnist", priority=70, tags=("b", "a", "b"), max_retries=2)
        first, second = accept(store, 2, spec=spec)
        assert first == Run(
            id=a_run_id(1), seq=1, account_id="acme", member_id="mia", name="mnist", spec_id=first.spec_id,
            parameters='{"trial":0}', class_id=first.class_id, resources=ONE_GPU, priority=70, rank=first.rank,
            state=Waiting(), version=1, created_ms=NOW, max_retries=2, tags=("b", "a"),
        )  # fmt: skip
        assert (second.id, second.seq, second.parameters) == (a_run_id(2), 2, '{"trial":1}')
        assert second.rank > first.rank
        assert (second.spec_id, second.class_id) == (first.spec_id, first.class_id)
        assert store.counts(None) == {StateName.waiting: 2}

    def test_each_run_has_an_accepted_event(self, store: Store) -> None:
        accept(store, 3, now_ms=NOW + 5)
        told = store.events(0, ALL)
        assert [recorded.seq for recorded in told] == [1, 2, 3]
        assert [recorded.event for recorded in told] == [
            Event(EventKind.accepted, a_run_id(number), "acme", NOW + 5, None, {"member": "mia"})
            for number in (1, 2, 3)
        ]

    def test_submissions_follow_each_other(self, store: Store) -> None:
        early, late = accept(store, 3), accept(store, 2, first=10)
        runs = early + late
        assert [run.seq for run in runs] == [1, 2, 3, 4, 5]
        assert [run.rank for run in runs] == sorted({run.rank for run in runs})
        assert late[0].spec_id != early[0].spec_id
        assert late[0].class_id == early[0].class_id

    def test_a_class_is_an_account_a_priority_and_a_shape(self, store: Store) -> None:
        specs = [a_spec(), a_spec(priority=51), a_spec(resources=Resources(1, 1000, 1025)), a_spec(name="same class")]
        runs = [accept(store, first=number, spec=spec)[0] for number, spec in enumerate(specs)]
        runs += accept(store, first=9, account_id="beta", member_id="ben")
        one, other_priority, other_shape, same, other_account = (run.class_id for run in runs)
        assert same == one
        assert len({one, other_priority, other_shape, other_account}) == 4

    def test_what_runs_share_is_kept_whole(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        values = (
            ("lr", 0.1),
            ("whole", 1.0),
            ("n", 3),
            ("big", 10**30),
            ("on", True),
            ("opt", "é\u2028\x00"),
            ("top", math.inf),
        )
        options = Options(
            hyper_parameters=values, env=(("K", "V"),), after=("training-x",), max_runtime_ms=1, network=False
        )
        metrics = EvaluationMetrics("regex_extractor", "log", (("test", r"%{FLOAT:x}\n"),))
        spec = replace(a_spec(options=options), framework=Framework("torch", "2"), metrics=metrics)
        provenance = {"git": {"dirty": [1, None]}}
        submission = a_submission(spec=spec)
        store.submit(
            replace(submission, code_sha256="c" * 64, sealed=b"\x00\xff", append_args=True, provenance=provenance)
        )
        run = known(store, a_run_id(1))
        expected = StoredSpec(run.spec_id, "acme", spec, "c" * 64, True, provenance, b"\x00\xff")
        stored = store.spec(run.spec_id)
        assert stored == expected
        assert stored is not None
        kinds = [type(value) for _name, value in stored.spec.options.hyper_parameters]
        assert kinds == [float, float, int, int, bool, str, float]
        assert store.spec(run.spec_id + 1) is None

    def test_notes_names_and_parameters_are_each_runs_own(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        submission = replace(
            a_submission(2), names=("one", "zwei ü"), parameters=("{}", '{"x":"%s :name ?"}'), notes=("scaled", "b")
        )
        store.submit(submission)
        first, second = known(store, a_run_id(1)), known(store, a_run_id(2))
        assert (first.name, first.parameters, first.notes) == ("one", "{}", ("scaled", "b"))
        assert (second.name, second.parameters, second.notes) == ("zwei ü", '{"x":"%s :name ?"}', ("scaled", "b"))

    def test_very_many_runs_each_get_what_is_theirs(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        names = ("a",) * 1500 + ("b",) * 2600
        own = tuple(f'{{"n":{number},"text":"ü\\"{number}","list":[{number}]}}' for number in range(len(names)))
        made = replace(a_submission(len(names), first=7), names=names, parameters=own)
        assert store.submit(made) == (made.ids, False)
        runs = store.runs_of(made.ids)
        assert [(run.id, run.name, run.parameters) for run in runs] == list(zip(made.ids, names, own, strict=True))
        assert [run.seq for run in runs] == list(range(1, len(names) + 1))
        assert [run.rank for run in runs] == sorted({run.rank for run in runs})
        assert [each.event.run_id for each in store.events(0, len(names))] == list(made.ids)

    def test_an_account_must_be_there(self, store: Store) -> None:
        with pytest.raises(NotFound, match="acme"):
            store.submit(a_submission())
        assert (store.last_seq(), store.run(a_run_id(1))) == (0, None)

    def test_a_submission_has_runs_and_as_many_names(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        for bad in (a_submission(0), replace(a_submission(2), names=("one",)), replace(a_submission(2), parameters=())):
            with pytest.raises(ValueError, match="at least one run"):
                store.submit(bad)
        assert store.last_seq() == 0

    @pytest.mark.parametrize("taken", [(a_run_id(3), a_run_id(2)), (a_run_id(4), a_run_id(4))])
    def test_an_id_in_use_refuses_the_whole_submission(self, store: Store, taken: tuple[str, str]) -> None:
        accept(store, 2)
        with pytest.raises(Conflict):
            store.submit(replace(a_submission(2, key="k"), ids=taken))
        assert store.last_seq() == 2
        assert store.counts("acme") == {StateName.waiting: 2}
        assert ids(store.runs(RunQuery("acme"))) == [a_run_id(2), a_run_id(1)]
        store.submit(a_submission(2, first=5, key="k"))
        assert known(store, a_run_id(5)).seq == 3

    def test_the_same_request_again_gets_the_first_answer(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        assert store.submit(a_submission(2, key="k", digest="d")) == ((a_run_id(1), a_run_id(2)), False)
        assert store.submit(a_submission(2, first=7, key="k", digest="d")) == ((a_run_id(1), a_run_id(2)), True)
        assert (store.last_seq(), store.run(a_run_id(7))) == (2, None)
        assert store.replay("acme", "k", "d") == (a_run_id(1), a_run_id(2))

    def test_another_request_under_the_same_key_is_refused(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        store.submit(a_submission(key="k", digest="d"))
        with pytest.raises(Conflict) as refusal:
            store.submit(a_submission(first=7, key="k", digest="other"))
        assert refusal.value.code == "idempotency_conflict"
        with pytest.raises(Conflict):
            store.replay("acme", "k", "other")
        assert store.last_seq() == 1

    def test_keys_belong_to_accounts(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        store.ensure_account(Account("beta", "Beta"))
        store.submit(a_submission(key="k", digest="d"))
        assert store.submit(a_submission(first=7, key="k", digest="other", account_id="beta")) == (
            (a_run_id(7),),
            False,
        )
        assert store.replay("acme", "other", "d") is None
        assert store.replay("nobody", "k", "d") is None

    def test_without_a_key_every_submission_counts(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        for first in (1, 2):
            assert store.submit(a_submission(first=first, digest="d"))[1] is False
        assert store.last_seq() == 2

    def test_submitters_at_once_lose_nothing(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(store.submit, [a_submission(5, first=1 + 5 * i) for i in range(24)]))
        assert all(replayed is False for _ids, replayed in answers)
        runs = store.runs(RunQuery(None, limit=ALL))
        assert [run.seq for run in runs] == list(range(120, 0, -1))
        assert {run.id for run in runs} == {a_run_id(1 + i) for i in range(120)}
        told = store.events(0, ALL)
        assert [recorded.seq for recorded in told] == list(range(1, 121))
        assert [recorded.event.run_id for recorded in told] == ids(list(reversed(runs)))
        assert store.counts("acme") == {StateName.waiting: 120}

    def test_of_the_same_request_at_once_one_is_accepted(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        with ThreadPoolExecutor(8) as pool:
            same = [a_submission(2, first=1 + 2 * i, key="k", digest="d") for i in range(8)]
            answers = list(pool.map(store.submit, same))
        assert sorted(replayed for _ids, replayed in answers) == [False] + [True] * 7
        assert len({run_ids for run_ids, _replayed in answers}) == 1
        assert store.last_seq() == 2

    @pytest.mark.parametrize(
        "run_id", ["", "training-", "training-000000000", "training-é", "a\x00b", "\udc80", "x" * 5000]
    )
    def test_no_run_of_an_unknown_id(self, store: Store, run_id: str) -> None:
        accept(store, first=77)
        assert store.run(run_id) is None

    def test_runs_are_listed_newest_first(self, store: Store) -> None:
        runs = accept(store, 3)
        assert list(store.runs(RunQuery("acme"))) == list(reversed(runs))
        assert ids(store.runs(RunQuery("acme", limit=2))) == [a_run_id(3), a_run_id(2)]
        assert list(store.runs(RunQuery("nobody"))) == []

    def test_runs_are_filtered_by_account_name_and_tag(self, store: Store) -> None:
        accept(store, 2, spec=a_spec(name="one", tags=("x", "y")))
        accept(store, 2, first=3, spec=a_spec(name="two", tags=("y",)))
        accept(store, 1, first=5, spec=a_spec(name="one", tags=("x",)), account_id="beta", member_id="ben")
        assert ids(store.runs(RunQuery(None))) == [a_run_id(n) for n in (5, 4, 3, 2, 1)]
        assert ids(store.runs(RunQuery("beta"))) == [a_run_id(5)]
        assert ids(store.runs(RunQuery("acme", name="one"))) == [a_run_id(2), a_run_id(1)]
        assert ids(store.runs(RunQuery(None, tag="x"))) == [a_run_id(n) for n in (5, 2, 1)]
        assert ids(store.runs(RunQuery("acme", tag="y", limit=3))) == [a_run_id(n) for n in (4, 3, 2)]
        assert ids(store.runs(RunQuery("acme", tag="y", name="two"))) == [a_run_id(4), a_run_id(3)]
        for nothing in ("z", "x\x00", "\udc80", "X", "%"):
            assert ids(store.runs(RunQuery("acme", tag=nothing))) == []
            assert ids(store.runs(RunQuery("acme", name=nothing))) == []

    def test_runs_are_filtered_by_state(self, store: Store) -> None:
        runs = accept(store, 6, spec=a_spec(tags=("x",)))
        finish(store, runs[0])
        start(store, runs[1])
        step(store, lifecycle.stop(runs[2], StopCause.cancel, NOW))
        expected = {
            frozenset({StateName.completed}): [1],
            frozenset({StateName.running, StateName.canceled}): [3, 2],
            frozenset({StateName.waiting, StateName.completed}): [6, 5, 4, 1],
            frozenset({StateName.failed}): [],
        }
        for states, numbers in expected.items():
            for query in (RunQuery("acme", states), RunQuery(None, states), RunQuery("acme", states, tag="x")):
                assert ids(store.runs(query)) == [a_run_id(n) for n in numbers]
            assert ids(store.runs(RunQuery("acme", states, limit=2))) == [a_run_id(n) for n in numbers[:2]]

    @pytest.mark.parametrize("states", [frozenset[StateName](), frozenset({StateName.waiting, StateName.running})])
    @pytest.mark.parametrize("account_id", ["acme", None])
    def test_pages_cover_every_run_once(
        self, store: Store, states: frozenset[StateName], account_id: str | None
    ) -> None:
        for run in accept(store, 9)[::2]:
            start(store, run)
        accept(store, 2, first=10, account_id="beta", member_id="ben")
        seen: list[Run] = []
        before: int | None = None
        while page := store.runs(RunQuery(account_id, states, before_seq=before, limit=2)):
            assert len(page) <= 2
            seen += page
            before = page[-1].seq
        numbers = range(11, 0, -1) if account_id is None else range(9, 0, -1)
        assert ids(seen) == [a_run_id(n) for n in numbers]

    def test_ids_are_found_by_their_beginning(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        store.ensure_account(Account("beta", "Beta"))
        names = (
            "training-Aa0000000",
            "training-aA0000000",
            "training-aa0000000",
            "training-aa0000001",
            "training-b_0000000",
        )
        store.submit(replace(a_submission(5), ids=names))
        store.submit(replace(a_submission(account_id="beta"), ids=("training-aa0000002",)))
        assert list(store.run_ids("acme", "training-aa", 10)) == ["training-aa0000000", "training-aa0000001"]
        assert list(store.run_ids(None, "training-aa", 10)) == [f"training-aa000000{n}" for n in range(3)]
        assert list(store.run_ids(None, "training-a", 2)) == ["training-aA0000000", "training-aa0000000"]
        assert list(store.run_ids("acme", "training-aa0000001", 10)) == ["training-aa0000001"]
        assert list(store.run_ids("acme", "", 10)) == sorted(names)
        for nothing in ("training-__", "training-%", "training-z", "é", "training-a\x00", "aa"):
            assert list(store.run_ids("acme", nothing, 10)) == []

    def test_counts_follow_the_states(self, store: Store) -> None:
        runs = accept(store, 4)
        accept(store, 2, first=9, account_id="beta", member_id="ben")
        finish(store, runs[0])
        start(store, runs[1])
        mine = {StateName.completed: 1, StateName.running: 1, StateName.waiting: 2}
        assert {state: count for state, count in store.counts("acme").items() if count} == mine
        everyone = {**mine, StateName.waiting: 4}
        assert {state: count for state, count in store.counts(None).items() if count} == everyone
        assert not any(store.counts("nobody").values())
