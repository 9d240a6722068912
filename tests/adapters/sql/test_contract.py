"""The SQL store keeps the contract of the store, on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest

from runyard.adapters.sql import open_store
from runyard.ports.store import Store
from runyard.testing.store_contract import StoreContract


class TestSqlite(StoreContract):
    @pytest.fixture
    def store(self, sqlite_url: str) -> Iterator[Store]:
        store = open_store(sqlite_url)
        yield store
        store.close()


class TestPostgres(StoreContract):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[Store]:
        store = open_store(postgres_url)
        yield store
        store.close()
