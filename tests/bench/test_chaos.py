"""The campaign's own judgment: a schedule by its seed, and an audit that sees what is missing or too much."""

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bench.chaos.audit import Witness, follows, same
from bench.chaos.blows import BLOWS, Kept, schedule
from bench.chaos.hours import Hours
from bench.chaos.pair_blows import PAIR
from bench.chaos.proxy import Door
from bench.chaos.reality import boottime


@pytest.mark.parametrize("blows", [BLOWS, PAIR])
def test_a_schedule_has_every_kind_and_is_the_same_for_the_same_seed(blows: Mapping[str, Kept]) -> None:
    assert schedule(3, 1000, blows) == schedule(3, 1000, blows) != schedule(4, 1000, blows)
    assert set(schedule(3, 40, blows)) == set(blows)
    assert 990 <= len(schedule(3, 1000, blows)) <= 1020


@pytest.mark.parametrize(
    ("found", "noted", "ended", "right"),
    [
        ([0, 1, 2], [0, 1, 2], True, True),
        ([0, 1, 2, 3], [0, 1, 2], False, True),
        ([0, 1, 2, 3], [0, 1, 2], True, False),
        ([0, 1, 2, 3, 4], [0, 1, 2], False, False),
        ([0, 2], [0, 1, 2], False, False),
        ([0, 1], [0, 1, 2], False, False),
        ([0, 1, 1, 2], [0, 1, 2], False, False),
        ([1, 0], [0, 1], False, False),
        ([], [], True, True),
        ([0], [], False, True),
    ],
)
def test_lines_once_and_in_order(found: list[int], noted: list[int], *, ended: bool, right: bool) -> None:
    assert same(found, noted, ended=ended) is right


@pytest.mark.parametrize(
    ("steps", "right"),
    [
        ([0, 1, 2, 3], True),
        ([0, 1, 2, 2, 3], True),  # the first attempt was killed between its third point and its note
        ([0, 1, 3], False),
        ([0, 1, 2, 3, 3], False),
        ([0, 1, 5, 2, 3], False),
        ([2, 3, 0, 1], False),
    ],
)
def test_points_attempt_after_attempt(steps: list[int], *, right: bool) -> None:
    killed = Witness(lines=[0, 1, 2], points=[0, 1], begun=1, last=5)
    ended = Witness(lines=[2, 3], points=[2, 3], begun=6, last=9, code=0)
    assert follows(steps, [killed, ended]) is right


def test_the_servers_time_is_known_for_each_moment(tmp_path: Path) -> None:
    hours = Hours(tmp_path / "none")
    for at, offset in ((100.0, 5000), (200.0, 5000), (300.0, 1000)):
        hours.note(at, offset)
    assert [hours.time_of(at) for at in (50, 100, 250, 300, 400)] == [5050, 5100, 5250, 1300, 1400]


def test_a_difference_holds_from_when_it_was_written_down(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    hours = Hours(file)
    for offset, ago_s in ((5000, 60), (1000, 20)):
        file.write_text(json.dumps({"offset_ms": offset}))
        changed = time.time() - ago_s
        os.utime(file, (changed, changed))
        hours.look()
    now = round(boottime() * 1000)
    assert [hours.time_of(now - ago) - now + ago for ago in (70_000, 30_000, 21_000, 19_000, 0)] == [5000] * 3 + [
        1000
    ] * 2
    assert "5000" in hours.around(now - 19_000)


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def behind() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_door_that_is_shut_lets_nobody_through_until_it_is_unlocked(behind: int) -> None:
    door = Door(behind)
    url = f"http://127.0.0.1:{door.port}/"
    assert urllib.request.urlopen(url, timeout=5).status == 204
    door.shut()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)
    door.unlock()
    assert urllib.request.urlopen(url, timeout=5).status == 204
    door.shut()
