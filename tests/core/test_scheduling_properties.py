"""What holds of every plan, for whatever queue, machines and quotas."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from hypothesis import event, given
from hypothesis import strategies as st

from runyard.core.resources import Resources
from runyard.core.run import BLOCKED
from runyard.core.scheduling.plan import Plan, Wait, in_order, make_plan
from runyard.core.scheduling.snapshot import Head, Policy, QueueClass, Snapshot
from tests.core.queues import ACCOUNTS, WAITS_ALONE, Queued, account, node, snapshot, snapshots


@dataclass(slots=True)
class Replay:
    """The starts of a plan one by one: what each node and account holds of it."""

    taken: dict[str, Resources] = field(default_factory=lambda: defaultdict(Resources))
    slots: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    gpus: Counter[str] = field(default_factory=Counter[str])


def replay(given: Snapshot, plan: Plan) -> Replay:
    classes = {queue_class.id: queue_class for queue_class in given.classes}
    seen = Replay()
    for start in plan.starts:
        queue_class = classes[start.class_id]
        assert len(start.slots) == queue_class.shape.gpus
        seen.taken[start.node_id] += queue_class.shape
        seen.slots[start.node_id] += start.slots
        seen.gpus[queue_class.account_id] += queue_class.shape.gpus
    return seen


def heads_of(given: Snapshot) -> dict[str, tuple[QueueClass, Head]]:
    return {head.run_id: (queue_class, head) for queue_class, head in in_order(given.classes)}


@given(snapshots())
def test_no_machine_is_oversubscribed_and_no_slot_given_twice(given: Snapshot) -> None:
    plan = make_plan(given)
    event(f"{min(3, len(plan.starts))} starts or more")
    seen = replay(given, plan)
    for room in given.nodes:
        taken, slots = seen.taken[room.id], seen.slots[room.id]
        assert tuple(slots) == room.free_slots[: len(slots)]  # distinct, free, and the lowest first
        assert taken.fits_in(room.free.floored())
    assert set(seen.taken) <= {room.id for room in given.nodes}


@given(snapshots())
def test_no_quota_is_exceeded(given: Snapshot) -> None:
    seen = replay(given, make_plan(given))
    for room in given.accounts:
        if room.quota_gpus is not None and seen.gpus[room.id]:
            assert room.used_gpus + seen.gpus[room.id] <= room.quota_gpus


@given(snapshots())
def test_starts_are_allowed_where_their_data_are_and_once(given: Snapshot) -> None:
    plan, heads = make_plan(given), heads_of(given)
    nodes = {room.id: room for room in given.nodes}
    accounts = {room.id: room for room in given.accounts}
    assert len({start.run_id for start in plan.starts}) == len(plan.starts)
    for start in plan.starts:
        queue_class, head = heads[start.run_id]
        assert (start.class_id, start.node_id) == (queue_class.id, head.node_id)
        assert nodes[start.node_id].closed is None
        assert head.not_before_ms <= given.now_ms
        assert not accounts[queue_class.account_id].paused
        assert not given.paused


@given(snapshots())
def test_every_head_starts_or_is_told_why_not(given: Snapshot) -> None:
    plan, heads = make_plan(given), heads_of(given)
    started = {start.run_id for start in plan.starts}
    assert started | set(plan.heads) == set(heads)
    assert not started & set(plan.heads)
    for queue_class in given.classes:
        left = [head.run_id for head in queue_class.heads if head.run_id not in started]
        assert plan.waits.get(queue_class.id) == (plan.heads[left[0]] if left else None)
    for _, text in plan.heads.values():
        assert text[0].isupper()
        assert text.endswith(".")


@given(snapshots(), st.booleans())
def test_a_class_that_is_told_at_once_is_told_what_each_head_would_be(given: Snapshot, anywhere: bool) -> None:
    """A class with a run that waits for others at its end is looked at head by head: nothing else may differ."""
    limits = (None, 3_600_000, 3_600_000, 86_400_000)
    more = tuple(
        replace(
            each,
            heads=tuple(
                replace(head, limit_ms=limits[head.rank % 4], node_id="" if anywhere else head.node_id)
                for head in each.heads
            ),
        )
        for each in given.classes
    )
    blocked = tuple(
        replace(each, heads=(*each.heads, Head(f"blocked-{each.id}", 999, "", not_before_ms=BLOCKED))) for each in more
    )
    at_once = make_plan(replace(given, classes=more))
    one_by_one = make_plan(replace(given, classes=blocked))
    event(f"anywhere: {anywhere}, {min(3, len(at_once.heads))} wait or more")
    assert {run_id: no for run_id, no in one_by_one.heads.items() if not run_id.startswith("blocked")} == at_once.heads
    assert {each: one_by_one.waits[each] for each in at_once.waits} == at_once.waits
    assert replace(one_by_one, heads={}, waits={}) == replace(at_once, heads={}, waits={})


@given(snapshots(), st.randoms(use_true_random=False))
def test_the_order_in_which_rows_are_read_does_not_matter(given: Snapshot, chance: object) -> None:
    shuffled = [list(rows) for rows in (given.nodes, given.accounts, given.classes)]
    for rows in shuffled:
        chance.shuffle(rows)  # type: ignore[attr-defined]  # Hypothesis' own Random has no public type
    nodes, accounts, classes = (tuple(rows) for rows in shuffled)
    again = make_plan(replace(given, nodes=nodes, accounts=accounts, classes=classes))
    assert again == make_plan(given)


@given(snapshots())
def test_the_plan_wakes_with_the_first_back_off_that_is_all_it_waits_for(given: Snapshot) -> None:
    plan, heads = make_plan(given), heads_of(given)
    back_offs = [heads[run_id][1].not_before_ms for run_id, (kind, _) in plan.heads.items() if kind is Wait.backoff]
    assert plan.wake_at_ms == min(back_offs, default=None)
    assert plan.wake_at_ms is None or plan.wake_at_ms > given.now_ms


@given(snapshots(), st.integers(0, 25))
def test_who_comes_later_changes_nothing_for_those_before(given: Snapshot, keep: int) -> None:
    given = replace(given, policy=Policy(fair_share=False))
    first = list(heads_of(given))[:keep]
    shortened = tuple(
        replace(c, heads=tuple(head for head in c.heads if head.run_id in set(first))) for c in given.classes
    )
    whole, part = make_plan(given), make_plan(replace(given, classes=shortened))
    assert part.starts == tuple(start for start in whole.starts if start.run_id in first)
    assert part.heads == {run_id: why for run_id, why in whole.heads.items() if run_id in first}


@given(snapshots())
def test_the_first_that_lacks_room_really_lacks_it(given: Snapshot) -> None:
    """Work is conserved: with all starts made, the first run that waits for a machine's room would still not fit."""
    plan, heads = make_plan(given), heads_of(given)
    seen, asked = replay(given, plan), set[str]()
    rooms = {room.id: room for room in given.nodes}
    for run_id, (kind, _) in plan.heads.items():
        queue_class, head = heads[run_id]
        if kind in WAITS_ALONE or kind is Wait.quota or head.node_id in asked:
            continue
        asked.add(head.node_id)
        assert kind is Wait.capacity
        room = rooms[head.node_id]
        there = replace(room.free, gpus=min(room.free.gpus, len(room.free_slots)))
        free = (there - seen.taken[head.node_id]).floored()
        assert not queue_class.shape.fits_in(free)


