"""Fair shares, budgets, machines that are drained; how long the programs of a submission may run.

Revision 0004. History: it says again what ``schema.py`` said on that day, and must never be changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

REAL: sa.Double[float] = sa.Double()
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _word(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, WORD, nullable=False, primary_key=primary_key)


def _big(name: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, BIG, nullable=nullable, primary_key=primary_key, autoincrement=False)


def upgrade() -> None:
    """Bring revision 0003 forward."""
    op.create_table(
        "account_shares",
        _word("account_id", primary_key=True),
        sa.Column("weight", REAL, nullable=True),
        sa.Column("start_window", WORD, nullable=True),
        sa.Column("used", REAL, nullable=False),
        _big("used_at_ms"),
    )
    op.create_table(
        "budgets",
        _word("account_id", primary_key=True),
        _word("period"),
        _big("gpu_ms", nullable=True),
        _big("cost", nullable=True),
        _big("warn_percent"),
    )
    op.create_table("node_drains", _word("node_id", primary_key=True), _big("since_ms"))
    _sum_days()
    _keep_limits()


def _sum_days() -> None:
    """What was spent before, each attempt on the day on which it began."""
    op.create_table(
        "daily_use",
        _word("account_id", primary_key=True),
        _big("day", primary_key=True),
        _big("gpu_ms"),
        _big("cost"),
    )
    op.execute(
        "INSERT INTO daily_use SELECT account_id, from_ms / 86400000, sum(gpu_ms), sum(cost) FROM ledger "
        "WHERE NOT waste GROUP BY account_id, from_ms / 86400000"
    )


def _keep_limits() -> None:
    op.add_column("specs", sa.Column("limit_ms", BIG, nullable=True))
    sqlite = op.get_bind().dialect.name == "sqlite"
    limit = (
        "json_extract(spec, '$.options.max_runtime_ms')"
        if sqlite
        else "CAST(CAST(spec AS json) -> 'options' ->> 'max_runtime_ms' AS bigint)"
    )
    op.execute(f"UPDATE specs SET limit_ms = {limit} WHERE spec LIKE '%\"max_runtime_ms\"%'")
