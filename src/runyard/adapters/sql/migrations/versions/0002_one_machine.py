"""Frameworks, secrets, dependencies between runs, metrics, and what is known of environments.

Revision 0002. History: it says again what ``schema.py`` said on that day, and must never be changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.Double[float] = sa.Double()


def _word(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, WORD, nullable=False, primary_key=primary_key)


def _maybe_word(name: str) -> sa.Column[str | None]:
    return sa.Column(name, WORD, nullable=True)


def _text(name: str, default: str) -> sa.Column[str]:
    return sa.Column(name, WORD, nullable=False, server_default=default)


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, BIG, nullable=False)


def _maybe_big(name: str) -> sa.Column[int | None]:
    return sa.Column(name, BIG, nullable=True)


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, BIG, primary_key=True, autoincrement=False)


def _real(name: str) -> sa.Column[float | None]:
    return sa.Column(name, REAL, nullable=True)


def _run() -> sa.Column[str]:
    return sa.Column("run_id", WORD, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


def upgrade() -> None:
    """Bring revision 0001 forward."""
    op.add_column("specs", _text("environment", "{}"))
    for column in (_text("features", "[]"), _text("python", ""), _text("packages", "{}")):
        op.add_column("nodes", column)
    op.create_table("spec_facts", _key("spec_id"), _word("environment"), _word("inputs"))
    _create_named()
    op.create_table("dependencies", _run(), _word("after_id", primary_key=True), _big("position"))
    op.create_index("ix_dependencies_after", "dependencies", ["after_id"])
    _keep_blocked_runs_apart()
    _create_metrics()


def _keep_blocked_runs_apart() -> None:
    free = "not_before_ms < 4611686018427387904"
    op.drop_index("ix_runs_ready", "runs")
    op.drop_index("ix_runs_backoff", "runs")
    _index("ix_runs_ready", "class_id", "rank", where=f"state = 'waiting' AND ready_on IS NOT NULL AND {free}")
    _index("ix_runs_backoff", "class_id", "not_before_ms", where=f"state = 'waiting' AND not_before_ms > 0 AND {free}")
    blocked = "state = 'waiting' AND not_before_ms >= 4611686018427387904"
    _index("ix_runs_blocked", "priority DESC", "rank", where=blocked)


def _index(name: str, *columns: str, where: str) -> None:
    condition = sa.text(where)
    parts = [sa.text(column) if " " in column else column for column in columns]
    op.create_index(name, "runs", parts, sqlite_where=condition, postgresql_where=condition)


def _create_named() -> None:
    op.create_table(
        "frameworks",
        _word("account_id", primary_key=True),
        _word("name", primary_key=True),
        _word("version", primary_key=True),
        _big("created_ms"),
        _maybe_word("python"),
        _maybe_word("instead"),
    )
    op.create_table(
        "secrets",
        _word("account_id", primary_key=True),
        _word("name", primary_key=True),
        _big("created_ms"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
    )


def _create_metrics() -> None:
    op.create_table("metric_streams", _run(), _key("attempt"), _key("learner"), _big("folded"))
    op.create_table(
        "metric_summaries",
        _run(),
        _word("grp", primary_key=True),
        _word("name", primary_key=True),
        _big("points"),
        _real("first"),
        _real("last"),
        _maybe_big("last_step"),
        _big("last_ms"),
        _real("lowest"),
        _maybe_big("lowest_step"),
        _real("highest"),
        _maybe_big("highest_step"),
    )
