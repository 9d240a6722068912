"""The model of accounts and machines led to where a budget ends amid runs that machines begin by themselves: chance
does not come there in thousands of lives."""

import pytest

from runyard.core.budget import Budget, Period
from tests.engine.test_accounts_lives import Accounts


@pytest.mark.parametrize(
    ("count", "gpu_ms", "rounds", "ends"), [(12, 2_500, 6, 3), (12, 4_000, 10, 2), (20, 3_000, 10, 3)]
)
def test_no_grant_begins_when_its_budget_is_used_up(count: int, gpu_ms: int, rounds: int, ends: int) -> None:
    """Many short runs wait, some follow each other by grants, and little is left to spend."""
    life = Accounts()
    life.begin(by_priority=False, fair=True, there=set(), wanted=[("acme", "gpu", count)])
    life.the_pace_is_known()
    life.all_works_for_a_while(3, 300, [0, 0])
    life.the_books_are_right()
    spent = life.books.spent("acme", Budget(Period.month, 0), life.yard.now)
    life.an_account_gets_a_budget("acme", Budget(Period.month, spent.gpu_ms + gpu_ms))
    life.submits("acme", "gpu", 50, count, 0)
    life.the_pace_is_known()
    life.all_works_for_a_while(rounds, 300, [0] * ends)
    life.the_books_are_right()
    now = life.books.spent("acme", Budget(Period.month, 0), life.yard.now)
    assert spent.gpu_ms < now.gpu_ms <= spent.gpu_ms + gpu_ms + 2 * 300 * 2, "some ran, and no more than had begun"
