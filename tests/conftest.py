"""Fixtures for all tests. What they start stands in tests/support, as plain functions with docstrings."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import Installation, running_installation
from tests.support.seaweedfs import S3Server, running_s3_server

# A shell that starts a check in its background has it ignore Ctrl-C (and more), and what it starts would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)


FIRST = (
    "story",
    "samples",
    "node",
    "docs",
    "tools",
    "bench",
    "up",
    "adapters",
    "hostile",
    "shim",
    "cli",
    "stores",
    "fuzz",
)
"""Folders whose tests take long, or wait long, in the order in which several workers take them: short files fill the
time until the last long one has ended."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several workers take the long files first (`--no-loadscope-reorder`); one takes all as they stand."""
    if hasattr(config, "workerinput"):
        items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return FIRST.index(folder) if folder in FIRST else len(FIRST)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One real S3 server for the whole session: use bucket names of your own. Mark the test ``s3``."""
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def four_slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running installation with four logical GPU slots, shared by samples and pages."""
    with running_installation(tmp_path_factory.mktemp("four-slots"), "--fake-gpus", "4") as installation:
        yield installation
