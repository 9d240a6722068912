"""Which of several servers leads.

Revision 0005. History: it says again what ``schema.py`` said on that day, and must never be changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring revision 0004 forward."""
    op.create_table(
        "leases",
        sa.Column("name", WORD, nullable=False, primary_key=True),
        sa.Column("holder", WORD, nullable=False),
        sa.Column("url", WORD, nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("until_ms", BIG, nullable=False),
    )
