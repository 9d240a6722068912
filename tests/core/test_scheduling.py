"""Scheduling case by case: who starts where, who waits, and what they are told."""

from __future__ import annotations

import pytest

from runyard.core.resources import Resources
from runyard.core.run import BLOCKED
from runyard.core.scheduling.explain import READINESS, estimate_ms, standing
from runyard.core.scheduling.plan import Plan, Wait, in_order, make_plan
from runyard.core.scheduling.snapshot import NodeRoom, Snapshot
from tests.core.queues import NOW, Queued, account, node, outcome, snapshot

Q = Queued
CASES: list[tuple[str, Snapshot, str]] = [
    ("nothing waits", snapshot([]), ""),
    ("first come, first served", snapshot([Q("a"), Q("b"), Q("c")], node(slots=2)), "a:0 b:1 c:capacity"),
    ("priority first", snapshot([Q("a"), Q("b", priority=90)], node(slots=1)), "b:0 a:capacity"),
    (
        "within a priority in order of submission, across classes",
        snapshot([Q("a"), Q("b", account="brick"), Q("c"), Q("d", account="brick")], node(slots=3)),
        "a:0 b:1 c:2 d:capacity",
    ),
    (
        "three shapes interleaved",
        snapshot([Q("a", 2), Q("b"), Q("c", 2), Q("d", 3), Q("e")], node(slots=8)),
        "a:0,1 b:2 c:3,4 d:5,6,7 e:capacity",
    ),
    ("slots lowest first", snapshot([Q("a", 2), Q("b")], node(free=(1, 3, 6, 7))), "a:1,3 b:6"),
    (
        "quota holds its own account only",
        snapshot([Q("a"), Q("b"), Q("c", account="brick")], accounts=(account(quota=2, used=1),)),
        "a:0 c:1 b:quota",
    ),
    (
        "a run over quota holds the smaller ones behind it",
        snapshot([Q("a", 2), Q("b"), Q("c", account="brick")], accounts=(account(quota=2, used=1),)),
        "c:0 a:quota b:quota",
    ),
    (
        "but not those without GPUs",
        snapshot([Q("a", 2), Q("b", 0)], accounts=(account(quota=2, used=1),)),
        "b:- a:quota",
    ),
    (
        "and not when it can never have its quota",
        snapshot([Q("a", 4), Q("b")], accounts=(account(quota=2),)),
        "b:0 a:quota",
    ),
    (
        "no GPU at all is a quota too",
        snapshot([Q("a"), Q("b", 0)], accounts=(account(quota=0),)),
        "b:- a:quota",
    ),
    (
        "a quota spans machines",
        snapshot([Q("a"), Q("b", node="n2")], node("n1"), node("n2"), accounts=(account(quota=1),)),
        "a:0 b:quota",
    ),
    (
        "one that waits for others holds no quota",
        snapshot([Q("a", 2, wait_ms=BLOCKED), Q("b")], accounts=(account(quota=2, used=1),)),
        "b:0 a:after",
    ),
    (
        "and keeps no room",
        snapshot([Q("a", 4, wait_ms=BLOCKED), Q("b", 3)], node(slots=3)),
        "b:0,1,2 a:after",
    ),
    ("a big run reserves", snapshot([Q("a", 4), Q("b")], node(free=(0, 1, 2))), "a:capacity b:behind"),
    (
        "CPUs are kept for it like slots",
        snapshot([Q("a", 1, cpus=8), Q("b", 0, cpus=1)], node(slots=4, cpus=7)),
        "a:capacity b:behind",
    ),
    (
        "CPU-only work passes by",
        snapshot([Q("a", 4, cpus=8), Q("b", 0, cpus=4)], node(free=(0, 1), cpus=12)),
        "b:- a:capacity",
    ),
    (
        "but not through the CPUs that the big run needs",
        snapshot([Q("a", 4, cpus=8), Q("b", 0, cpus=5)], node(free=(0, 1), cpus=12)),
        "a:capacity b:behind",
    ),
    (
        "a class reserves once, however many of it wait",
        snapshot([Q("a", 4, cpus=4), Q("b", 4, cpus=4), Q("c", 0, cpus=4)], node(free=(0,), cpus=8)),
        "c:- a:capacity b:capacity",
    ),
    (
        "a reservation is for one machine",
        snapshot([Q("a", 4), Q("b", node="n2")], node("n1", slots=2), node("n2", slots=1)),
        "b:0 a:capacity",
    ),
    (
        "a machine is kept for one run, and who is held behind it keeps nothing",
        snapshot([Q("a", 4, cpus=8), Q("b", 1, cpus=4), Q("c", 0, cpus=8)], node(slots=1, cpus=16)),
        "c:- a:capacity b:behind",
    ),
    (
        "a class reserves on each machine that its runs wait for",
        snapshot(
            [Q("a", 2, node="n1"), Q("b", 2, node="n2"), Q("c", 1, node="n2")], node("n1", slots=1), node("n2", slots=1)
        ),
        "a:capacity b:capacity c:behind",
    ),
    (
        "one behind a closed machine still reserves on its own",
        snapshot(
            [Q("a", 2), Q("b", 2, node="n2"), Q("c", 1, node="n2")],
            node("n1", closed="It is draining."),
            node("n2", slots=1),
        ),
        "a:node_closed b:capacity c:behind",
    ),
    (
        "one behind a back-off still reserves",
        snapshot([Q("a", 2, wait_ms=9), Q("b", 2), Q("c", 1)], node(slots=1)),
        "a:backoff b:capacity c:behind",
    ),
    (
        "a closed machine starts nothing and holds nobody",
        snapshot(
            [Q("a"), Q("b", node="n2")], node("n1", closed="It is draining."), node("n2"), accounts=(account(quota=1),)
        ),
        "b:0 a:node_closed",
    ),
    (
        "nor does a run over quota there",
        snapshot(
            [Q("a", 2), Q("b", node="n2")],
            node("n1", closed="It is draining."),
            node("n2"),
            accounts=(account(quota=2, used=1),),
        ),
        "b:0 a:node_closed",
    ),
    ("an unknown machine", snapshot([Q("a", node="gone")]), "a:node_closed"),
    ("a paused queue", snapshot([Q("a"), Q("b", account="brick")], paused=True), "a:paused b:paused"),
    (
        "a paused account",
        snapshot([Q("a"), Q("b", account="brick")], accounts=(account(paused=True),)),
        "b:0 a:paused",
    ),
    (
        "an account whose budget is used up",
        snapshot([Q("a"), Q("b", account="brick")], accounts=(account(stopped="Its budget is used up."),)),
        "b:0 a:budget",
    ),
    ("a start window lets others pass", snapshot([Q("a", opens_in_ms=500), Q("b")], node(slots=1)), "b:0 a:window"),
    ("back-off lets others pass", snapshot([Q("a", wait_ms=500), Q("b")], node(slots=1)), "b:0 a:backoff"),
    ("CPUs run out", snapshot([Q("a", cpus=3), Q("b", cpus=3)], node(cpus=5)), "a:0 b:capacity"),
    (
        "memory runs out",
        snapshot([Q("a", memory_mib=600 * 1_024), Q("b", memory_mib=600 * 1_024)]),
        "a:0 b:capacity",
    ),
    (
        "several machines",
        snapshot(
            [Q("a", node="n2"), Q("b", 2), Q("c", node="n2"), Q("d")],
            node("n1", slots=2),
            node("n2", slots=1),
        ),
        "a:0 b:0,1 c:capacity d:capacity",
    ),
    ("an overfull machine", snapshot([Q("a", 0, cpus=1)], node(cpus=-2)), "a:capacity"),
    ("an overfull machine and one that asks for none of that", snapshot([Q("a", 1, cpus=0)], node(cpus=-2)), "a:0"),
    (
        "slots that are not there, whatever the sum says",
        snapshot([Q("a", 2)], NodeRoom("n1", (3,), Resources(4, 9_000, 9_000))),
        "a:capacity",
    ),
]


