"""The tables. Their history is in ``migrations/``; a test holds the two together.

Times are integer milliseconds, JSON is text. Texts compare by code point in both databases.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from runyard.core.run import BLOCKED

metadata = sa.MetaData()

WORD: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64 bits in both; SQLite keys its rows by a column only when it is declared INTEGER."""

REAL: Final[sa.Double[float]] = sa.Double()

WAITING: Final = "state = 'waiting'"
ACTIVE: Final = "state IN ('starting', 'running', 'stopping', 'storing')"
READY: Final = "state = 'waiting' AND ready_on IS NOT NULL"
UNREADY: Final = "state = 'waiting' AND ready_on IS NULL"
NOT_BLOCKED: Final = f"not_before_ms < {BLOCKED}"
FREE: Final = f"state = 'waiting' AND ready_on IS NOT NULL AND {NOT_BLOCKED}"
IN_BACKOFF: Final = f"state = 'waiting' AND not_before_ms > 0 AND {NOT_BLOCKED}"
BLOCKED_RUNS: Final = f"state = 'waiting' AND not_before_ms >= {BLOCKED}"
REQUEUED: Final = "state = 'waiting' AND attempt > 0"
TO_STAGE: Final = "stage_rank IS NOT NULL"
CLASS_READY: Final = "ready > 0"
RELEASED: Final = "released_ms IS NOT NULL"


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


def _real(name: str) -> sa.Column[float | None]:
    return sa.Column(name, REAL, nullable=True)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _partial(name: str, *columns: Any, where: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(where), info={_WHERE: where})


_WHERE: Final = "where"


def know_postgres() -> None:
    """Have partial indexes be partial on PostgreSQL, too. Saying so loads the dialect, 2 MB and 40 ms, which a server
    on SQLite does without."""
    for table in metadata.tables.values():
        for index in table.indexes:
            if _WHERE in index.info:
                index.dialect_kwargs["postgresql_where"] = sa.text(index.info[_WHERE])


accounts = sa.Table(
    "accounts",
    metadata,
    _word("id", primary_key=True),
    _word("name"),
    _flag("paused"),
    sa.Column("plan", WORD, nullable=False, server_default="unlimited"),
    sa.Column("own_quota", WORD, nullable=False, server_default="{}"),  # what it has instead of its plan's, JSON
    _maybe_big("closed_ms"),
)

plans = sa.Table(
    "plans", metadata, _word("name", primary_key=True), _word("quota"), sa.Column("weight", REAL, nullable=False)
)
"""What the operator made or changed of plans; those that come with the code need no row. ``quota`` is JSON."""

members = sa.Table(
    "members",
    metadata,
    _word("id", primary_key=True),
    sa.Column("account_id", WORD, sa.ForeignKey("accounts.id"), nullable=False),
    _word("name"),
    _big("number", unique=True),
    sa.Column("role", WORD, nullable=False, server_default="user"),
    _maybe_word("password"),  # its argon2 hash
    _maybe_big("removed_ms"),  # the row stays, for the names in lists and bills
    _maybe_word("subject"),  # SHA-256 of issuer and subject, where they sign in by OpenID Connect
    sa.Index("ix_members_account", "account_id", "name", unique=True),
    sa.Index("ix_members_subject", "account_id", "subject", unique=True),
)

tokens = sa.Table(
    "tokens",
    metadata,
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
    _maybe_big("used_ms"),  # to about a minute
    sa.Index("ix_tokens_account", "account_id", "created_ms"),
)

connections = sa.Table(
    "connections",
    metadata,
    _word("account_id", primary_key=True),
    _word("name", primary_key=True),
    _word("kind"),
    _word("connection"),
    _big("created_ms"),
    sa.Column("sealed", sa.LargeBinary(), nullable=True),
)

definitions = sa.Table(
    "definitions",
    metadata,
    _word("account_id", primary_key=True),
    _word("sha256", primary_key=True),
    _big("size"),
    _big("created_ms"),
    sa.Column("mentions_config", sa.Boolean(), nullable=True),
    sa.Index("ix_definitions_sha256", "sha256"),
)