@given(snapshots())
def test_the_first_that_lacks_quota_really_lacks_it(given: Snapshot) -> None:
    plan, heads = make_plan(given), heads_of(given)
    for name in ACCOUNTS:
        room = next(room for room in given.accounts if room.id == name)
        before = room.used_gpus
        for run_id in heads:
            queue_class, _ = heads[run_id]
            if queue_class.account_id != name:
                continue
            if run_id not in plan.heads:
                before += queue_class.shape.gpus
            elif plan.heads[run_id][0] is Wait.quota:
                assert room.quota_gpus is not None
                assert before + queue_class.shape.gpus > room.quota_gpus
                if queue_class.shape.gpus <= room.quota_gpus:
                    break


@given(
    st.lists(st.sampled_from(ACCOUNTS), max_size=30),
    st.integers(0, 8),
    st.integers(1, 3),
    st.lists(st.sampled_from([10, 50, 90]), min_size=30, max_size=30),
)
def test_runs_of_one_size_start_in_order_until_nothing_is_left(
    accounts: list[str], slots: int, gpus: int, priorities: list[int]
) -> None:
    queue = [Queued(f"r{n}", gpus, account=a, priority=priorities[n]) for n, a in enumerate(accounts)]
    given = snapshot(queue, node(slots=slots), accounts=tuple(account(a) for a in ACCOUNTS))
    given = replace(given, policy=Policy(fair_share=False))
    order = sorted(range(len(queue)), key=lambda n: (-priorities[n], n))
    assert [start.run_id for start in make_plan(given).starts] == [f"r{n}" for n in order[: slots // gpus]]
