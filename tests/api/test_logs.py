"""Logs by offset and as events: across attempts, characters and connections; and the events of the account."""

import asyncio
import json
import threading
import time

import pytest

from runyard.api.streams import LogEvents, log_bytes
from runyard.client.frames import LOG_FRAMES, FrameParser, SentLog
from runyard.client.sse import SentEvent
from runyard.core.characters import whole_characters
from runyard.ports.logs import LogKey
from runyard.wire import facts, orders
from tests.api.serving import MANIFEST, Api, Machine, sse
from tests.support.waiting import wait_until

LINES = b"".join(b"line %d\n" % number for number in range(1000))


@pytest.fixture(scope="module")
def printed(api: Api, machine: Machine) -> str:
    """A completed run with a thousand lines of log, from 0."""
    run = machine.started()
    assert machine.print(run, 0, LINES).json() == {"size": len(LINES)}
    machine.end(run, log_bytes=len(LINES))
    return run


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", LINES), ("offset=9000", LINES[9000:]), ("offset=999999", b""), ("tail=1", b"line 999\n"), ("tail=0", b""),
        ("tail=5000", LINES), ("tail=1000", LINES), ("tail=999", LINES[7:]), ("since=3600", LINES), ("since=-60", b""),
        ("since=1970-01-01", LINES), ("follow=true", LINES), ("follow=true&tail=2", b"line 998\nline 999\n"),
        ("stream=load-data", b""), ("learner=1", LINES),
    ],
)  # fmt: skip
def test_text(api: Api, printed: str, query: str, text: bytes) -> None:
    answer = api.call("GET", f"/training-runs/{printed}/logs?{query}")
    assert (answer.status, answer.body) == (200, text)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["runyard-log-offset"].isdigit()
    if "offset" not in query and text:
        assert answer.headers["runyard-log-offset"] == str(len(LINES) - len(text))


@pytest.mark.parametrize(
    "query",
    ["offset=-1", "offset=" + "9" * 40, "tail=-1", "tail=" + "9" * 40, "since=never", "since=inf", "since=nan",
     "since=1e999", "stream=passwords", "stream=..%2Fx", "learner=0", "learner=2", "learner=" + "9" * 40, "attempt=-1",
     "attempt=" + "9" * 40],
)  # fmt: skip
def test_questions_that_make_no_sense(api: Api, printed: str, query: str) -> None:
    for accept in ("text/plain", "text/event-stream"):
        answer = api.call("GET", f"/training-runs/{printed}/logs?{query}", headers={"Accept": accept})
        assert (answer.status, answer.code) == (422, "invalid_request")


@pytest.mark.parametrize("last", ["x", "1", "1:", ":1", "1:-1", "²:1", "1:" + "9" * 40])
def test_places_to_go_on_from_that_make_no_sense(api: Api, printed: str, last: str) -> None:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last.encode().decode("latin-1")}
    assert api.call("GET", f"/training-runs/{printed}/logs", headers=headers).code == "invalid_request"
    if last not in ("1",):
        assert api.call("GET", "/events", headers=headers).code == "invalid_request"


def test_a_last_line_without_its_end_counts(api: Api, machine: Machine) -> None:
    run = machine.started()
    machine.print(run, 0, b"a\nb\nc")
    for tail, text in ((1, b"c"), (2, b"b\nc"), (3, b"a\nb\nc"), (9, b"a\nb\nc")):
        assert api.call("GET", f"/training-runs/{run}/logs?tail={tail}").body == text
    machine.end(run, log_bytes=5)


def test_a_tail_that_is_larger_than_a_block(api: Api, machine: Machine) -> None:
    run = machine.started()
    text = b"".join(b"%07d\n" % number for number in range(40_000))
    machine.print(run, 0, text)
    machine.end(run, log_bytes=len(text))
    for tail in (8191, 8192, 8193, 20_000, 39_999, 40_000, 40_001):
        assert api.call("GET", f"/training-runs/{run}/logs?tail={tail}").body == text[-8 * tail :], tail


