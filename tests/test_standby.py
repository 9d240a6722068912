"""A lease goes to one of several, and back when it is let go; what stands by passes on."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from runyard.adapters.sql import open_store
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.lease import Leader, Lease
from runyard.core.account import Account
from runyard.core.errors import NotLeading, RunyardError
from runyard.standby import Door, database_is_back, follow
from tests.support.postgres import Postgres, running_postgres


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """A PostgreSQL server with our schema."""
    with running_postgres() as server:
        open_store(server.url).close()
        yield server


@pytest.fixture
def free(database: Postgres) -> Postgres:
    """The same, with a lease that nobody has."""
    with psycopg.connect(database.url) as connection:
        connection.execute("DELETE FROM leases")
    return database


def lease(database: Postgres, holder: str, lasts_s: float = 60.0) -> Lease:
    return Lease(database.url, holder, f"http://{holder.partition(' ')[0]}:1", lasts_s)


def test_one_of_many_takes_the_lease(free: Postgres) -> None:
    hands = [lease(free, f"place{number} a") for number in range(8)]
    found: list[int | Leader] = []
    threads = [threading.Thread(target=lambda each=each: found.append(each.take())) for each in hands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [each for each in found if isinstance(each, int)] == [1]
    for each in hands:
        each.close()


def test_a_lease_that_is_let_go_wakes_who_waits(free: Postgres) -> None:
    one, two = lease(free, "one a"), lease(free, "two a")
    epoch = one.take()
    assert epoch == 1
    there = two.take()
    assert isinstance(there, Leader)
    assert (there.url, there.left_s > 30) == ("http://one:1", True)
    assert one.renew(1)
    told = threading.Event()
    waiting = threading.Thread(target=lambda: (two.wait(60), told.set()))
    waiting.start()
    one.release(1)
    assert told.wait(30)
    waiting.join(30)
    assert two.take() == 2
    assert not one.renew(1)
    one.release(1)
    assert two.renew(2), "nobody lets go of another's lease"
    one.close()
    two.close()


def test_the_end_of_who_leads_wakes_who_waits_and_the_lease_need_not_run_out(free: Postgres) -> None:
    one, two = lease(free, "one a"), lease(free, "two a")
    assert one.take() == 1
    assert isinstance(two.take(), Leader)
    told = threading.Event()
    waiting = threading.Thread(target=lambda: (two.wait(60), told.set()))
    waiting.start()
    assert not told.wait(0.2)
    one.close()  # its process is gone, and with it its session
    assert told.wait(30)
    waiting.join(30)
    assert two.take() == 2
    two.close()


def test_who_leads_and_lives_keeps_the_lease_though_another_has_the_lock(free: Postgres) -> None:
    one, two = lease(free, "one a"), lease(free, "two a")
    assert one.take() == 1
    told = threading.Event()
    waiting = threading.Thread(target=lambda: (two.wait(60), told.set()))
    waiting.start()
    assert not told.wait(0.2)
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%one a'"
    with psycopg.connect(free.url, autocommit=True) as connection:
        connection.execute(ended)
    assert told.wait(30), "it has the lock that went with the session"
    waiting.join(30)
    assert one.renew(1), "in a new session"
    assert isinstance(two.take(), Leader)
    assert one.renew(1)
    two.wait(0.3)
    assert isinstance(two.take(), Leader)
    for each in (one, two):
        each.close()


def test_an_installation_takes_its_own_lease_back_at_once(free: Postgres) -> None:
    before, after = lease(free, "one a"), lease(free, "one b")
    assert (before.take(), after.take(), before.renew(1), after.renew(2)) == (1, 2, False, True)
    before.close()
    after.close()


def test_who_leads_no_more_writes_nothing(free: Postgres) -> None:
    one, two = lease(free, "one a", 0.001), lease(free, "two a")
    assert one.take() == 1
    store = open_store(free.url, holder="one a", epoch=1)
    store.ensure_account(Account("before", "before"))
    taken = two.take()
    while isinstance(taken, Leader):
        taken = two.take()
    assert taken == 2
    with pytest.raises(RunyardError):
        store.ensure_account(Account("after", "after"))
    with pytest.raises(NotLeading):  # its sessions were ended, which the first try may have met
        store.ensure_account(Account("after", "after"))
    assert {account.id for account in store.accounts()} >= {"before"}
    assert store.account("after") is None
    for each in (one, two, store):
        each.close()


def test_a_hanging_writer_does_not_keep_the_lease(free: Postgres) -> None:
    one, two = lease(free, "one a", 0.001), lease(free, "two a")
    assert one.take() == 1
    hanging = Database(free.url, "one a", 1)
    with pytest.raises(Exception, match="does not answer"), hanging.write() as tx:  # noqa: PT012  # both are the point
        tx.change("INSERT INTO settings (name, value) VALUES ('hanging', '1')")
        assert two.take() == 2
        tx.change("INSERT INTO settings (name, value) VALUES ('hanging2', '1')")
    assert free.rows("SELECT count(*) FROM settings WHERE name LIKE 'hanging%'") == [(0,)]
    for each in (one, two, hanging):
        each.close()


def test_a_second_server_without_shared_files_is_refused(free: Postgres) -> None:
    one, two = lease(free, "one a", 0.3), lease(free, "two a")
    assert one.take() == 1
    stop = threading.Event()
    renewing = threading.Thread(target=lambda: [one.renew(1) for _ in iter(lambda: stop.wait(0.05), True)])
    renewing.start()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(RunyardError, match="shared_folder"):
            asyncio.run(follow(listening, two, shared=False))
    finally:
        stop.set()
        renewing.join(30)
    one.close()
    two.close()


def test_the_door_passes_bytes_on_in_both_directions() -> None:
    async def story() -> tuple[bytes, bytes]:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"got " + await reader.read())
            writer.close()

        there = await asyncio.start_server(echo, "127.0.0.1", 0)
        door = Door()
        here = await asyncio.start_server(door.serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*here.sockets[0].getsockname()[:2])
        writer.write(b"x" * 200_000)
        writer.write_eof()
        door.lead_to(f"http://127.0.0.1:{there.sockets[0].getsockname()[1]}")  # a request waits until somebody leads
        answer = await reader.read()
        cut_reader, cut_writer = await asyncio.open_connection(*here.sockets[0].getsockname()[:2])
        cut_writer.write(b"half")
        await cut_writer.drain()
        await asyncio.sleep(0)
        door.cut()
        rest = await asyncio.wait_for(cut_reader.read(), 30)
        for each in (here, there):
            each.close()
        return answer, rest

    answer, rest = asyncio.run(story())
    assert answer == b"got " + b"x" * 200_000
    assert rest == b""


class Recovering(Lease):
    """A hand on a lease in a database that answers again when it is asked for the third time."""

    asked = 0
    answered_at = 0.0

    def ask(self) -> None:
        self.asked += 1
        if self.asked < 3:
            raise psycopg.OperationalError("the database system is in recovery mode")
        self.answered_at = time.monotonic()


def test_who_led_before_the_database_was_away_may_say_so_first() -> None:
    hand = Recovering("postgresql://nowhere", "one a", "http://one:1", 1.0)
    asyncio.run(database_is_back(hand))
    assert hand.asked == 3
    assert time.monotonic() - hand.answered_at >= hand.renewed_s, "as long as it takes until the next renewal"
