"""The fake keeps the contract of the log store."""

from collections.abc import Callable

import pytest

from runyard.ports.logs import LogStore
from runyard.testing.logs_contract import LogStoreContract
from runyard.testing.memory_logs import MemoryLogs


class TestMemoryLogs(LogStoreContract):
    @pytest.fixture
    def make(self) -> Callable[[], LogStore]:
        return MemoryLogs
