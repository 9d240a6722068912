"""One installation for the stories that harm nobody else's."""

from collections.abc import Iterator

import pytest

from tests.support.installation import Installation, running_installation


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running installation with two logical GPU slots, shared by stories."""
    with running_installation(tmp_path_factory.mktemp("shared"), "--fake-gpus", "2") as installation:
        yield installation
