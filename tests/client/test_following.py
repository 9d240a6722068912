"""Following and waiting: over cut connections and restarts, nothing lost, nothing twice, nobody asked twice."""

import threading
import time
from collections.abc import Callable
from itertools import islice

import pytest

from runyard.client import Client, LogChunk, Patience, Reconnected, StateChange
from runyard.client.errors import NotFound, TimedOut, Unreachable
from runyard.client.waiting import verdict
from tests.client.api_server import TOKEN, ApiServer


def meanwhile(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def text_of(items: list[LogChunk | StateChange]) -> str:
    return "".join(item.text for item in items if isinstance(item, LogChunk))


def test_a_log_is_followed_to_its_end(server: ApiServer, client: Client) -> None:
    run = server.add_run()
    thread = meanwhile(lambda: server.live(run, log="one\ntwö\n"))
    items = list(client.follow(run))
    thread.join()
    assert text_of(items) == "one\ntwö\n"
    states = [item.state for item in items if isinstance(item, StateChange)]
    assert states[-1] == "completed"
    assert all(item.run == run for item in items)


def test_a_log_goes_on_into_the_next_attempt(server: ApiServer, client: Client) -> None:
    run = server.add_run()
    server.move(run, "starting")
    server.move(run, "running")
    server.print_log(run, "first\n")
    following = client.follow(run)
    first = [next(following), next(following)]
    server.move(run, "waiting")
    server.live(run, log="second\n")
    rest = list(following)
    chunks = [item for item in [*first, *rest] if isinstance(item, LogChunk)]
    assert [(chunk.attempt, chunk.text) for chunk in chunks] == [(1, "first\n"), (2, "second\n")]


def test_a_log_is_followed_over_cuts_and_a_restart(server: ApiServer, client: Client) -> None:
    run = server.add_run()
    server.move(run, "starting")
    server.move(run, "running")
    seen: list[str] = []
    following = client.follow(run)
    for number in range(6):
        server.print_log(run, f"line {number}\n")
        while not "".join(seen).endswith(f"line {number}\n"):
            item = next(following)
            seen += [item.text] if isinstance(item, LogChunk) else []
        if number == 3:
            server.stop()
            server.start()
        else:
            server.cut()
    server.move(run, "completed")
    seen += [item.text for item in following if isinstance(item, LogChunk)]
    assert "".join(seen) == "".join(f"line {number}\n" for number in range(6))
    resumed = [each for each in server.asked("GET", ".*/logs") if "last-event-id" in each.headers]
    assert len(resumed) >= 6
    assert all("tail" not in each.query for each in resumed)


def test_following_nobody_fails_at_once(server: ApiServer, client: Client) -> None:
    run = server.add_run()
    server.stop()
    begun = time.monotonic()
    with pytest.raises(Unreachable):
        list(client.follow(run))
    assert time.monotonic() - begun < 5
    server.start()
    with pytest.raises(NotFound):
        list(client.follow("training-unknown00"))


def test_patience_ends(server: ApiServer) -> None:
    patience = Patience(idle=5, first=0.01, longest=0.02, absence=0.3)
    client = Client(server.url, TOKEN, patience=patience)
    run = server.add_run()
    following = client.follow(run)
    assert isinstance(next(following), StateChange)
    server.stop()
    with pytest.raises(Unreachable, match="not been heard of"):
        list(following)
    server.start()


def test_a_silent_connection_is_taken_for_dead_and_replaced(server: ApiServer) -> None:
    client = Client(server.url, TOKEN, patience=Patience(idle=0.05, first=0.01, longest=0.02))
    run = server.add_run()
    thread = meanwhile(lambda: (time.sleep(0.5), server.live(run))[0])
    assert text_of(list(client.follow(run))) == "hello\n"
    thread.join()


def test_events_are_each_told_once_and_reconnections_too(server: ApiServer, client: Client) -> None:
    run = server.add_run()
    events = client.events(0)
    assert [event.kind for event in islice(events, 1) if not isinstance(event, Reconnected)] == ["accepted"]
    server.move(run, "starting")
    next(events)
    server.cut()
    server.move(run, "running")
    assert isinstance(next(events), Reconnected)
    last = next(events)
    assert not isinstance(last, Reconnected)
    assert (last.kind, last.seq, last.run, last.state) == ("running", 3, run, "running")


def test_waiting_asks_once_and_listens(server: ApiServer, client: Client) -> None:
    ids = [server.add_run() for _ in range(3)]

    def lives() -> None:
        for run, ending in zip(ids, ("completed", "failed", "canceled"), strict=True):
            time.sleep(0.1)
            server.live(run, ending)

    thread = meanwhile(lives)
    told: list[tuple[str, str]] = []
    runs = client.wait(ids, on_change=lambda run, event: told.append((run.id, event.kind if event else "")))
    thread.join()
    assert [run.state for run in runs] == ["completed", "failed", "canceled"]
    assert verdict(runs) == 1
    assert told[:3] == [(run, "") for run in ids]
    assert (ids[2], "finished") in told
    assert len(server.asked("GET", "/api/v1/training-runs/[^/]+")) == 6
    assert len(server.asked("GET", "/api/v1/events")) == 1


def test_many_runs_are_looked_for_in_the_list(server: ApiServer, client: Client) -> None:
    ids = [server.add_run() for _ in range(20)]
    for run in ids:
        server.live(run)
    assert [run.id for run in client.wait(ids)] == ids
    assert server.asked("GET", "/api/v1/training-runs/[^/]+") == []
    assert len(server.asked("GET", "/api/v1/training-runs")) == 1


def test_waiting_begins_behind_the_acceptance_of_the_last(server: ApiServer, client: Client) -> None:
    ids = [server.add_run() for _ in range(3)]
    accepted = client.history(ids[-1])[-1].seq
    assert accepted > client.history(ids[0])[-1].seq

    def end_all() -> None:
        while not server.asked("GET", "/api/v1/events"):
            time.sleep(0.01)
        for run in ids:
            server.live(run)

    thread = meanwhile(end_all)
    assert [run.state for run in client.wait(ids)] == ["completed"] * 3
    thread.join()
    assert server.asked("GET", "/api/v1/events")[0].query["after"] == [str(accepted)]


def test_waiting_survives_a_restart(server: ApiServer, client: Client) -> None:
    run = server.add_run()

    def restart() -> None:
        while not server.asked("GET", "/api/v1/events"):
            time.sleep(0.01)
        server.stop()
        server.start()
        server.live(run)

    thread = meanwhile(restart)
    assert client.wait(run)[0].state == "completed"
    thread.join()


def test_what_ended_while_nobody_listened_is_found(server: ApiServer, client: Client) -> None:
    """The run ends between the look at its history and the look at its state."""
    run = server.add_run()
    server.live(run)
    assert client.wait([run, "last"])[0].state == "completed"
    assert server.asked("GET", "/api/v1/events") == []


def test_waiting_in_vain(server: ApiServer, client: Client) -> None:
    run = server.add_run()
    begun = time.monotonic()
    with pytest.raises(TimedOut, match=run):
        client.wait(run, timeout=0.3)
    assert 0.3 <= time.monotonic() - begun < 5
    with pytest.raises(TimedOut):
        client.wait(run, timeout=0)


def test_waiting_for_a_run_that_is_deleted(server: ApiServer, client: Client) -> None:
    runs = [server.add_run(), server.add_run()]

    def remove() -> None:
        while not server.asked("GET", "/api/v1/events"):
            time.sleep(0.01)
        server.forget(runs[1])
        server.live(runs[0])

    thread = meanwhile(remove)
    with pytest.raises(NotFound):
        client.wait(runs)
    thread.join()


def test_waiting_for_nothing(client: Client) -> None:
    assert client.wait([]) == []
