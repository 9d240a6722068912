"""Ids and filters in, views out."""

import json
from dataclasses import asdict, replace

import pytest

from runyard.core.errors import Conflict, NotFound, Refused
from runyard.core.reasons import Reason
from runyard.core.resources import Price
from runyard.engine import control, dispatch, nodes, queries, quotas, supervise
from runyard.engine.world import Rules
from runyard.ports.store import RunQuery
from runyard.testing.builders import a_submission
from tests.engine.yard import SECRET, Yard, manifest


def test_resolve_by_beginnings_and_places(yard: Yard) -> None:
    first, second, third = (yard.submit()[0] for _ in range(3))
    for text, run in {
        first: first,
        first.removeprefix("training-"): first,
        first[:-1]: first,
        second.removeprefix("training-")[:6]: second,
        "last": third,
        "last-0": third,
        "last-2": first,
    }.items():
        assert queries.resolve(yard.world, "acme", text).id == run, text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "training-",
        "nothing",
        "last-3",
        "last-x",
        "last-²",
        "last-" + "9" * 30,
        "last--1",
        "%",
        "training-%",
        "../..",
    ],
)
def test_what_names_no_run(yard: Yard, text: str) -> None:
    yard.submit(parameters=({}, {}, {}))
    with pytest.raises(NotFound):
        queries.resolve(yard.world, "acme", text)


def test_a_beginning_of_several_ids_names_some_of_them(yard: Yard) -> None:
    runs = yard.submit(parameters=({},) * 200)
    beginning = next(a[:10] for a in runs if sum(b.startswith(a[:10]) for b in runs) > 1)
    with pytest.raises(Conflict, match="begins several ids") as refusal:
        queries.resolve(yard.world, "acme", beginning)
    assert beginning in refusal.value.message


def test_nobody_elses_runs_are_found(yard: Yard) -> None:
    run = yard.submit()[0]
    for text in (run, "last"):
        with pytest.raises(NotFound):
            queries.resolve(yard.world, "other", text)


def test_a_view_of_a_run_holds_no_secret(yard: Yard) -> None:
    yard.fakes.objects.put("acme", "data", a=b"1")
    run = yard.submit(manifest(data="data", kind="s3"))[0]
    shown = asdict(queries.show(yard.world, yard.run(run)))
    assert SECRET not in json.dumps(shown)
    assert shown["data"][0]["bucket"] == "data"


def test_every_state_but_running_has_a_reason_and_all_have_a_sentence(yard: Yard) -> None:
    waiting, starting = yard.submit()[0], yard.starting()
    running = yard.running()
    yard.ends(running, 1)
    shown = {}
    for run in (waiting, starting, running):
        view = queries.show(yard.world, yard.run(run))
        shown[view.state] = view
        assert view.reason
        assert view.sentence
    assert shown["waiting"].readiness == "staging"
    assert shown["waiting"].position == 1
    assert (shown["storing"].reason, shown["storing"].fault, shown["storing"].exit_code) == ("nonzero_exit", "user", 1)
    control.cancel(yard.world, "acme", starting)
    assert queries.show(yard.world, yard.run(starting)).reason == "cancel"


def test_times_seconds_and_money_of_a_run_that_runs(yard: Yard) -> None:
    made = Yard(rules=Rules(price=Price(gpu_hour=3_600_000)))
    made.join()
    run = made.running()
    made.fakes.clock.pass_by(1500)
    view = queries.show(made.world, made.run(run))
    assert (view.gpu_seconds, view.cost) == (1.5, "0.001500")
    made.ends(run)
    made.fakes.clock.pass_by(9000)
    after = queries.show(made.world, made.run(run))
    assert (after.gpu_seconds, after.cost) == (1.5, "0.001500")


def reasons(yard: Yard, run: str) -> tuple[str, str]:
    shown = queries.explain(yard.world, yard.run(run))
    return shown.readiness or "", shown.sentence


def test_a_waiting_run_says_what_it_waits_for(yard: Yard) -> None:
    run = yard.submit()[0]
    assert reasons(yard, run) == ("staging", "Its code and data are being made ready.")
    assert yard.world.ready.ask("n1", yard.run(run).spec_id)
    yard.world.ready.report(yard.run(run).spec_id, 50, 200)
    assert "25 % of 200 bytes" in reasons(yard, run)[1]
    nodes.disconnected(yard.world, "n1", lambda: False)
    assert "No machine that is large enough is connected" in reasons(yard, run)[1]
    yard.join()
    yard.staged(run)
    nodes.disconnected(yard.world, "n1", lambda: False)
    assert "n1 is not connected" in reasons(yard, run)[1]
    yard.join(staged=(yard.run(run).spec_id,))
    control.set_quota(yard.world, "acme", 0)
    assert reasons(yard, run)[0] == "quota"
    control.set_quota(yard.world, "acme", None)
    control.pause(yard.world, "acme", True)
    assert reasons(yard, run)[0] == "paused"