def events_of(api: Api, run: str, query: str = "", last: str | None = None) -> list[tuple[str, dict[str, object], str]]:
    """All events of a run's log, to the end."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last is not None else {})
    with api.open("GET", f"/training-runs/{run}/logs?{query}", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        return [(name, data, id or "") for name, data, id in sse(response)]


def text_of(found: list[tuple[str, dict[str, object], str]]) -> str:
    return "".join(str(data["text"]) for name, data, _ in found if name == "log")


def test_events_of_a_log_that_is_over_and_going_on_in_the_middle(api: Api, printed: str) -> None:
    found = events_of(api, printed)
    assert text_of(found) == LINES.decode()
    assert [name for name, _, _ in found][-2:] == ["state", "end"]
    assert found[-1][1]["state"] == "completed"
    assert found[0][2] == f"1:{len(LINES)}"
    assert text_of(events_of(api, printed, last="1:9000")) == LINES[9000:].decode()
    assert text_of(events_of(api, printed, last=found[0][2])) == ""


def test_frames_of_a_log_are_its_own_bytes(api: Api, machine: Machine) -> None:
    text = b"\xff not UTF-8 \x00\n" * 40_000
    run = machine.started()
    machine.print(run, 0, text)
    machine.end(run, log_bytes=len(text))
    headers = {"Accept": "application/vnd.runyard.log, text/event-stream"}
    parser, found = FrameParser(), list[SentEvent | SentLog]()
    with api.open("GET", f"/training-runs/{run}/logs", headers=headers) as response:
        assert response.headers["content-type"] == LOG_FRAMES
        found += parser.feed(response.read())
    assert b"".join(each.data for each in found if isinstance(each, SentLog)) == text
    assert [each.name for each in found if isinstance(each, SentEvent)] == ["state", "end"]
    answer = api.call("GET", f"/training-runs/{run}/logs", headers=headers | {"Last-Event-ID": f"1:{len(text) - 7}"})
    assert answer.body.startswith(b"log 1 %d 7\n%b" % (len(text) - 7, text[-7:]))


def test_following_through_characters_that_are_cut(api: Api, machine: Machine) -> None:
    text = "grün 🙂 done\n".encode()
    run, found, begun = machine.started(), list[tuple[str, dict[str, object]]](), threading.Event()

    def follow() -> None:
        with api.open("GET", f"/training-runs/{run}/logs", headers={"Accept": "text/event-stream"}) as response:
            for name, data, _ in sse(response):
                found.append((name, data))
                begun.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert begun.wait(20)
    for offset in range(len(text)):
        machine.print(run, offset, text[offset : offset + 1])
    machine.end(run, log_bytes=len(text))
    thread.join(20)
    logs = [data for name, data in found if name == "log"]
    assert "".join(str(data["text"]) for data in logs) == text.decode()
    assert [data["offset"] for data in logs] == sorted(data["offset"] for data in logs)  # type: ignore[type-var]  # numbers
    assert found[-1][0] == "end"


def lose(machine: Machine, run: str, attempt: int) -> None:
    """The attempt's shim dies; returns once the next attempt is ordered."""
    machine.tell(facts.Lost(run, attempt, "shim_lost", "It died."))
    machine.order(orders.Launch, run=run, attempt=attempt + 1)
    machine.tell(facts.Began(run, attempt + 1, int(time.time() * 1000)))


def test_events_go_on_into_the_next_attempt_though_the_first_left_no_size(api: Api, machine: Machine) -> None:
    run, came = machine.started(), threading.Event()
    machine.print(run, 0, "first 🙂".encode()[:-1])
    found = list[tuple[str, dict[str, object]]]()

    def follow() -> None:
        with api.open("GET", f"/training-runs/{run}/logs", headers={"Accept": "text/event-stream"}) as response:
            for name, data, _ in sse(response):
                found.append((name, data))
                if data.get("attempt") == 2:
                    came.set()

    thread = threading.Thread(target=follow)
    thread.start()
    lose(machine, run, 1)
    machine.print(run, 0, b"second", attempt=2)
    assert came.wait(20), "shown while the second attempt runs"
    machine.end(run, log_bytes=6, attempt=2)
    thread.join(20)
    told = [(data["attempt"], data["text"]) for name, data in found if name == "log"]
    assert "".join(str(text) for number, text in told if number == 1).startswith("first ")
    assert "".join(str(text) for number, text in told if number == 2) == "second"
    assert api.call("GET", f"/training-runs/{run}/logs?attempt=2").body == b"second"
    assert api.call("GET", f"/training-runs/{run}/logs").body == b"second"
    assert text_of(events_of(api, run, last="1:6")).endswith("second")


def test_following_a_run_that_has_not_begun(api: Api, machine: Machine) -> None:
    for accept in ("text/plain", "text/event-stream"):
        run = api.submit()[0]
        answers = list[bytes]()

        def follow(run: str = run, accept: str = accept, answers: list[bytes] = answers) -> None:
            path = f"/training-runs/{run}/logs?follow=true"
            with api.open("GET", path, headers={"Accept": accept}) as response:
                assert response.status == 200
                answers.append(response.read())

        thread = threading.Thread(target=follow)
        thread.start()
        machine.begin(run)
        machine.print(run, 0, b"hello\n")
        machine.end(run, log_bytes=6)
        thread.join(20)
        assert b"hello" in answers[0]