specs = sa.Table(
    "specs",
    metadata,
    _key("id"),
    sa.Column("account_id", WORD, sa.ForeignKey("accounts.id"), nullable=False),
    _word("spec"),
    _maybe_word("code_sha256"),
    _flag("append_args"),
    _word("provenance"),
    sa.Column("sealed", sa.LargeBinary(), nullable=True),
    _big("priority"),
    _maybe_big("stage_rank"),  # rank of its first waiting run that is not ready
    sa.Column("environment", WORD, nullable=False, server_default="{}"),  # what its interpreter must offer
    _maybe_big("limit_ms"),  # how long a program of it may run
    _partial("ix_specs_to_stage", sa.text("priority DESC"), "stage_rank", where=TO_STAGE),
)

queue_classes = sa.Table(
    "queue_classes",
    metadata,
    _key("id"),
    sa.Column("account_id", WORD, sa.ForeignKey("accounts.id"), nullable=False),
    _big("priority"),
    _big("gpus"),
    _big("cpu_millis"),
    _big("memory_mib"),
    _big("waiting"),  # how many of its runs wait, and
    _big("ready"),  # how many of those are ready on a node
    sa.UniqueConstraint("account_id", "priority", "gpus", "cpu_millis", "memory_mib", name="uq_queue_classes"),
    _partial("ix_queue_classes_ready", "id", where=CLASS_READY),
)

runs = sa.Table(
    "runs",
    metadata,
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
    _word("detail"),  # the fields of the state, JSON
    _big("version"),
    _big("created_ms"),
    _big("max_retries"),
    _big("attempt"),  # number of the latest attempt, 0 before the first
    _big("not_before_ms"),  # of a waiting run, else 0
    _maybe_word("ready_on"),
    _maybe_big("staged_ms"),
    _maybe_big("finished_ms"),
    _maybe_big("stored_ms"),
    _word("notes"),
    sa.Index("ix_runs_account_state", "account_id", "state", "seq"),
    sa.Index("ix_runs_name", "account_id", "name", "state", "seq"),
    _partial("ix_runs_active", "state", "seq", where=ACTIVE),
    _partial("ix_runs_ready", "class_id", "rank", where=FREE),
    _partial("ix_runs_backoff", "class_id", "not_before_ms", where=IN_BACKOFF),
    _partial("ix_runs_blocked", "not_before_ms", "seq", where=BLOCKED_RUNS),
    _partial("ix_runs_requeued", "attempt", where=REQUEUED),
    _partial("ix_runs_queue", sa.text("priority DESC"), "rank", where=WAITING),
    _partial("ix_runs_account_queue", "account_id", sa.text("priority DESC"), "rank", where=WAITING),
    _partial("ix_runs_spec_ready", "spec_id", "rank", where=READY),
    _partial("ix_runs_spec_unready", "spec_id", "rank", where=UNREADY),
)

tags = sa.Table(
    "tags",
    metadata,
    _word("run_id", primary_key=True),
    _word("tag", primary_key=True),
    _big("seq"),  # of the run; its rows outlive the run, for the ledger
    _big("position"),  # in the run's list of tags
    _word("account_id"),
    sa.Index("ix_tags_tag", "account_id", "tag", "seq"),
    sqlite_with_rowid=False,
)

queue_blocks = sa.Table(
    "queue_blocks",
    metadata,
    _key("priority"),
    _key("block"),  # of ranks: see ``places``
    _big("waiting"),  # how many of its runs wait, without those that wait for others
    sqlite_with_rowid=False,
)

attempts = sa.Table(
    "attempts",
    metadata,
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
    sa.Column("way", WORD, nullable=False, server_default=""),
    sa.Column("way_note", WORD, nullable=False, server_default=""),
    _partial("ix_attempts_spec", "spec_id", "released_ms", where=RELEASED),
    _partial("ix_attempts_account", "account_id", "released_ms", where=RELEASED),
)

nodes = sa.Table(
    "nodes",
    metadata,
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
    sa.Column("features", WORD, nullable=False, server_default="[]"),
    sa.Column("python", WORD, nullable=False, server_default=""),
    sa.Column("packages", WORD, nullable=False, server_default="{}"),
)

spec_facts = sa.Table("spec_facts", metadata, _key("spec_id"), _word("environment"), _word("inputs"))

frameworks = sa.Table(
    "frameworks",
    metadata,
    _word("account_id", primary_key=True),
    _word("name", primary_key=True),
    _word("version", primary_key=True),
    _big("created_ms"),
    _maybe_word("python"),
    _maybe_word("instead"),
)