def test_place_and_estimate(yard: Yard) -> None:
    for _ in range(2):
        run = yard.running()
        yard.fakes.clock.pass_by(60_000)
        yard.ends(run)
    runs = yard.submit(parameters=({},) * 5)
    yard.staged(runs[0])
    dispatch.dispatch(yard.world)
    first, last = (queries.show(yard.world, yard.run(run)) for run in (runs[2], runs[4]))
    assert (first.position, last.position) == (1, 3)
    assert first.estimate is not None
    assert last.estimate is not None
    assert first.estimate <= last.estimate
    assert queries.explain(yard.world, yard.run(runs[4])).ahead == 2


def test_a_machine_that_is_away_is_said(yard: Yard) -> None:
    storing, running = yard.storing(), yard.running()
    nodes.disconnected(yard.world, "n1", lambda: False)
    assert "n1 is not connected, which holds its results" in queries.explain(yard.world, yard.run(storing)).sentence
    assert "n1 is not connected, on which it runs" in queries.explain(yard.world, yard.run(running)).sentence


def test_steps_tell_the_life_of_a_run(yard: Yard) -> None:
    steps = queries.explain(yard.world, yard.run(yard.finished())).steps
    words = ("accepted", "ready", "slot assigned", "program began", "slot released", "results stored")
    assert len(steps) == len(words)
    assert all(word in step for word, step in zip(words, steps, strict=True))


def test_pages_of_runs(yard: Yard) -> None:
    runs = yard.submit(parameters=({},) * 5)
    seen, cursor = list[str](), None
    while True:
        page, cursor = queries.listing(yard.world, RunQuery("acme", before_seq=cursor, limit=2))
        seen += [view.id for view in page]
        if cursor is None:
            break
    assert seen == list(reversed(runs))


def test_the_queue_as_an_account_sees_it(yard: Yard) -> None:
    runs = yard.submit(parameters=({},) * 3)
    control.pause(yard.world, "acme", True)
    shown = queries.queue(yard.world, "acme", 2)
    assert [(item.position, item.id) for item in shown.items] == [(1, runs[0]), (2, runs[1])]
    assert (shown.waiting, shown.account_paused, shown.paused) == (3, True, False)
    assert queries.queue(yard.world, "other", 2).items == ()


def test_quota(yard: Yard) -> None:
    yard.running()
    shown = quotas.quota(yard.world, "acme")
    assert (shown.gpus, shown.used_gpus, shown.slots) == (None, 1, 2)
    with pytest.raises(NotFound):
        quotas.quota(yard.world, "nobody")


@pytest.mark.parametrize("by", ["account", "user", "day", "tag"])
def test_usage_adds_up(yard: Yard, by: str) -> None:
    run = yard.running(manifest(extra="runyard: {tags: [a, b]}\n"))
    yard.fakes.clock.pass_by(2000)
    yard.ends(run)
    lost = yard.running()
    yard.fakes.clock.pass_by(3000)
    supervise.lost(yard.world, "n1", lost, 1, Reason.shim_lost, "It died.")
    shown = queries.usage(yard.world, "acme", by, None, None)
    assert (shown.total.gpu_seconds, shown.total.waste_gpu_seconds, shown.total.attempts) == (2.0, 3.0, 2)
    assert {"account": "acme", "user": "Mia", "day": "2023-11-14", "tag": "a"}[by] in [i.group for i in shown.items]


def test_usage_by_something_else(yard: Yard) -> None:
    with pytest.raises(Refused, match="not by 'colour'"):
        queries.usage(yard.world, "acme", "colour", None, None)


def test_a_complete_id_that_begins_another_is_found(yard: Yard) -> None:
    run = yard.submit()[0]
    trial = run + "_0"
    yard.fakes.store.submit(replace(a_submission(now_ms=yard.now), ids=(trial,)))
    assert queries.resolve(yard.world, "acme", run).id == run
    assert queries.resolve(yard.world, "acme", trial).id == trial
