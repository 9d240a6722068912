"""Which member a person of an OpenID Connect issuer is.

Revision 0008. History: it says again what ``schema.py`` said on that day, and must never be changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Bring revision 0007 forward."""
    op.add_column("members", sa.Column("subject", WORD, nullable=True))
    op.create_index("ix_members_subject", "members", ["account_id", "subject"], unique=True)
