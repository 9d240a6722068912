"""Nobody starves: whatever comes, each run starts within what its account's share needs and the longest limit."""

from __future__ import annotations

import random

from hypothesis import event, given, settings
from hypothesis import strategies as st

from runyard.testing.simulator.figures import late_by
from runyard.testing.simulator.simulation import CHECKPOINT_MS, GRACE_MS, Simulation
from runyard.testing.simulator.workloads import HOUR, Coming

WEIGHTS = {"acme": 1.0, "brick": 1.0, "coal": 2.0}
MACHINES = [4, 4, 4, 4]
LONGEST = 6 * HOUR
SLACK = CHECKPOINT_MS + GRACE_MS + 60_000
"""Work that a stop loses is done twice, and a plan is made up to a minute after what it answers."""

# Sizes divide a machine and none is above the least share, which is 4 GPUs: what does not fit in a share at all, or
# leaves gaps in each machine for ever, has no bound by shares.
comings = st.builds(
    lambda at, account, gpus, lasts, times: Coming(at, account, gpus, lasts, min(LONGEST, lasts * times)),
    st.integers(0, 20 * HOUR),
    st.sampled_from(["acme", "acme", "brick", "coal"]),
    st.sampled_from([1, 1, 1, 2, 4]),
    st.integers(HOUR // 60, 4 * HOUR),
    st.integers(1, 4),
)


@settings(max_examples=30)  # a whole simulation each
@given(st.lists(comings, min_size=1, max_size=120))
def test_no_run_waits_longer_than_its_share_explains(work: list[Coming]) -> None:
    coming = sorted(work, key=lambda each: each.at_ms)
    result = Simulation(MACHINES, WEIGHTS, "Runyard", pause_ms=60_000).work(coming)
    assert len(result.runs) == len(coming)
    assert all(run.wait_ms is not None for run in result.runs)
    worst = max(late_by(result, WEIGHTS, LONGEST))
    event("waited for a part of the bound" if worst > -LONGEST else "hardly waited")
    assert worst <= SLACK


def worst_of_a_crowd(policy: str) -> float:
    """One account asks for four times what the others do, and first: who waits longest beyond the bound, in ms."""
    chance = random.Random(3)
    coming: list[Coming] = []
    for n in range(120):
        lasts = chance.randrange(HOUR // 60, 4 * HOUR)
        account = chance.choice(("acme", "acme", "acme", "acme", "brick", "coal"))
        gpus, limit = chance.choice((1, 1, 1, 2, 4)), min(LONGEST, lasts * chance.randint(1, 4))
        coming.append(Coming(n * 2 * 60_000, account, gpus, lasts, limit))
    result = Simulation(MACHINES, WEIGHTS, policy, pause_ms=60_000).work(coming)
    return max(late_by(result, WEIGHTS, LONGEST))


def test_the_bound_is_one_that_a_queue_without_shares_breaks() -> None:
    assert worst_of_a_crowd("Runyard") <= SLACK
    assert min(worst_of_a_crowd("FIFO"), worst_of_a_crowd("plain EASY")) > HOUR
