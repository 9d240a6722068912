"""The page of a program's variables names those that there are."""

import re
from pathlib import Path

from runyard.manifest.options import RESERVED
from runyard.node.environment import PASSED_ON, environment
from runyard.node.environments.interpreter import Interpreter
from runyard.node.home import AttemptFolder
from runyard.node.ready import Ready
from runyard.node.seats import Seat
from runyard.wire.orders import Stage
from tests.node.nodes import launch_of

PAGE = Path(__file__).parents[2] / "docs" / "program.md"
NAMED = set(re.findall(r"`([A-Z][A-Z_]+)`", PAGE.read_text(encoding="utf-8")))
OF_AN_ENVIRONMENT = {"VIRTUAL_ENV", "CONDA_PREFIX"}


def test_the_page_has_every_variable_and_no_other() -> None:
    ready = Ready(7, "", None, None, (), ())
    folder = AttemptFolder("training-a1B2c3D4e", 1, "/r")
    seat = Seat(1, 1, "0", 1, 1, 0, 1)
    own: dict[str, str] = dict.fromkeys(PASSED_ON, "x")
    seen = environment(
        launch_of(Stage(7, None, ()), "true"), folder, "/c", ready, seat, Interpreter("/bin", ()), 4000, own, None
    )
    assert set(seen) | RESERVED | OF_AN_ENVIRONMENT == NAMED
