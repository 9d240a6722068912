"""Plans, roles, passwords, and who did what.

Revision 0006. History: it says again what ``schema.py`` said on that day, and must never be changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
REAL: sa.Double[float] = sa.Double()
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _word(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, WORD, nullable=False, primary_key=primary_key)


def _maybe_big(name: str) -> sa.Column[int | None]:
    return sa.Column(name, BIG, nullable=True)


def upgrade() -> None:
    """Bring revision 0005 forward."""
    _accounts()
    _members()
    op.add_column("tokens", _maybe_big("used_ms"))
    op.create_table("plans", _word("name", primary_key=True), _word("quota"), sa.Column("weight", REAL, nullable=False))
    op.create_table(
        "audit",
        sa.Column("seq", BIG, primary_key=True, autoincrement=False),
        sa.Column("at_ms", BIG, nullable=False),
        *map(_word, ("account_id", "token_id", "member_id", "address", "action", "object", "outcome")),
        sa.Column("status", BIG, nullable=False),
    )
    op.create_index("ix_audit_account", "audit", ["account_id", "seq"])


def _accounts() -> None:
    """An account keeps the quota that it has: as its own, on a plan without limits."""
    op.add_column("accounts", sa.Column("plan", WORD, nullable=False, server_default="unlimited"))
    op.add_column("accounts", sa.Column("own_quota", WORD, nullable=False, server_default="{}"))
    op.add_column("accounts", _maybe_big("closed_ms"))
    op.execute(
        "UPDATE accounts SET own_quota = '{\"gpus\":' || CAST(quota_gpus AS TEXT) || '}' WHERE quota_gpus IS NOT NULL"
    )
    op.drop_column("accounts", "quota_gpus")


def _members() -> None:
    """Whoever has a token of the installation's administrator is one; the others have runs of their own, as before,
    and what their tokens could do to the account beside that: they manage it."""
    op.add_column("members", sa.Column("role", WORD, nullable=False, server_default="user"))
    op.add_column("members", sa.Column("password", WORD, nullable=True))
    op.add_column("members", _maybe_big("removed_ms"))
    op.execute("UPDATE members SET role = 'manager'")
    op.execute("UPDATE members SET role = 'admin' WHERE id IN (SELECT member_id FROM tokens WHERE scope = 'admin')")
    op.create_index("ix_members_account", "members", ["account_id", "name"], unique=True)