secrets = sa.Table(
    "secrets",
    metadata,
    _word("account_id", primary_key=True),
    _word("name", primary_key=True),
    _big("created_ms"),
    sa.Column("sealed", sa.LargeBinary(), nullable=False),
)

dependencies = sa.Table(
    "dependencies",
    metadata,
    sa.Column("run_id", WORD, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    _word("after_id", primary_key=True),
    _big("position"),
    sa.Index("ix_dependencies_after", "after_id"),
)

metric_streams = sa.Table(
    "metric_streams",
    metadata,
    sa.Column("run_id", WORD, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("attempt", BIG, primary_key=True, autoincrement=False),
    sa.Column("learner", BIG, primary_key=True, autoincrement=False),
    _big("folded"),  # bytes of the stream that the summaries have taken in
)

metric_summaries = sa.Table(
    "metric_summaries",
    metadata,
    sa.Column("run_id", WORD, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
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
"""``first``, ``last``, ``lowest`` and ``highest`` are null where no value, or none that is finite, was seen."""

events = sa.Table(
    "events",
    metadata,
    _key("seq"),
    _word("kind"),
    _word("run_id"),
    _word("account_id"),
    _big("at_ms"),
    _maybe_big("attempt"),
    _word("body"),
    sa.Index("ix_events_run", "run_id", "seq"),
    sa.Index("ix_events_account", "account_id", "seq"),
)

ledger = sa.Table(
    "ledger",
    metadata,
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
    sa.Index("ix_ledger_account", "account_id", "from_ms"),
    sa.Index("ix_ledger_from", "from_ms"),
)

account_shares = sa.Table(
    "account_shares",
    metadata,
    _word("account_id", primary_key=True),
    _real("weight"),
    _maybe_word("start_window"),
    sa.Column("used", REAL, nullable=False),  # milliseconds of one GPU, decayed to
    _big("used_at_ms"),
)

budgets = sa.Table(
    "budgets",
    metadata,
    _word("account_id", primary_key=True),
    _word("period"),
    _maybe_big("gpu_ms"),
    _maybe_big("cost"),
    _big("warn_percent"),
)

daily_use = sa.Table(
    "daily_use",
    metadata,
    _word("account_id", primary_key=True),
    _key("day"),  # since 1970-01-01, UTC
    _big("gpu_ms"),
    _big("cost"),
)

node_drains = sa.Table("node_drains", metadata, _word("node_id", primary_key=True), _big("since_ms"))

idempotency = sa.Table(
    "idempotency",
    metadata,
    _word("account_id", primary_key=True),
    _word("key", primary_key=True),
    _word("digest"),
    _word("run_ids"),
    _big("created_ms"),
)

audit = sa.Table(
    "audit",
    metadata,
    _key("seq"),
    _big("at_ms"),
    _word("account_id"),
    _word("token_id"),
    _word("member_id"),
    _word("address"),
    _word("action"),
    _word("object"),
    _word("outcome"),
    _big("status"),
    sa.Index("ix_audit_account", "account_id", "seq"),
)
"""Only added to: nothing here changes or removes a row."""

state_counts = sa.Table(
    "state_counts", metadata, _word("account_id", primary_key=True), _word("state", primary_key=True), _big("runs")
)

settings = sa.Table("settings", metadata, _word("name", primary_key=True), _word("value"))

leases = sa.Table(
    "leases",
    metadata,
    _word("name", primary_key=True),
    _word("holder"),
    _word("url"),
    _big("epoch"),
    _big("until_ms"),  # by the database's clock
)
"""Who leads among several servers (:mod:`runyard.adapters.sql.lease`)."""

retentions = sa.Table(
    "retentions", metadata, _word("account_id", primary_key=True), _word("part", primary_key=True), _big("kept_ms")
)

swept = sa.Table(
    "swept",
    metadata,
    sa.Column("run_id", WORD, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    _word("part", primary_key=True),
)
"""What went of final runs by the retention of their accounts."""

counters = sa.Table("counters", metadata, _word("name", primary_key=True), _big("value"))
"""``event`` and ``run``: the last sequence number given out. The row is changed in the transaction that uses the
number, and writers take turns, so numbers are in the order of commits and have no gaps that fill later."""
