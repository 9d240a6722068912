"""Metrics over the API: brought by a node, shown as summaries, points, CSV, and followed."""

import csv
import io
import math
import threading
from array import array
from typing import Any

import pytest

from runyard.core.metrics import NO_STEP, Series
from runyard.wire.points import encode
from tests.api.serving import Answer, Api, Machine, sse


def points(first: int = 0, count: int = 3, group: str = "train", name: str = "loss") -> bytes:
    steps = range(first, first + count)
    series = Series(
        group, name, array("q", steps), array("q", (1000 + s for s in steps)), array("d", (s / 2 for s in steps))
    )
    return encode([series], {})


def bring(api: Api, run: str, offset: int, chunk: bytes, *, where: str = "1/1", token: str = "node") -> Answer:
    return api.call("PUT", f"/node/metrics/{run}/{where}?offset={offset}", chunk, token=token)


@pytest.fixture(scope="module")
def measured(api: Api, machine: Machine) -> str:
    """A completed run with points of `train/loss` of two learners, and of `odd`."""
    run = machine.started()
    values = array("d", [math.nan, math.inf, -math.inf])
    odd = Series("", "odd", array("q", [NO_STEP, 1, 2]), array("q", [0, 1, 2]), values)
    stream = points() + encode([odd], {}, ("One file was left out.",)) + points(3)
    assert bring(api, run, 0, stream).json() == {"size": len(stream)}
    assert bring(api, run, 0, points(), where="1/2").status == 200
    machine.end(run)
    return run


def test_summaries(api: Api, measured: str) -> None:
    answer = api.get(f"/training-runs/{measured}/metrics")
    assert answer["notes"] == ["One file was left out."]
    odd, loss = answer["items"]
    assert loss == {
        "group": "train", "name": "loss", "points": 9, "first": 0.0, "last": 1.0, "last_step": 2,
        "last_at": "1970-01-01T00:00:01.002Z", "lowest": 0.0, "lowest_step": 0, "highest": 2.5, "highest_step": 5,
        "best": 0.0, "best_step": 0,
    }  # fmt: skip
    assert (odd["points"], odd["last"], odd["best"]) == (3, None, None)
    assert "series" not in answer
    shown = api.get(f"/training-runs/{measured}")["metrics"]
    assert (shown["train/loss"]["last"], shown["odd"]["last"]) == (1.0, None)
    listed = [run for run in api.get("/training-runs")["items"] if run["id"] == measured]
    assert listed[0]["metrics"]["train/loss"]["points"] == 9


def series_of(api: Api, run: str, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/training-runs/{run}/metrics?points=true&{query}")["series"]
    return found


def test_points(api: Api, measured: str) -> None:
    odd, first, second = series_of(api, measured, "")
    assert (first["group"], first["name"], first["learner"]) == ("train", "loss", 1)
    assert first["steps"] == [0, 1, 2, 3, 4, 5]
    assert first["values"] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert first["times_ms"] == [1000, 1001, 1002, 1003, 1004, 1005]
    assert (second["learner"], second["steps"]) == (2, [0, 1, 2])
    assert (odd["steps"], odd["values"]) == ([None, 1, 2], ["NaN", "Infinity", "-Infinity"])
    assert [len(each["steps"]) for each in series_of(api, measured, "name=loss&learner=1&limit=2")] == [2]
    assert [each["steps"] for each in series_of(api, measured, "group=train&learner=1&after_step=3")] == [[4, 5]]
    assert series_of(api, measured, "name=none") == []


def test_csv(api: Api, measured: str) -> None:
    answer = api.call("GET", f"/training-runs/{measured}/metrics?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert len(rows) == 12
    assert rows[0] == {
        "group": "train", "name": "loss", "learner": "1", "attempt": "1", "step": "0",
        "time": "1970-01-01T00:00:01.000Z", "value": "0.0",
    }  # fmt: skip
    assert [(row["step"], row["value"]) for row in rows if row["name"] == "odd"] == [
        ("", "NaN"), ("1", "Infinity"), ("2", "-Infinity"),
    ]  # fmt: skip
    asked = api.call("GET", f"/training-runs/{measured}/metrics?name=loss&limit=2", headers={"Accept": "text/csv"})
    assert asked.body.count(b"\r\n") == 5


@pytest.mark.parametrize("query", ["format=xml", "limit=1", "learner=0", "after_step=" + "9" * 40])
def test_questions_that_make_no_sense(api: Api, measured: str, query: str) -> None:
    assert api.call("GET", f"/training-runs/{measured}/metrics?{query}").code == "invalid_request"


@pytest.mark.parametrize("last", ["x", "1:1", "1:1:-1", "1:1:1:1", ",1:1:" + "9" * 40])
def test_places_to_go_on_from_that_make_no_sense(api: Api, measured: str, last: str) -> None:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
    assert api.call("GET", f"/training-runs/{measured}/metrics", headers=headers).code == "invalid_request"


def test_the_runs_of_others_are_not_there(api: Api, measured: str) -> None:
    assert api.call("GET", f"/training-runs/{measured}/metrics", token="other").status == 404


def test_what_nodes_may_bring(api: Api, machine: Machine) -> None:
    run = machine.started()
    assert bring(api, run, 0, points(), token="node2").status == 404
    assert bring(api, run, 0, points(), where="2/1").status == 404
    assert bring(api, run, 0, points(), where="0/1").status == 404
    assert bring(api, run, 0, points(), token="owner").status == 403
    assert bring(api, run, 7, points()).json() == {"size": 0}
    whole = points()
    assert bring(api, run, 0, whole[:40]).json() == {"size": 40}
    assert api.call("GET", f"/node/metrics/{run}/1/1/size", token="node").json() == {"size": 40}
    assert bring(api, run, 30, whole[30:]).json() == {"size": len(whole)}
    assert [len(each["steps"]) for each in series_of(api, run, "")] == [3]
    machine.end(run)


def test_following_resumes_and_ends(api: Api, machine: Machine) -> None:
    run = machine.started()
    bring(api, run, 0, points())
    path, headers = f"/training-runs/{run}/metrics?name=loss", {"Accept": "text/event-stream"}
    with api.open("GET", path, headers=headers) as response:
        events = sse(response)
        name, data, place = next(events)
        assert (name, data["series"][0]["steps"], data["series"][0]["attempt"]) == ("points", [0, 1, 2], 1)
        assert next(events)[0] == "state"
        later = threading.Timer(0, bring, (api, run, len(points()), points(3)))
        later.start()
        name, data, second = next(events)
        assert (name, data["series"][0]["steps"]) == ("points", [3, 4, 5])
        later.join()
    machine.end(run)
    for last, steps in ((place, [3, 4, 5]), (second, None)):
        with api.open("GET", path, headers=headers | {"Last-Event-ID": str(last)}) as response:
            told = list(sse(response))
        assert told[-1][:2] == ("end", told[-1][1])
        assert told[-1][1]["state"] == "completed"
        assert [data["series"][0]["steps"] for name, data, _ in told if name == "points"] == ([steps] if steps else [])


def test_a_deleted_run_has_none_any_more(api: Api, machine: Machine) -> None:
    run = machine.started()
    bring(api, run, 0, points())
    machine.end(run)
    assert api.call("DELETE", f"/training-runs/{run}").status == 204
    assert api.call("GET", f"/training-runs/{run}/metrics").status == 404
    assert not (api.home / "logs" / run).exists()