def test_following_the_other_streams_ends_too(api: Api, machine: Machine) -> None:
    run = machine.started()
    machine.print(run, 0, b"fetched\n", stream="load-data")
    machine.print(run, 0, b"a long log of the program\n")
    machine.end(run, log_bytes=26)
    assert text_of(events_of(api, run, "stream=load-data&attempt=1")) == "fetched\n"
    assert api.call("GET", f"/training-runs/{run}/logs?stream=load-data&follow=true").body == b"fetched\n"


def test_a_log_whose_last_bytes_never_come_ends_all_the_same(api: Api, machine: Machine) -> None:
    run = machine.started()
    machine.print(run, 0, b"half")
    machine.end(run, log_bytes=8)
    world, key = api.context.world, LogKey(run, 1)

    async def follow() -> tuple[bytes, list[bytes]]:
        chunks = [chunk async for chunk in log_bytes(world, key, 0, follow=True, quiet_s=0.05)]
        return b"".join(chunks), [each async for each in LogEvents(world, key, 0, quiet_s=0.05).stream()]

    text, found = asyncio.run(follow())
    assert text == b"half"
    assert found[-1].startswith(b"event: end")


def test_a_run_that_is_deleted_ends_its_streams(api: Api, machine: Machine) -> None:
    # What the machine is known to have would be started at once: this interpreter nobody else asks for.
    run = api.submit(manifest=MANIFEST + "runyard: {python: /usr/bin/python3}\n")[0]
    with api.open("GET", f"/training-runs/{run}/logs", headers={"Accept": "text/event-stream"}) as response:
        stream = sse(response)
        assert next(stream)[0] == "state"
        api.call("POST", f"/training-runs/{run}/cancel")
        api.call("DELETE", f"/training-runs/{run}")
        assert [name for name, _, _ in stream][-1] == "end"


def test_a_follower_that_goes_away_is_forgotten(api: Api, machine: Machine) -> None:
    run = machine.started()
    ears = api.context.world.bell._ears
    with api.open("GET", f"/training-runs/{run}/logs", headers={"Accept": "text/event-stream"}) as response:
        next(sse(response))
        assert f"log/{run}" in ears
    wait_until(lambda: f"log/{run}" not in ears, "nobody listens")
    machine.end(run)


@pytest.mark.parametrize(
    ("chunk", "whole"),
    [
        (b"", 0), (b"abc", 3), ("ü".encode(), 2), ("ü".encode()[:1], 0), ("a🙂".encode()[:-1], 1), ("🙂".encode(), 4),
        (b"\xff", 0), (b"a\xff\xff\xff\xffb", 6), (b"\x80\x80\x80\x80\x80", 5), ("a€".encode()[:-1], 1),
    ],
)  # fmt: skip
def test_whole_characters(chunk: bytes, whole: int) -> None:
    assert whole_characters(chunk) == whole


def test_events_of_the_account_resume_by_number(api: Api, machine: Machine) -> None:
    begin = api.get("/events?limit=1000")["items"][-1]["seq"]
    runs = api.submit(parameters=[{}] * 3)
    api.submit(token="other")
    path = f"/events?after={begin}"
    with api.open("GET", path, headers={"Accept": "text/event-stream"}) as response:
        stream = sse(response)
        first = [next(stream) for _ in range(2)]
    assert [(name, data["run"]) for name, data, _ in first] == [("accepted", runs[0]), ("accepted", runs[1])]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(first[-1][2])}
    with api.open("GET", path, headers=headers) as response:
        name, data, number = next(sse(response))
    assert (name, data["run"], data["seq"]) == ("accepted", runs[2], int(number or 0))
    with api.open("GET", "/events", headers={"Accept": "text/event-stream"}) as response:
        api.call("POST", f"/training-runs/{runs[0]}/cancel")
        names = [(name, data["run"]) for name, data, _ in [next(sse(response))]]
        assert names[0][1] in runs, "from now on"


def test_events_by_pages(api: Api, machine: Machine) -> None:
    api.submit(parameters=[{}] * 3)
    page = api.get("/events?limit=2")
    assert len(page["items"]) == 2
    assert page["next"] == str(page["items"][-1]["seq"])
    following = api.get(f"/events?limit=1000&after={page['next']}")
    assert following["items"][0]["seq"] > page["items"][-1]["seq"]
    assert following["next"] is None
    assert json.dumps(following).count("accepted") >= 1
