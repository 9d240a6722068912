"""The store of record on SQLite or PostgreSQL."""

from runyard.adapters.sql.store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
