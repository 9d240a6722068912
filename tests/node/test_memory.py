"""What a node remembers of runs, images and environments goes when they do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import msgspec

from bench.soak.holding import lengths
from runyard.node.containers.engines import ImageStore
from runyard.node.containers.images import Images
from runyard.node.evidence import Evidence
from runyard.node.home import Home
from runyard.node.limiting import Limiting
from runyard.node.warm.parents import FAILED_FOR_S, Failures, Kind
from runyard.node.watch import Watch
from runyard.wire.orders import Environment
from tests.node.nodes import RUN
from tests.support.waiting import wait_until


class Shims:
    """Those that are listened to, and what they were asked."""

    def __init__(self, *attempts: tuple[str, int]) -> None:
        self.attempts = list(attempts)
        self.stopped: list[str] = []

    def watched(self) -> list[tuple[str, int]]:
        return self.attempts

    def listened_to(self) -> list[Any]:
        return []

    def stop(self, run: str, _attempt: int, _cause: str, _grace_ms: int | None) -> bool:
        self.stopped.append(run)
        return True


def test_a_run_that_was_over_its_limit_is_forgotten_when_it_is_gone(tmp_path: Path) -> None:
    home, shims = Home(str(tmp_path)), Shims((RUN, 1))
    folder = home.attempt(RUN, 1)
    os.makedirs(folder.own)
    Path(folder.own, "file").write_bytes(bytes(1 << 20))
    Path(folder.order).write_bytes(msgspec.json.encode({"limits": {"disk": 1000}}))
    limiting = Limiting(home, cast("Watch", shims), 0.05)
    limiting.start()
    wait_until(lambda: len(shims.stopped) > 1, "the run is stopped")
    assert lengths(limiting)["._told"] == 1
    shims.attempts = []
    wait_until(lambda: lengths(limiting)["._told"] == 0, "the run is forgotten")


class Engine:
    """A container engine that has every image."""

    def image(self, name: str) -> tuple[str, int] | None:
        return f"sha256:{name}", 10


def test_names_of_images_are_remembered_while_they_are_made_ready(tmp_path: Path) -> None:
    images = Images(cast("ImageStore", Engine()), str(tmp_path))
    for number in range(20):
        asked = Environment(image=f"registry.example/lab/image:{number}", pull="missing")
        name, _, fetched = images.ready(asked, Evidence(), lambda _words: None)
        assert (name, fetched) == (asked.image, 0)
    assert lengths(images)["._fetching"] == 0


def test_kinds_of_warm_parents_that_failed_long_ago_are_forgotten() -> None:
    failures = Failures()
    for number in range(1000):  # an environment that is changed again and again
        failures.note(Kind("default", None, f"/env{number}", (), (), ()), number * 10.0, FAILED_FOR_S)
        assert lengths(failures)["._until"] <= FAILED_FOR_S / 5
