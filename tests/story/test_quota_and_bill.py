"""A hundred runs in one call on a quota of two: the queue, the order and the bill."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from runyard.core.scheduling.ahead import MOST
from tests.support.installation import Installation, manifest, running_installation, write_code

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]
RUNS = 100
QUOTA = 2


def test_a_hundred_runs_on_a_quota_of_two(tmp_path: Path) -> None:
    prices = "price_gpu_hour = 1.5\nprice_cpu_hour = 0.25\nprice_gb_hour = 0.125\n"
    with running_installation(tmp_path, "--fake-gpus", "4", settings=prices) as yard:
        yard.cli("quota", "set", "default", "--gpus", str(QUOTA))
        write_code(yard.folder / "code", {"README": "nothing to see\n"})
        (yard.folder / "m.yml").write_text(manifest("echo {index}; sleep 0.05"))
        values = ",".join(str(index) for index in range(RUNS))
        ids = [str(each) for each in yard.json("train", "code", "m.yml", "--set", f"index={values}")["ids"]]
        assert len(set(ids)) == RUNS
        runs = yard.client().wait(ids, timeout=200)
        assert {run.state for run in runs} == {"completed"}
        assert most_at_once(yard) == QUOTA
        order = order_of_starts(yard)
        assert sorted(order) == sorted(ids)
        check_order(ids, order)
        check_bill(yard, ids)


def check_order(ids: list[str], order: list[str]) -> None:
    """All begin in the order of the queue. Two that end at the same moment are told of in either order, and with each
    the one that takes over from it; a room that nobody took over goes to the last that was granted, which so comes
    early (decision 17)."""
    ahead = [place - order.index(run) for place, run in enumerate(ids)]
    early = [places for places in ahead if places >= QUOTA]
    assert len(early) <= RUNS // 10, early
    assert max(ahead) <= QUOTA * MOST
    assert -min(ahead) < QUOTA + len(early)


def most_at_once(yard: Installation) -> int:
    """The most runs that held a slot at one moment, from the account's events in their order."""
    held: set[str] = set()
    most = 0
    for event in yard.events():
        if event["kind"] == "assigned":
            held.add(event["run"])
        elif event["kind"] == "attempt_ended":
            held.discard(event["run"])
        most = max(most, len(held))
    assert not held
    return most


def order_of_starts(yard: Installation) -> list[str]:
    """Runs in the order in which slots were assigned. A run that was given slots, and took others over by itself
    meanwhile, is told of twice."""
    return list(dict.fromkeys(event["run"] for event in yard.events() if event["kind"] == "assigned"))


def check_bill(yard: Installation, ids: list[str]) -> None:
    """The total equals the sum over the runs, and is no more than slots x time."""
    shown = [yard.get(f"/training-runs/{each}") for each in ids]
    total = yard.json("usage")["total"]
    assert total["runs"] == RUNS
    assert round(sum(run["gpu_seconds"] for run in shown), 3) == round(total["gpu_seconds"], 3)
    assert sum(Decimal(run["cost"]) for run in shown) == Decimal(total["cost"]) > 0
    spans = [attempt for run in shown for attempt in run["attempts"]]
    first = min(datetime.fromisoformat(each["assigned_at"]) for each in spans)
    last = max(datetime.fromisoformat(each["released_at"]) for each in spans)
    assert total["gpu_seconds"] <= QUOTA * (last - first).total_seconds() + 1e-6
