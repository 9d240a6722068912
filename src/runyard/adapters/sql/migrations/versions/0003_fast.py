"""How each attempt's program was started; what keeps a deep queue quick.

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
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _word(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, WORD, nullable=False, primary_key=primary_key)


def _big(name: str, *, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(name, BIG, nullable=False, primary_key=primary_key, autoincrement=False)


def upgrade() -> None:
    """Bring revision 0002 forward."""
    for name in ("way", "way_note"):
        op.add_column("attempts", sa.Column(name, WORD, nullable=False, server_default=""))
    _index_names()
    _give_tags_their_account()
    _count_blocks()


def _index_names() -> None:
    op.drop_index("ix_runs_account", "runs")
    op.create_index("ix_runs_name", "runs", ["account_id", "name", "state", "seq"])


def _give_tags_their_account() -> None:
    op.execute(
        "CREATE TEMPORARY TABLE kept_tags AS SELECT run_id, tag, seq, position, coalesce("
        "(SELECT account_id FROM runs WHERE runs.id = tags.run_id), "
        "(SELECT account_id FROM events WHERE events.run_id = tags.run_id LIMIT 1), '') AS account_id FROM tags"
    )
    op.drop_table("tags")
    op.create_table(
        "tags",
        _word("run_id", primary_key=True),
        _word("tag", primary_key=True),
        _big("seq"),
        _big("position"),
        _word("account_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tags_tag", "tags", ["account_id", "tag", "seq"])
    op.execute("INSERT INTO tags SELECT run_id, tag, seq, position, account_id FROM kept_tags")
    op.execute("DROP TABLE kept_tags")


def _count_blocks() -> None:
    op.create_table(
        "queue_blocks",
        _big("priority", primary_key=True),
        _big("block", primary_key=True),
        _big("waiting"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO queue_blocks SELECT priority, rank >> 30, count(*) FROM runs "
        f"WHERE state = 'waiting' AND not_before_ms < {1 << 62} GROUP BY priority, rank >> 30"
    )
