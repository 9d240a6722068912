"""The simulator: nothing lost, nothing oversubscribed, and policies differ as they must."""

from __future__ import annotations

from runyard.core.scheduling.plan import Plan
from runyard.core.scheduling.snapshot import Snapshot
from runyard.testing.simulator.cycles import Size, cluster, table
from runyard.testing.simulator.figures import late_by, machines, simulate
from runyard.testing.simulator.simulation import Simulation
from runyard.testing.simulator.workloads import HOUR, SYNTHETIC, accounts_of, draw

GPUS = 128


def test_all_runs_end_and_no_slot_is_given_twice() -> None:
    seen: list[int] = []

    def look(given: Snapshot, plan: Plan) -> None:
        held = [(each.node_id, slot) for each in given.busy for slot in each.slots]
        held += [(start.node_id, slot) for start in plan.starts for slot in start.slots]
        assert len(held) == len(set(held)) <= GPUS
        seen.append(len(held))

    coming = draw(SYNTHETIC, 3, gpus=GPUS, runs=250, load=1.0, by_weight=True)
    result = Simulation(machines(GPUS), accounts_of(SYNTHETIC), "Runyard", pause_ms=300_000, see=look).work(coming)
    assert len(result.runs) == 250
    assert all(run.wait_ms is not None and run.left_ms >= 0 for run in result.runs)
    assert max(seen) > GPUS // 2
    assert not [by for by in late_by(result, accounts_of(SYNTHETIC), SYNTHETIC.longest_ms) if by > 0]


def test_the_same_seed_is_the_same_day() -> None:
    one, two = (simulate(SYNTHETIC, "Runyard", 5, gpus=GPUS, runs=120, pause_ms=300_000) for _ in range(2))
    assert one == two


def test_small_runs_wait_less_than_first_come_first_served_and_use_is_higher() -> None:
    fifo, ours = (simulate(SYNTHETIC, name, 2, gpus=GPUS, runs=250, pause_ms=300_000) for name in ("FIFO", "Runyard"))
    assert ours.waits[(1, 1)][1] < fifo.waits[(1, 1)][1]
    assert ours.use > fifo.use


def test_shares_are_fairer_than_in_order_of_submission() -> None:
    easy, ours = (
        simulate(SYNTHETIC, name, 1, gpus=256, runs=900, load=2, until_ms=12 * HOUR, pause_ms=600_000, by_weight=False)
        for name in ("plain EASY", "Runyard")
    )
    assert ours.unfair < easy.unfair


def test_a_plan_for_many_machines_is_timed() -> None:
    size = Size(machines=20, accounts=4, waiting=200)
    assert len(cluster(size, full=True).busy) > 20
    assert [least > 0 for _, _, least, _ in table(size, 1)] == [True] * 4
