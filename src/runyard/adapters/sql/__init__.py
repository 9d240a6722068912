"""The store of record on SQLite or PostgreSQL."""

from runyard.adapters.sql.store import SqlStore, is_current, open_store

__all__ = ["SqlStore", "is_current", "open_store"]
