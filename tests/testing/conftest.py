"""The contract suite is a module of the package: its assertions are to be told as those of tests are."""

import pytest

pytest.register_assert_rewrite("runyard.testing")
