"""Every sample in a short form on a real installation; what comes second fetches and builds nothing."""

import json
from typing import Any

import pytest

from tests.support.installation import Installation, alive
from tools.runyard_cli import Runyard
from tools.samples import ALL, Outcome, push_data, submit

pytestmark = [pytest.mark.story, pytest.mark.timeout(180)]
SAMPLES = {sample.name: sample for sample in ALL}


@pytest.fixture(scope="module")
def yard(four_slots: Installation) -> Installation:
    push_data(Runyard(four_slots.home))
    return four_slots


def run(yard: Installation, name: str) -> Outcome:
    """One sample in its short form, which must end as it should."""
    outcome = submit(Runyard(yard.home), SAMPLES[name], short=True)
    assert outcome.ends == {SAMPLES[name].ends}, yard.cli("logs", outcome.ids[0], check=None).stdout
    return outcome


def staging_log(yard: Installation, name: str) -> str:
    return yard.cli("logs", name, "--stream", "load-model").stdout


def results(yard: Installation, name: str) -> dict[str, Any]:
    """The ``metrics.json`` that a run has stored."""
    with yard.client().read_result(name, "metrics.json") as stream:
        return json.loads(b"".join(stream.chunks()))


def test_numpy_in_either_dialect(yard: Installation) -> None:
    first, second = (run(yard, name) for name in ("numpy-softmax", "numpy-softmax, dialect two"))
    assert first.fetched > 0
    assert second.fetched == 0
    assert "in this machine's cache" in staging_log(yard, second.ids[0])
    assert results(yard, first.ids[0]) == results(yard, second.ids[0])
    assert results(yard, first.ids[0])["test_accuracy"] > 0.85


def points(yard: Installation, name: str) -> dict[str, list[tuple[int, float]]]:
    """Of group ``test``: steps and values by name."""
    series = yard.json("metrics", name, "--group", "test", "--points")["series"]
    return {each["name"]: list(zip(each["steps"], each["values"], strict=True)) for each in series}


def test_the_same_points_by_each_of_the_four_ways(yard: Installation) -> None:
    first = run(yard, "metrics, four ways")
    found = {yard.get(f"/training-runs/{one}")["hyper_parameters"]["way"]: points(yard, one) for one in first.ids}
    assert set(found) == {"file", "tensorboard", "regex", "log"}
    told = found["log"]
    assert [step for step, _ in told["accuracy"]] == list(range(1, 11))
    assert told["accuracy"][-1][1] > 0.9
    for way, series in found.items():
        assert set(series) == {"accuracy", "loss"}, way
        for name, values in series.items():
            assert values == [(step, pytest.approx(value, abs=1e-6)) for step, value in told[name]], (way, name)
    assert run(yard, "metrics, three ways").fetched == 0


@pytest.mark.parametrize(("name", "ranks"), [("ddp, 2 learners", 2), ("ddp, 2 x 2 processes", 4)])
def test_all_ranks_end_with_the_same_weights(yard: Installation, name: str, ranks: int) -> None:
    (one,) = run(yard, name).ids
    told = results(yard, one)
    assert told["ranks"] == ranks
    assert told["pictures"] == 1437 // ranks * ranks
    assert f"the same weights {told['weights']} on {ranks} ranks" in yard.cli("logs", one, "--learner", "1").stdout
    second = yard.cli("logs", one, "--learner", "2").stdout
    assert {line.split(",")[0] for line in second.splitlines() if line.startswith("rank")} == {
        f"rank {rank} of {ranks}" for rank in range(ranks // 2, ranks)
    }


def test_a_sweep_of_24_from_one_command(yard: Installation) -> None:
    ids = run(yard, "sweep of 24").ids
    shown = [yard.get(f"/training-runs/{name}") for name in ids]
    values = {tuple(each["hyper_parameters"][key] for key in ("lr", "width", "decay")) for each in shown}
    assert len(values) == len(ids) == 24
    assert run(yard, "sweep, dialect two").fetched == 0


@pytest.mark.parametrize("name", ["wrong-command", "missing-data", "out-of-memory", "hang"])
def test_the_failing_ones_in_dialect_two(yard: Installation, name: str) -> None:
    """In dialect one they are stories."""
    (one,) = run(yard, f"{name}, dialect two").ids
    assert alive(one) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_keras_builds_its_environment_once(yard: Installation) -> None:
    """The package alone is some 250 MB: half a minute with a quick index."""
    first = run(yard, "keras-npz")
    again = run(yard, "keras-npz, dialect two")
    assert first.fetched > 100_000_000
    assert again.fetched == 0
    assert "nothing is built" in staging_log(yard, again.ids[0])
    assert results(yard, again.ids[0])["test_accuracy"] > 0.5
