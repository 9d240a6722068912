"""Shares, reservations, room taken back, machines chosen: case by case, and what holds of any such plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from runyard.core.resources import Resources
from runyard.core.scheduling.ahead import give_ahead
from runyard.core.scheduling.explain import share_sentence, standing
from runyard.core.scheduling.plan import Plan, Reservation, Share, Wait, make_plan
from runyard.core.scheduling.snapshot import AccountRoom, Busy, Head, NodeRoom, Policy, Promise, QueueClass, Snapshot
from tests.core.queues import ACCOUNTS, NODES, NOW, Queued, account, node, outcome, snapshot

Q = Queued
HOUR = 3_600_000
ONE = Resources(1, 1_000, 1_024)


def shape(gpus: int) -> Resources:
    return Resources(gpus, 1_000, 1_024)


def busy(run: str, owner: str, slots: tuple[int, ...], **changes: object) -> Busy:
    """An attempt on n1 since an hour, of a limit of two."""
    found = Busy(run, 1, 9, owner, "n1", slots, shape(len(slots)), 50, NOW - HOUR, NOW + HOUR)
    return replace(found, **changes)  # type: ignore[arg-type]  # keyword arguments are not checked one by one


def queue(*heads: tuple[str, str, int, int | None], priority: int = 50, at: str = "") -> tuple[QueueClass, ...]:
    """A class a head: run, account, GPUs, limit in hours."""
    return tuple(
        QueueClass(n, owner, priority, shape(gpus), (Head(run, n, at, limit_ms=hours and hours * HOUR),))
        for n, (run, owner, gpus, hours) in enumerate(heads, start=1)
    )


def plan_of(
    classes: tuple[QueueClass, ...],
    nodes: tuple[NodeRoom, ...],
    *held: Busy,
    policy: Policy | None = None,
    **more: object,
) -> Plan:
    accounts = more.get("accounts") or tuple(account(name) for name in ("acme", "brick", "coal"))
    return make_plan(Snapshot(NOW, nodes, accounts, classes, busy=held, policy=policy or Policy()))  # type: ignore[arg-type]  # see above


def test_accounts_take_turns_however_many_runs_one_has() -> None:
    crowd = [Q(f"a{n}") for n in range(4)]
    assert outcome(make_plan(snapshot([*crowd, Q("b", account="brick"), Q("c", account="brick")]))) == (
        "a0:0 b:1 a1:2 c:3 a2:capacity a3:capacity"
    )


def test_who_has_used_less_goes_first_and_weight_counts() -> None:
    used = (account("acme", used_ms=5.0 * HOUR), account("brick"))
    assert outcome(make_plan(snapshot([Q("a"), Q("b", account="brick")], node(slots=1), accounts=used)))[:3] == "b:0"
    heavy = (account("acme", used_ms=5.0 * HOUR, weight=10.0), account("brick", used_ms=1.0 * HOUR))
    assert outcome(make_plan(snapshot([Q("b", account="brick"), Q("a")], node(slots=1), accounts=heavy)))[:3] == "a:0"


def test_an_account_below_its_due_goes_first_whatever_it_used_before() -> None:
    accounts = (account("acme", used_ms=1e12), account("brick"))
    plan = plan_of(
        queue(("b", "brick", 1, 1), ("a", "acme", 1, 1)),
        (NodeRoom("n1", (3,), Resources(1, 9_000, 9_000)),),
        busy("x", "brick", (0, 1, 2)),
        accounts=accounts,
    )
    assert [start.run_id for start in plan.starts] == ["a"]


def test_priority_comes_before_shares() -> None:
    used = (account("acme", used_ms=5.0 * HOUR), account("brick"))
    given = snapshot([Q("b", account="brick"), Q("a", priority=90)], node(slots=1), accounts=used)
    assert outcome(make_plan(given)) == "a:0 b:capacity"


def test_a_gap_is_used_by_what_is_over_in_time_and_by_nobody_else() -> None:
    one_free = (NodeRoom("n1", (3,), Resources(1, 9_000, 99_000)),)
    heads = queue(("big", "acme", 4, 1), ("long", "acme", 1, 3), ("open", "acme", 1, None), ("short", "acme", 1, 1))
    plan = plan_of(heads, one_free, busy("x", "acme", (0, 1, 2)))
    assert plan.reservations == {"big": Reservation("n1", NOW + HOUR)}
    assert [start.run_id for start in plan.starts] == ["short"]
    assert {run: kind for run, (kind, _) in plan.heads.items()} == {
        "big": Wait.capacity,
        "long": Wait.behind,
        "open": Wait.behind,
    }


def test_what_the_reserved_run_leaves_is_for_anybody() -> None:
    room = (NodeRoom("n1", (3,), Resources(1, 9_000, 99_000)),)
    heads = queue(("big", "acme", 3, 1), ("long", "acme", 1, 30), ("more", "acme", 1, 30))
    plan = plan_of(heads, room, busy("x", "acme", (0, 1, 2)))
    assert [start.run_id for start in plan.starts] == ["long"]
    assert plan.heads["more"][0] is Wait.capacity


def test_nobody_knows_the_end_of_one_without_a_limit() -> None:
    room = (NodeRoom("n1", (3,), Resources(1, 9_000, 99_000)),)
    plan = plan_of(queue(("big", "acme", 4, 1), ("s", "acme", 1, 1)), room, busy("x", "acme", (0, 1, 2), ends_ms=None))
    assert (plan.starts, plan.reservations["big"]) == ((), Reservation("n1", None))
    by_pace = busy("x", "acme", (0, 1, 2), ends_ms=None, expected_ms=NOW + 2 * HOUR)
    plan = plan_of(queue(("big", "acme", 4, 1), ("s", "acme", 1, 1)), room, by_pace)
    assert plan.reservations["big"].at_ms == NOW + 2 * HOUR
    assert len(plan.starts) == 1


def waiting_gang(**promised: Promise) -> Plan:
    """A gang of acme, which has used more, and one of brick; x is about to leave the machine to one of them."""
    accounts = (account("acme", used_ms=9.0 * HOUR), account("brick"))
    heads = queue(("a", "acme", 2, 1), ("b", "brick", 2, 1))
    rooms = (NodeRoom("n1", (3,), Resources(1, 9_000, 99_000)),)
    seen = Snapshot(NOW, rooms, accounts, heads, busy=(busy("x", "coal", (0, 1, 2), preemptible=False),))
    return make_plan(replace(seen, promises=promised))


def test_who_has_the_first_reservation_keeps_it_though_another_has_had_less_by_then() -> None:
    assert list(waiting_gang().reservations) == ["b"]
    kept = waiting_gang(a=Promise(NOW - 1, first=True))
    assert list(kept.reservations) == ["a"]
    assert kept.promises["a"] == Promise(NOW - 1, first=True)


def test_who_was_promised_room_for_long_goes_first() -> None:
    long = Policy().patience_ms
    assert list(waiting_gang(a=Promise(NOW - long + 1), b=Promise(NOW - 1, first=True)).reservations) == ["b"]
    late = waiting_gang(a=Promise(NOW - long), b=Promise(NOW - 1, first=True))
    assert list(late.reservations) == ["a"]
    assert late.promises["b"] == Promise(NOW - 1)


def test_a_run_takes_the_smallest_machine_that_has_room() -> None:
    rooms = (
        NodeRoom("large", (7,), Resources(1, 9_000, 9_000)),
        NodeRoom("small", (0, 1, 2, 3), Resources(4, 9_000, 9_000)),
    )
    held = replace(busy("x", "brick", tuple(range(7))), node_id="large")
    heads = queue(("a", "acme", 1, 1))
    assert plan_of(heads, rooms, held).starts[0].node_id == "small"
    assert plan_of(heads, rooms, held, policy=Policy(small_first=False)).starts[0].node_id == "large"


def test_strictly_in_order_when_backfill_is_off() -> None:
    given = snapshot([Q("a", 4), Q("b", 0)], node(free=(0, 1)))
    plan = make_plan(replace(given, policy=Policy(backfill=False)))
    assert outcome(plan) == "a:capacity b:behind"


FULL = (NodeRoom("n1", (), Resources(0, 9_000, 99_000)),)


def four(owner: str = "brick", **changes: object) -> tuple[Busy, ...]:
    """Four attempts that hold n1, the later ones younger."""
    return tuple(busy(f"x{n}", owner, (n,), since_ms=NOW - HOUR + n, **changes) for n in range(4))


def test_borrowed_room_is_taken_back_from_the_youngest_and_no_more_than_is_due() -> None:
    wants = queue(("a", "acme", 1, 1), ("b", "acme", 1, 1), ("c", "acme", 1, 1))
    plan = plan_of(wants, FULL, *four())
    assert [(each.run_id, each.for_run_id) for each in plan.preempts] == [("x3", "a"), ("x2", "b")]
    assert "borrowed" in plan.preempts[0].sentence
    assert plan.heads["a"][1].startswith("Room is being made")


def test_room_that_is_coming_is_not_made_twice() -> None:
    stopping = [replace(each, stopping=each.run_id == "x3") for each in four()]
    assert plan_of(queue(("a", "acme", 1, 1)), FULL, *stopping).preempts == ()


def test_none_is_stopped_in_vain_too_young_or_against_its_will() -> None:
    wants = queue(("a", "acme", 1, 1))
    young = plan_of(wants, FULL, *four())
    assert len(young.preempts) == 1
    plan = plan_of(wants, FULL, *(replace(each, since_ms=NOW - 1_000) for each in four()))
    assert (plan.preempts, plan.wake_at_ms) == ((), NOW + 59_000)
    assert plan_of(wants, FULL, *four(preemptible=False)).preempts == ()
    assert plan_of(wants, FULL, *four(priority=60)).preempts == (), "of higher priority"
    assert plan_of(wants, FULL, *four(), policy=Policy(preemption=False)).preempts == ()
    assert plan_of(queue(("a", "acme", 4, 1)), FULL, *four()).preempts == (), "more than is due to it"
    assert plan_of(wants, FULL, *four("acme")).preempts == (), "its own"


def test_a_gang_is_one_attempt() -> None:
    plan = plan_of(
        queue(("a", "acme", 2, 1)),
        FULL,
        busy("gang", "brick", (0, 1)),
        busy("other", "brick", (2, 3), since_ms=NOW - 9 * HOUR),
    )
    assert [each.run_id for each in plan.preempts] == ["gang"]


def test_by_priority_only_where_the_operator_says_so() -> None:
    urgent = queue(("a", "brick", 2, 1), priority=90)
    assert plan_of(urgent, FULL, *four()).preempts == ()
    plan = plan_of(urgent, FULL, *four(), policy=Policy(by_priority=True))
    assert {each.run_id for each in plan.preempts} == {"x3", "x2"}
    assert "higher priority" in plan.preempts[0].sentence
    orphans = tuple(replace(each, account_id="gone") for each in four())
    assert len(plan_of(urgent, FULL, *orphans, policy=Policy(by_priority=True)).preempts) == 2


def test_any_machine_is_the_one_that_is_filled_best() -> None:
    nodes = (node("n1", 8), node("n2", 2), node("n3", 1), node("n4", 4, closed="It is draining."))
    plan = plan_of(queue(("a", "acme", 2, 1), ("b", "acme", 1, 1), ("c", "acme", 4, 1)), nodes)
    assert {start.run_id: start.node_id for start in plan.starts} == {"a": "n2", "b": "n3", "c": "n1"}
    none = plan_of(queue(("a", "acme", 2, 1)), (node("n4", closed="It is draining."),))
    assert none.heads["a"] == (Wait.node_closed, "No machine takes runs now: see `runyard status`.")
    small = plan_of(queue(("a", "acme", 9, 1)), (node("n1", 8), node("n2", 2)))
    assert small.heads["a"][1] == "Waits for room: 9 GPU slots (8 free on one machine)."


def test_quotas_of_cpus_and_memory() -> None:
    tight = AccountRoom("acme", None, 0, quota=Resources(0, 3_000, 0))
    given = snapshot([Q("a", cpus=2), Q("b", cpus=2), Q("c", cpus=4)], accounts=(tight,))
    plan = make_plan(given)
    assert outcome(plan) == "a:0 b:quota c:quota"
    assert plan.heads["b"][1] == "The account's quota of 3 CPUs leaves no room: 2 in use, 2 needed."
    assert plan.heads["c"][1].startswith("The run needs 4 CPUs and the account's quota is 3:")


def test_room_kept_for_another_account_is_told_as_a_share() -> None:
    room = (NodeRoom("n1", (3,), Resources(1, 9_000, 99_000)),)
    plan = plan_of(
        queue(("big", "acme", 4, 1), ("b", "brick", 1, None)),
        room,
        busy("x", "brick", (0, 1, 2)),
        policy=Policy(preemption=False),
    )
    assert plan.heads["b"] == (
        Wait.share,
        "What is free is kept for an account that holds less of what is due to it.",
    )
    assert standing(plan, 2, "b", ahead=0).readiness == "share"


def test_shares_in_a_sentence() -> None:
    plan = plan_of(queue(("a", "acme", 4, 1)), FULL, *four())
    assert plan.shares == {"acme": Share(2.0, 0.0, 4.0), "brick": Share(2.0, 4.0, 4.0, short=True)}
    assert share_sentence(plan.shares["brick"]) == (
        "Of 4 GPUs 2 are due to the account and it holds 4: 2 borrowed, and asked back by accounts that have less than "
        "is due to them."
    )
    assert share_sentence(plan.shares["acme"]).endswith("2 lent to others, and its next runs go first.")
    assert share_sentence(Share(2, 3, 4)).endswith("which it gives back as soon as others want what is due to them.")
    assert share_sentence(Share(2, 2, 4)) == "Of 4 GPUs 2 are due to the account and it holds 2."


def test_no_grant_ahead_where_room_is_kept_nor_past_an_account_below_its_due() -> None:
    classes = queue(("a", "acme", 2, 1), ("b", "brick", 1, 1))
    given = Snapshot(NOW, FULL, (account("acme"), account("brick")), classes, busy=four())
    given = replace(given, policy=Policy(preemption=False))
    assert give_ahead(given, make_plan(given), {(2, "n1"): 1}, {2: 10.0}) == ()
    alone = replace(given, classes=classes[1:])
    kept = make_plan(alone)
    assert [grant.run_id for grant in give_ahead(alone, replace(kept, reservations={}), {(2, "n1"): 1}, {2: 10.0})] == [
        "b"
    ]
    other = replace(kept, reservations={"z": Reservation("n1", None)})
    assert give_ahead(alone, other, {(2, "n1"): 1}, {2: 10.0}) == ()


# ------------------------------------------------------------------------------------------ whatever the yard


@st.composite
def yards(draw: st.DrawFn) -> Snapshot:
    """Three machines with attempts of three accounts, and a queue of runs that are bound to one or go anywhere."""
    held: list[Busy] = []
    nodes: list[NodeRoom] = []
    for name in NODES:
        slot = 0
        while slot < 4:
            gpus = min(draw(st.sampled_from([1, 1, 2, 4])), 4 - slot)
            if draw(st.booleans()):
                one = busy(
                    f"{name}-{slot}", draw(st.sampled_from(ACCOUNTS)), tuple(range(slot, slot + gpus)), node_id=name
                )
                since = NOW - draw(st.sampled_from([1_000, HOUR, 2 * HOUR]))
                ends = draw(st.sampled_from([None, NOW + HOUR, NOW + 5 * HOUR]))
                stops = draw(st.sampled_from([False, False, True]))
                held.append(
                    replace(one, since_ms=since, ends_ms=ends, stopping=stops, priority=draw(st.sampled_from([50, 90])))
                )
            slot += gpus
        taken = {slot for each in held if each.node_id == name for slot in each.slots}
        free = tuple(slot for slot in range(4) if slot not in taken)
        nodes.append(NodeRoom(name, free, Resources(len(free), 99_000, 99_000)))
    accounts = tuple(
        AccountRoom(
            name,
            draw(st.sampled_from([None, None, 6])),
            sum(each.resources.gpus for each in held if each.account_id == name),
            weight=draw(st.sampled_from([1.0, 1.0, 3.0])),
            used_ms=draw(st.sampled_from([0.0, 0.0, 9.0 * HOUR])),
        )
        for name in ACCOUNTS
    )
    owner, gpus, limit = st.sampled_from(ACCOUNTS), st.sampled_from([1, 2, 4]), st.sampled_from([None, 1, 9])
    one_head = st.tuples(owner, gpus, st.sampled_from(["", "", "n1"]), limit, st.sampled_from([50, 90]))
    heads = draw(st.lists(one_head, max_size=12))
    classes = tuple(
        QueueClass(n, owner, priority, shape(gpus), (Head(f"r{n}", n, where, limit_ms=hours and hours * HOUR),))
        for n, (owner, gpus, where, hours, priority) in enumerate(heads, start=1)
    )
    policy = Policy(by_priority=draw(st.booleans()), backfill=draw(st.sampled_from([True, True, False])))
    return Snapshot(NOW, tuple(nodes), accounts, classes, busy=tuple(held), policy=policy)


@settings(max_examples=60)
@given(yards())
def test_nothing_is_oversubscribed_and_no_quota_exceeded(given: Snapshot) -> None:
    plan = make_plan(given)
    classes = {each.id: each for each in given.classes}
    slots = [(start.node_id, slot) for start in plan.starts for slot in start.slots]
    free = {(each.id, slot) for each in given.nodes for slot in each.free_slots}
    assert len(slots) == len(set(slots))
    assert set(slots) <= free
    gpus = Counter[str]()
    for start in plan.starts:
        gpus[classes[start.class_id].account_id] += len(start.slots)
        assert len(start.slots) == classes[start.class_id].shape.gpus
    for each in given.accounts:
        assert each.quota_gpus is None or not gpus[each.id] or each.used_gpus + gpus[each.id] <= each.quota_gpus


@settings(max_examples=60)
@given(yards())
def test_every_stop_lets_its_run_start_and_each_is_needed(given: Snapshot) -> None:
    plan = make_plan(given)
    event(f"{len(plan.preempts)} stops")
    held = {each.run_id: each for each in given.busy}
    heads = {head.run_id: each for each in given.classes for head in each.heads}
    started = Counter[str]()
    for start in plan.starts:
        started[start.node_id] += len(start.slots)
    for run_id in {each.for_run_id for each in plan.preempts}:
        at = plan.reservations[run_id].node_id
        victims = [held[each.run_id] for each in plan.preempts if each.for_run_id == run_id]
        assert {each.node_id for each in victims} == {at}
        assert not any(each.stopping or not each.preemptible for each in victims)
        assert all(each.priority <= heads[run_id].priority for each in victims)
        assert all(each.since_ms <= NOW - given.policy.settle_ms for each in victims)
        promised = sum(heads[run].shape.gpus for run, each in plan.reservations.items() if each.node_id == at)
        there = next(len(each.free_slots) for each in given.nodes if each.id == at) - started[at]
        there += sum(each.resources.gpus for each in given.busy if each.node_id == at and each.stopping)
        stopped = [held[each.run_id].resources.gpus for each in plan.preempts if held[each.run_id].node_id == at]
        assert promised <= there + sum(stopped)
        assert there + sum(stopped) - promised < min(stopped) or len(set(stopped)) > 1
    assert len({each.run_id for each in plan.preempts}) == len(plan.preempts)


@settings(max_examples=60)
@given(yards())
def test_nobody_is_pushed_below_what_is_due_to_him(given: Snapshot) -> None:
    given = replace(given, policy=Policy())
    plan = make_plan(given)
    lost = {each.run_id for each in plan.preempts}
    classes = {each.id: each for each in given.classes}
    for name, share in plan.shares.items():
        kept = sum(each.resources.gpus for each in given.busy if each.account_id == name and each.run_id not in lost)
        kept += sum(len(each.slots) for each in plan.starts if classes[each.class_id].account_id == name)
        stopped = any(each.account_id == name for each in given.busy if each.run_id in lost)
        assert not stopped or kept >= share.due - 1e-6


@settings(max_examples=60)
@given(yards(), st.randoms(use_true_random=False))
def test_the_order_of_rows_is_nothing(given: Snapshot, chance: object) -> None:
    rows = [list(each) for each in (given.nodes, given.accounts, given.classes, given.busy)]
    for each in rows:
        chance.shuffle(each)  # type: ignore[attr-defined]  # Hypothesis' own Random has no public type
    nodes, accounts, classes, held = (tuple(each) for each in rows)
    again = replace(given, nodes=nodes, accounts=accounts, classes=classes, busy=held)  # type: ignore[arg-type]  # four kinds in one list
    assert make_plan(again) == make_plan(given)


@settings(max_examples=60)
@given(yards())
def test_what_starts_beside_a_reservation_does_not_delay_it(given: Snapshot) -> None:
    given = replace(given, policy=Policy(preemption=False))
    plan = make_plan(given)
    classes = {each.id: each for each in given.classes}
    shapes = {head.run_id: each.shape for each in given.classes for head in each.heads}
    for run_id, kept in plan.reservations.items():
        if kept.at_ms is None:
            continue
        room = next(each for each in given.nodes if each.id == kept.node_id)
        free = len(room.free_slots)
        for each in given.busy:
            end = min(each.ends_ms or 1 << 62, NOW + 60_000) if each.stopping else each.ends_ms
            free += each.resources.gpus if each.node_id == room.id and end is not None and end <= kept.at_ms else 0
        for start in plan.starts:
            limit = classes[start.class_id].heads[0].limit_ms
            stays = limit is None or NOW + limit > kept.at_ms
            free -= len(start.slots) if start.node_id == room.id and stays else 0
        assert free >= shapes[run_id].gpus


def test_a_plan_never_looks_twice_as_long_at_twice_the_queue_of_one_kind() -> None:
    """A deep class is told the same at once: one sentence, whatever its depth."""
    heads = tuple(Head(f"r{n}", n, "") for n in range(5_000))
    plan = make_plan(Snapshot(NOW, FULL, (account("acme"),), (QueueClass(1, "acme", 50, ONE, heads),)))
    assert len(plan.heads) == 5_000
    assert len({id(no) for no in plan.heads.values()}) == 1
