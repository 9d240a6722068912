"""One server for the tests of a file."""

from collections.abc import Iterator

import pytest

from runyard.settings import Settings
from tests.api.serving import Api, Machine, serving


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running server that takes model definitions of at most 1 MiB."""
    with serving(tmp_path_factory.mktemp("server"), Settings(upload_limit_mib=1)) as running:
        yield running


@pytest.fixture(scope="module")
def machine(api: Api) -> Iterator[Machine]:
    """A machine of 64 slots that is connected."""
    made = Machine(api, gpus=64)
    made.hello()
    made.listen()
    yield made
    made.hang_up()
