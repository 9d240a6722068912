"""The whole schema, as it first was.

Revision 0001. History: it says again what ``schema.py`` said on that day, and must never be changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _word(name: str, *, primary_key: bool = False, unique: bool | None = None) -> sa.Column[str]:
    return sa.Column(name, WORD, nullable=False, primary_key=primary_key, unique=unique)


def _maybe_word(name: str) -> sa.Column[str | None]:
    return sa.Column(name, WORD, nullable=True)


def _big(name: str, *, unique: bool | None = None) -> sa.Column[int]:
    return sa.Column(name, BIG, nullable=False, unique=unique)


def _maybe_big(name: str) -> sa.Column[int | None]:
    return sa.Column(name, BIG, nullable=True)


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, BIG, primary_key=True, autoincrement=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _index(name: str, table: str, *columns: str, where: str | None = None) -> None:
    """``columns`` may say ``DESC``."""
    condition = None if where is None else sa.text(where)
    parts = [sa.text(column) if " " in column else column for column in columns]
    op.create_index(name, table, parts, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    _create_accounts()
    _create_members()
    _create_tokens()
    _create_connections()
    _create_definitions()
    _create_specs()
    _create_queue_classes()
    _create_runs()
    _create_tags()
    _create_attempts()
    _create_nodes()
    _create_events()
    _create_ledger()
    _create_idempotency()
    _create_state_counts()
    _create_settings()
    _create_counters()
    op.execute("INSERT INTO counters (name, value) VALUES ('event', 0), ('run', 0)")


def downgrade() -> None:
    raise NotImplementedError("schemas go forward only: restore the backup that was made before the upgrade")


def _create_accounts() -> None:
    op.create_table("accounts", _word("id", primary_key=True), _word("name"), _maybe_big("quota_gpus"), _flag("paused"))


def _create_members() -> None:
    op.create_table(
        "members",
        _word("id", primary_key=True),
        sa.Column("account_id", WORD, sa.ForeignKey("accounts.id"), nullable=False),
        _word("name"),
        _big("number", unique=True),
    )


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        _word("id", primary_key=True),
        _word("digest", unique=True),
        _word("hint"),
        _word("scope"),
        _word("account_id"),
        _word("member_id"),
        _word("name"),
        _big("created_ms"),
        _maybe_word("node_id"),
        _maybe_big("expires_ms"),
        _maybe_big("revoked_ms"),
    )
    _index("ix_tokens_account", "tokens", "account_id", "created_ms")


def _create_connections() -> None:
    op.create_table(
        "connections",
        _word("account_id", primary_key=True),
        _word("name", primary_key=True),
        _word("kind"),
        _word("connection"),
        _big("created_ms"),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
    )


def _create_definitions() -> None:
    op.create_table(
        "definitions",
        _word("account_id", primary_key=True),
        _word("sha256", primary_key=True),
        _big("size"),
        _big("created_ms"),
        sa.Column("mentions_config", sa.Boolean(), nullable=True),
    )
    _index("ix_definitions_sha256", "definitions", "sha256")


def _create_specs() -> None:
    op.create_table(
        "specs",
        _key("id"),
        sa.Column("account_id", WORD, sa.ForeignKey("accounts.id"), nullable=False),
        _word("spec"),
        _maybe_word("code_sha256"),
        _flag("append_args"),
        _word("provenance"),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        _big("priority"),
        _maybe_big("stage_rank"),
    )
    _index("ix_specs_to_stage", "specs", "priority DESC", "stage_rank", where="stage_rank IS NOT NULL")


def _create_queue_classes() -> None:
    op.create_table(
        "queue_classes",
        _key("id"),
        sa.Column("account_id", WORD, sa.ForeignKey("accounts.id"), nullable=False),
        _big("priority"),
        _big("gpus"),
        _big("cpu_millis"),
        _big("memory_mib"),
        _big("waiting"),
        _big("ready"),
        sa.UniqueConstraint("account_id", "priority", "gpus", "cpu_millis", "memory_mib", name="uq_queue_classes"),
    )
    _index("ix_queue_classes_ready", "queue_classes", "id", where="ready > 0")


def _create_runs() -> None:
    op.create_table(
        "runs",
        _key("seq"),
        _word("id", unique=True),
        _word("account_id"),
        _word("member_id"),
        _word("name"),
        sa.Column("spec_id", BIG, sa.ForeignKey("specs.id"), nullable=False),
        _word("parameters"),
        sa.Column("class_id", BIG, sa.ForeignKey("queue_classes.id"), nullable=False),
        _big("priority"),
        _big("rank"),
        _word("state"),
        _word("detail"),
        _big("version"),
        _big("created_ms"),
        _big("max_retries"),
        _big("attempt"),
        _big("not_before_ms"),
        _maybe_word("ready_on"),
        _maybe_big("staged_ms"),
        _maybe_big("finished_ms"),
        _maybe_big("stored_ms"),
        _word("notes"),
    )
    _index("ix_runs_account", "runs", "account_id", "seq")
    _index("ix_runs_account_state", "runs", "account_id", "state", "seq")
    _index("ix_runs_active", "runs", "state", "seq", where="state IN ('starting', 'running', 'stopping', 'storing')")
    _index("ix_runs_ready", "runs", "class_id", "rank", where="state = 'waiting' AND ready_on IS NOT NULL")
    _index("ix_runs_backoff", "runs", "class_id", "not_before_ms", where="state = 'waiting' AND not_before_ms > 0")
    _index("ix_runs_requeued", "runs", "attempt", where="state = 'waiting' AND attempt > 0")
    _index("ix_runs_queue", "runs", "priority DESC", "rank", where="state = 'waiting'")
    _index("ix_runs_account_queue", "runs", "account_id", "priority DESC", "rank", where="state = 'waiting'")
    _index("ix_runs_spec_ready", "runs", "spec_id", "rank", where="state = 'waiting' AND ready_on IS NOT NULL")
    _index("ix_runs_spec_unready", "runs", "spec_id", "rank", where="state = 'waiting' AND ready_on IS NULL")


def _create_tags() -> None:
    op.create_table(
        "tags",
        _word("run_id", primary_key=True),
        _word("tag", primary_key=True),
        _big("seq"),
        _big("position"),
    )
    _index("ix_tags_tag", "tags", "tag", "seq")


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("run_id", WORD, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", BIG, primary_key=True, autoincrement=False),
        _big("spec_id"),
        _word("account_id"),
        _word("node_id"),
        _word("slots"),
        _big("assigned_ms"),
        _maybe_big("started_ms"),
        _maybe_big("released_ms"),
        _maybe_word("ending"),
        _maybe_big("log_bytes"),
        sa.Column("tamper_proof", sa.Boolean(), nullable=True),
        _maybe_big("peak_memory_mib"),
    )
    _index("ix_attempts_spec", "attempts", "spec_id", "released_ms", where="released_ms IS NOT NULL")
    _index("ix_attempts_account", "attempts", "account_id", "released_ms", where="released_ms IS NOT NULL")


def _create_nodes() -> None:
    op.create_table(
        "nodes",
        _word("id", primary_key=True),
        _word("name"),
        _word("boot_id"),
        _big("gpus"),
        _big("cpu_millis"),
        _big("memory_mib"),
        _word("gpu_names"),
        _flag("logical"),
        _word("version"),
        _big("seen_ms"),
        _flag("connected"),
        _maybe_word("closed"),
        _word("notes"),
    )


def _create_events() -> None:
    op.create_table(
        "events",
        _key("seq"),
        _word("kind"),
        _word("run_id"),
        _word("account_id"),
        _big("at_ms"),
        _maybe_big("attempt"),
        _word("body"),
    )
    _index("ix_events_run", "events", "run_id", "seq")
    _index("ix_events_account", "events", "account_id", "seq")


def _create_ledger() -> None:
    op.create_table(
        "ledger",
        _word("run_id", primary_key=True),
        sa.Column("attempt", BIG, primary_key=True, autoincrement=False),
        _word("account_id"),
        _word("member_id"),
        _big("from_ms"),
        _big("to_ms"),
        _big("gpu_ms"),
        _big("cpu_ms"),
        _big("gb_ms"),
        _big("cost"),
        _flag("waste"),
    )
    _index("ix_ledger_account", "ledger", "account_id", "from_ms")
    _index("ix_ledger_from", "ledger", "from_ms")


def _create_idempotency() -> None:
    op.create_table(
        "idempotency",
        _word("account_id", primary_key=True),
        _word("key", primary_key=True),
        _word("digest"),
        _word("run_ids"),
        _big("created_ms"),
    )


def _create_state_counts() -> None:
    op.create_table(
        "state_counts", _word("account_id", primary_key=True), _word("state", primary_key=True), _big("runs")
    )


def _create_settings() -> None:
    op.create_table("settings", _word("name", primary_key=True), _word("value"))


def _create_counters() -> None:
    op.create_table("counters", _word("name", primary_key=True), _big("value"))
