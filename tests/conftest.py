"""Fixtures for all tests. What they start stands in tests/support, as plain functions with docstrings."""

from collections.abc import Iterator

import pytest

from tests.support.seaweedfs import S3Server, running_s3_server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One real S3 server for the whole session: use bucket names of your own. Mark the test ``s3``."""
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
