"""The contract of the store, as tests: subclass :class:`StoreContract` and give it a ``store`` fixture.

Every test starts from an empty store. The parts stand in the modules that begin with this one's name.
"""

from __future__ import annotations

import pytest

from runyard.ports.store import Store
from runyard.testing.store_contract_accounts import AccountContract
from runyard.testing.store_contract_after import AfterContract, SecretContract
from runyard.testing.store_contract_canceling import CancelContract
from runyard.testing.store_contract_changes import ChangeContract
from runyard.testing.store_contract_environments import EnvironmentContract
from runyard.testing.store_contract_history import HistoryContract
from runyard.testing.store_contract_members import AuditContract, MemberContract, PlanContract, SealedContract
from runyard.testing.store_contract_metrics import SummaryContract
from runyard.testing.store_contract_queue import QueueContract
from runyard.testing.store_contract_retention import RetentionContract
from runyard.testing.store_contract_runs import RunContract
from runyard.testing.store_contract_shares import ShareContract


class StoreContract(
    AccountContract,
    PlanContract,
    MemberContract,
    AuditContract,
    SealedContract,
    SecretContract,
    RunContract,
    ChangeContract,
    CancelContract,
    QueueContract,
    AfterContract,
    HistoryContract,
    EnvironmentContract,
    SummaryContract,
    ShareContract,
    RetentionContract,
):
    """All that any store must do."""

    @pytest.fixture
    def store(self) -> Store:
        """An empty store; closed again by whoever made it."""
        raise NotImplementedError("a subclass says which store is tested")
