"""How long accounts keep what runs leave behind, and what went of runs.

Revision 0007. History: it says again what ``schema.py`` said on that day, and must never be changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring revision 0006 forward."""
    op.create_table(
        "retentions",
        sa.Column("account_id", WORD, nullable=False, primary_key=True),
        sa.Column("part", WORD, nullable=False, primary_key=True),
        sa.Column("kept_ms", BIG, nullable=False),
    )
    op.create_table(
        "swept",
        sa.Column("run_id", WORD, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, primary_key=True),
        sa.Column("part", WORD, nullable=False, primary_key=True),
    )
