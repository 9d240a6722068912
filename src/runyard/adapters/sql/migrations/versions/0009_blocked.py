"""The runs that wait for others, in the order of their acceptance.

Revision 0009. History: it says again what ``schema.py`` said on that day, and must never be changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BLOCKED = sa.text("state = 'waiting' AND not_before_ms >= 4611686018427387904")


def upgrade() -> None:
    """Bring revision 0008 forward."""
    op.drop_index("ix_runs_blocked", table_name="runs")
    op.create_index("ix_runs_blocked", "runs", ["not_before_ms", "seq"], sqlite_where=BLOCKED, postgresql_where=BLOCKED)
