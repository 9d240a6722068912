"""Balances: what an account has had above its due while others were short of room, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from runyard.core.resources import Resources
from runyard.core.scheduling.balance import counted_on
from runyard.core.scheduling.plan import Plan, Wait, make_plan
from runyard.core.scheduling.snapshot import (
    AccountRoom,
    Balance,
    Busy,
    Head,
    NodeRoom,
    Policy,
    Promise,
    QueueClass,
    Snapshot,
)
from tests.core.queues import NOW

HOUR = 3_600_000
GPU = 1_000_000
FOREVER = Policy(half_life_ms=1 << 60)
"""What was used is not forgotten, so that sums are plain."""
DUE = 4
"""GPUs, of each of the two accounts that share a machine of 8."""


def counted(used: dict[str, float], short: str, over: dict[str, int] | None = None) -> dict[str, float]:
    """What each account has had too much, in hours of a GPU, an hour after all stood at ``over``."""
    before = {name: Balance(NOW - HOUR, 0.0, (over or {}).get(name, 0), short=name in short) for name in used}
    rooms = tuple(AccountRoom(name, None, 0, used_ms=hours * HOUR) for name, hours in used.items())
    seen = Snapshot(NOW, (), rooms, (), policy=FOREVER, balances=before)
    return {name: had / GPU / HOUR for name, had in counted_on(seen, dict.fromkeys(used, DUE * GPU)).items()}


def test_what_one_had_too_much_the_others_had_too_little() -> None:
    assert counted({"a": 6, "b": 2}, short="ab") == {"a": 2, "b": -2}
    assert counted({"a": 6, "b": 2}, short="b") == {"a": 2, "b": -2}


def test_where_nobody_is_short_nobody_owes() -> None:
    assert counted({"a": 6, "b": 2}, short="") == {}


def test_in_the_order_of_submission_nobody_owes() -> None:
    before = {"a": Balance(NOW - HOUR, 0.0, 9 * GPU * HOUR, short=True)}
    seen = Snapshot(NOW, (), (AccountRoom("a", None, 0),), (), balances=before)
    assert counted_on(seen, {"a": DUE * GPU})
    assert counted_on(replace(seen, policy=Policy(fair_share=False)), {"a": DUE * GPU}) == {}


def test_who_waits_for_nothing_leaves_the_rest_to_the_others_and_saves_nothing() -> None:
    assert counted({"a": 6, "b": 0, "c": 3}, short="ac") == {"a": 1.5, "b": 0, "c": -1.5}
    assert counted({"a": 7, "b": 1}, short="a") == {"a": 0, "b": 0}
    assert counted({"a": 7, "b": 1}, short="a", over={"b": -5 * GPU * HOUR})["b"] == 0


def test_nobody_is_ahead_or_behind_by_more_than_a_day_of_his_due() -> None:
    far = {"a": 99 * DUE * GPU * HOUR, "b": -99 * DUE * GPU * HOUR}
    assert counted({"a": 6, "b": 2}, short="ab", over=far) == {"a": 24 * DUE, "b": -24 * DUE}


@given(
    st.dictionaries(st.sampled_from("abcde"), st.tuples(st.floats(0, 20), st.booleans(), st.floats(0.1, 9)), min_size=1)
)
def test_what_was_due_is_what_was_used_in_all(accounts: dict[str, tuple[float, bool, float]]) -> None:
    before = {name: Balance(NOW - HOUR, 0.0, short=short) for name, (_, short, _) in accounts.items()}
    rooms = tuple(
        AccountRoom(name, None, 0, weight=weight, used_ms=used * HOUR) for name, (used, _, weight) in accounts.items()
    )
    seen = Snapshot(NOW, (), rooms, (), policy=FOREVER, balances=before)
    dues = dict.fromkeys(accounts, 1_000 * GPU)
    found = counted_on(seen, dues)
    short = any(each for _, each, _ in accounts.values())
    event("somebody is short" if short else "nobody is")
    assert bool(found) == short
    assert abs(sum(found.values())) <= len(accounts) * 1_000
    assert not [name for name, (_, each, _) in accounts.items() if not each and found.get(name, 0) < 0]
    assert found == counted_on(replace(seen, accounts=rooms[::-1]), dues)


# ------------------------------------------------------------------------------------------ a gang on loan


def shape(gpus: int) -> Resources:
    return Resources(gpus, 1_000, 1_024)


def on_loan(
    over_h: float, *, ran_h: float = 2, attempt: int = 1, waiting: int = 99, policy: Policy | None = None
) -> Plan:
    """A gang of acme holds all 8 GPUs of a machine; brick, to whom 4 are due, has runs of 1 GPU waiting. ``over_h``:
    the hours of its due that acme has had too much."""
    over = int(over_h * DUE * GPU * HOUR)
    gang = Busy("gang", attempt, 9, "acme", "n1", tuple(range(8)), shape(8), 50, NOW - int(ran_h * HOUR))
    return make_plan(
        Snapshot(
            NOW,
            (NodeRoom("n1", (), Resources(0, 9_000, 99_000)),),
            (AccountRoom("acme", None, 8, used_ms=9.0 * HOUR), AccountRoom("brick", None, 0)),
            (QueueClass(1, "brick", 50, shape(1), (Head("b", 1, ""),), waiting),),
            busy=(gang,),
            policy=policy or Policy(),
            balances={"acme": Balance(NOW, 9.0 * HOUR, over), "brick": Balance(NOW, 0.0, -over, short=True)},
        )
    )


LOAN_H = Policy().loan_ms / HOUR


def test_a_run_larger_than_its_accounts_due_is_stopped_once_its_loan_is_used_up() -> None:
    assert on_loan(LOAN_H - 0.1).preempts == ()
    stopped = on_loan(LOAN_H + 0.1).preempts
    assert [(each.run_id, each.for_run_id) for each in stopped] == [("gang", "b")]
    assert "more than is due" in stopped[0].sentence
    assert on_loan(LOAN_H + 0.1, ran_h=LOAN_H - 0.1).preempts == (), "it has hardly run"
    assert on_loan(LOAN_H + 0.1, policy=Policy(preemption=False)).preempts == ()


@pytest.mark.parametrize(("attempt", "loans"), [(1, 1), (3, 1), (4, 2), (5, 4), (6, 8)])
def test_from_the_fourth_attempt_on_a_loan_is_twice_as_long_each_time(attempt: int, loans: int) -> None:
    assert on_loan(loans * LOAN_H - 0.1, ran_h=23, attempt=attempt).preempts == ()
    assert len(on_loan(loans * LOAN_H + 0.1, ran_h=23, attempt=attempt).preempts) == 1


def test_only_who_has_much_waiting_is_short() -> None:
    assert on_loan(0, waiting=4 * DUE).balances["brick"].short
    assert not on_loan(0, waiting=4 * DUE - 1).balances["brick"].short
    assert not on_loan(0).balances["acme"].short


def one_free(over_h: float, *promised: tuple[str, int], gpus: int = 1) -> Plan:
    """Both accounts want the 8 GPUs that are free, acme with a run of so many; acme has used less in all."""
    over = int(over_h * DUE * GPU * HOUR)
    heads = (
        QueueClass(1, "acme", 50, shape(gpus), (Head("a", 1, "", limit_ms=HOUR),)),
        QueueClass(2, "brick", 50, shape(8), (Head("b", 2, "", limit_ms=HOUR),)),
    )
    return make_plan(
        Snapshot(
            NOW,
            (NodeRoom("n1", tuple(range(8)), Resources(8, 99_000, 99_000)),),
            (AccountRoom("acme", None, 0), AccountRoom("brick", None, 0, used_ms=9.0 * HOUR)),
            heads,
            balances={"acme": Balance(NOW, 0.0, over), "brick": Balance(NOW, 9.0 * HOUR, -over, short=True)},
            promises={run_id: Promise(since) for run_id, since in promised},
        )
    )


def test_an_account_that_owes_goes_behind_those_that_lack_something() -> None:
    assert [each.run_id for each in one_free(0.2).starts] == ["a"]
    assert [each.run_id for each in one_free(0.3).starts] == ["b"]


def test_a_run_larger_than_the_due_of_an_account_that_owes_waits_until_half_a_day_is_over() -> None:
    patience = Policy().patience_ms
    plan = one_free(0.3, gpus=8)
    assert plan.heads["a"][0] is Wait.share
    assert plan.promises["a"] == Promise(NOW), "it waits from now on"
    assert [each.run_id for each in one_free(0.3, ("a", NOW - patience), gpus=8).starts] == ["a"]
    assert [each.run_id for each in one_free(0.6, ("a", NOW - patience), gpus=8).starts] == ["b"]
    assert [each.run_id for each in one_free(0.6, ("a", NOW - 2 * patience), gpus=8).starts] == ["a"]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["acme", "brick"]), st.sampled_from([1, 2, 4, 8])), min_size=1, max_size=6),
    st.floats(-2, 3),
    st.integers(0, 40),
)
def test_only_a_run_larger_than_the_due_of_who_is_overdrawn_is_stopped_below_it(
    held: list[tuple[str, int]], over_h: float, waiting: int
) -> None:
    """A machine for each attempt, as large as that."""
    over = int(over_h * DUE * GPU * HOUR)
    busy = tuple(
        Busy(f"x{n}", 1, 9, owner, f"n{n}", tuple(range(gpus)), shape(gpus), 50, NOW - 5 * HOUR, NOW + HOUR)
        for n, (owner, gpus) in enumerate(held)
    )
    nodes = tuple(NodeRoom(f"n{n}", (), Resources(0, 99_000, 99_000)) for n in range(len(held)))
    accounts = tuple(
        AccountRoom(name, None, sum(gpus for owner, gpus in held if owner == name)) for name in ("acme", "brick")
    )
    heads = tuple(Head(f"b{n}", n, "", limit_ms=HOUR) for n in range(waiting))
    balances = {"acme": Balance(NOW, 0.0, over), "brick": Balance(NOW, 0.0, -over, short=True)}
    given = Snapshot(NOW, nodes, accounts, (QueueClass(1, "brick", 50, shape(1), heads),), busy=busy, balances=balances)
    plan = make_plan(given)
    due = sum(gpus for _, gpus in held) / 2 if waiting or len(dict(held)) > 1 else 0
    left = sum(each.resources.gpus for each in busy if each.account_id == "acme")
    for stop in plan.preempts:
        lost = next(each for each in busy if each.run_id == stop.run_id)
        assert lost.account_id == "acme"
        left -= lost.resources.gpus
        overdrawn = lost.resources.gpus > due and over > due * GPU * Policy().loan_ms
        event("stopped below the due" if left < due else "borrowed")
        assert left >= due or overdrawn
