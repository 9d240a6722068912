"""One yard a test."""

import pytest

from tests.engine.yard import Yard


@pytest.fixture
def yard() -> Yard:
    """An engine with one connected machine of two GPU slots."""
    made = Yard()
    made.join()
    made.fakes.executor.take()
    return made
