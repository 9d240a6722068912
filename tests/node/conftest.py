"""A node and a server for a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.nodes import NodeProcess, running_node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with running_node(tmp_path) as running:
        yield running
