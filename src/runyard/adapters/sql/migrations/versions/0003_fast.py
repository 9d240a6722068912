"""How each attempt's program was started.

Revision 0003. History: it says again what ``schema.py`` said on that day, and must never be changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Bring revision 0002 forward."""
    for name in ("way", "way_note"):
        op.add_column("attempts", sa.Column(name, WORD, nullable=False, server_default=""))