@pytest.mark.parametrize(("given", "expected"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_who_starts_and_who_waits(given: Snapshot, expected: str) -> None:
    assert outcome(make_plan(given)) == expected


def test_every_reason_to_wait_has_a_case_and_a_word_of_the_states_table() -> None:
    shown = {kind for _, given, _ in CASES for kind, _ in make_plan(given).heads.values()}
    assert shown == set(Wait) - {Wait.share}
    assert set(READINESS) == set(Wait)
    assert set(READINESS.values()) <= {"quota", "capacity", "paused", "after", "share", "budget", "window"}


def plan_of(*queue: Queued, **changes: object) -> Plan:
    return make_plan(snapshot(list(queue), **changes))  # type: ignore[arg-type]  # keyword arguments are not checked


def test_the_plan_wakes_when_the_first_back_off_ends() -> None:
    plan = plan_of(Q("a", wait_ms=900), Q("b", 2, wait_ms=300), Q("c", 3, wait_ms=500))
    assert plan.wake_at_ms == NOW + 300
    assert plan_of(Q("a", opens_in_ms=200), Q("b", wait_ms=300)).wake_at_ms == NOW + 200
    assert plan_of(Q("a", 9)).wake_at_ms is None
    assert plan_of(Q("a", wait_ms=300), paused=True).wake_at_ms is None


def test_a_back_off_that_ends_now_is_over() -> None:
    given = snapshot([Q("a", wait_ms=300)])
    late = Snapshot(NOW + 300, given.nodes, given.accounts, given.classes)
    assert [start.run_id for start in make_plan(late).starts] == ["a"]


def test_a_class_waits_for_what_its_first_run_waits_for() -> None:
    plan = plan_of(Q("a"), Q("b", wait_ms=5), Q("c", 9), Q("d", 9))
    (first, _), (second, _) = plan.waits[1], plan.waits[2]
    assert (first, second) == (Wait.backoff, Wait.capacity)
    assert set(plan.waits) == {1, 2}
    first_in_back_off = plan_of(Q("a", 9, wait_ms=5), Q("b", 9))
    assert first_in_back_off.waits[1] == first_in_back_off.heads["a"] != first_in_back_off.heads["b"]
    assert set(plan_of(Q("a"), Q("b")).waits) == set()


SENTENCES = [
    (snapshot([Q("a")], paused=True), "The queue is paused: `runyard queue resume` lets it go on."),
    (
        snapshot([Q("a")], accounts=(account(paused=True),)),
        "The account's queue is paused: `runyard queue resume` lets it go on.",
    ),
    (
        snapshot([Q("a", wait_ms=5)]),
        "The attempt before failed by the platform's fault; the next one starts after a short wait.",
    ),
    (snapshot([Q("a", node="gone")]), "The machine that holds its data is not connected."),
    (snapshot([Q("a")], node(closed="Its disk is full.")), "Its disk is full."),
    (
        snapshot([Q("a", 2)], accounts=(account(quota=2, used=1),)),
        "The account's quota of 2 GPUs leaves no room: 1 in use, 2 needed.",
    ),
    (
        snapshot([Q("a", 2)], accounts=(account(quota=1),)),
        "The run needs 2 GPUs and the account's quota is 1: raise the quota, or cancel the run and ask for fewer.",
    ),
    (
        snapshot([Q("b", 2), Q("a")], accounts=(account(quota=2, used=1),)),
        "An earlier run of the account waits for its quota and comes first.",
    ),
    (snapshot([Q("a", 2)], node(slots=1)), "Waits for room: 2 GPU slots (1 free)."),
    (snapshot([Q("a")], node(slots=0)), "Waits for room: 1 GPU slot (0 free)."),
    (
        snapshot([Q("a", cpus=2, memory_mib=2 * 1_024 * 1_024)], node(cpus=1)),
        "Waits for room: 2 CPUs (1 free), 2097152 MiB of memory (1048576 free).",
    ),
    (snapshot([Q("b", 2), Q("a")], node(slots=1)), "What is free is kept for runs ahead of it that need more."),
]


@pytest.mark.parametrize(("given", "expected"), SENTENCES)
def test_a_waiting_run_is_told_why(given: Snapshot, expected: str) -> None:
    assert make_plan(given).heads["a"][1] == expected


# ------------------------------------------------------------------------------------------ where a run stands


def test_standing_of_runs() -> None:
    plan = plan_of(Q("a"), Q("b"), Q("c", 9), Q("d", 9), Q("e", 2, wait_ms=5), accounts=())
    assert standing(plan, 1, "a", ahead=0).sentence == "It starts now."
    second = standing(plan, 2, "d", ahead=1)
    assert (second.readiness, second.sentence) == (
        "capacity",
        "Waits for room: 9 GPU slots (2 free). 1 run is ahead of it.",
    )
    beyond_the_heads = standing(plan, 2, "z", ahead=12)
    assert beyond_the_heads.sentence == "Waits for room: 9 GPU slots (2 free). 12 runs are ahead of it."
    in_back_off = standing(plan, 3, "e", ahead=0)
    assert in_back_off.sentence.startswith("The attempt before failed")
    not_its_back_off = standing(plan, 3, "z", ahead=1)
    assert not_its_back_off.sentence == "1 run is ahead of it."
    all_heads_started = standing(plan, 1, "z", ahead=0)
    assert all_heads_started.sentence == "Its turn comes with the next look at the queue."


@pytest.mark.parametrize(
    ("ahead", "slots", "typical_ms", "expected"),
    [
        (0, 2, 60_000, 30_000),
        (1, 2, 60_000, 30_000),
        (2, 2, 60_000, 90_000),
        (9, 2, 60_000, 270_000),
        (3, 2, None, None),
        (3, 0, 60_000, None),
    ],
)
def test_the_estimate(ahead: int, slots: int, typical_ms: int | None, expected: int | None) -> None:
    assert estimate_ms(ahead=ahead, slots=slots, typical_ms=typical_ms) == expected


def test_the_order_of_the_queue_keeps_each_head_with_its_class() -> None:
    given = snapshot([Q("a"), Q("b", 2), Q("c", priority=90), Q("d"), Q("e", 2)])
    pairs = [
        (head.run_id, queue_class.shape.gpus, queue_class.priority) for queue_class, head in in_order(given.classes)
    ]
    assert pairs == [("c", 1, 90), ("a", 1, 50), ("b", 2, 50), ("d", 1, 50), ("e", 2, 50)]
