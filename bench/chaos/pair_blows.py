"""The blows that only two servers on PostgreSQL can take: the leader and the other one, the database, a node's way."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Mapping

import psycopg

from bench.chaos import reality
from bench.chaos.blows import BLOWS, Kept, Striker, hit, paused
from bench.chaos.place import Installed, Place
from bench.chaos.reality import boottime

SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'runyard%' ORDER BY pid"


def other_leads(place: Place, before: Installed) -> bool:
    """Whether another server than before leads, and answers."""
    with contextlib.suppress(OSError, psycopg.Error):
        leads = place.leads()
        if leads != before:
            with urllib.request.urlopen(f"{leads.url}/healthz", timeout=2) as answer:
                return answer.status == 200
    return False


def taken_over(striker: Striker, before: Installed, name: str) -> None:
    """Wait for the other server to answer as the leader, or for the one before to lead again; note how long it took."""
    began = boottime()
    while boottime() - began < reality.PATIENCE_S:
        if other_leads(striker.place, before):
            striker.struck.took.setdefault(name, []).append(boottime() - began)
            return
        time.sleep(0.01)
        if name == KILLED and boottime() - began > 1 and reality.healthy(striker.place):
            return  # it was started again before the other one had looked
    striker.struck.never.append(name)


KILLED, STOPPED = "takeover after SIGKILL", "takeover after SIGSTOP"


def kill_server(name: str, which: Callable[[Place], Installed]) -> Kept:
    """SIGKILL to the server that leads, or to the one that stands by."""

    def blow(striker: Striker) -> bool:
        where = which(striker.place)
        pid = where.child("server")
        if pid is None or not hit(pid, signal.SIGKILL):
            return False
        if which is Place.leads:
            taken_over(striker, where, KILLED)
        new = reality.replaced(where, "server", pid)
        striker.timed(name, None if new is None else reality.began_at(new))
        return True

    return Kept(blow, 25)


def kill_both(striker: Striker) -> bool:
    """SIGKILL to both servers at once."""
    old = {each: each.child("server") for each in striker.place.installed}
    if not all(pid is not None and hit(pid, signal.SIGKILL) for pid in old.values()):
        return False
    new = [reality.replaced(each, "server", pid) for each, pid in old.items() if pid is not None]
    began = [reality.began_at(pid) for pid in new if pid is not None]
    striker.timed("SIGKILL both servers", max(each for each in began if each is not None) if all(began) else None)
    return True


def stop_leader(striker: Striker) -> bool:
    """SIGSTOP to the leader for longer than its lease: it wakes up when another one leads, and is to write nothing."""
    where = striker.place.leads()
    pid = where.child("server")
    if pid is None or not hit(pid, signal.SIGSTOP):
        return False
    taken_over(striker, where, STOPPED)
    time.sleep(striker.chance.uniform(0, 1.0))
    hit(pid, signal.SIGCONT)
    striker.timed("SIGSTOP leader", boottime())
    return True


def kill_session(striker: Striker) -> bool:
    """SIGKILL to a process of the database: it ends all others, and recovers, which is its own time."""
    database = striker.place.database()
    with contextlib.closing(database):
        found = [int(row[0]) for row in database.execute(SESSIONS).fetchall()]
    if not found or not hit(striker.chance.choice(found), signal.SIGKILL):
        return False
    deadline = time.monotonic() + reality.PATIENCE_S
    time.sleep(0.05)
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.Error), contextlib.closing(striker.place.database()) as database:
            database.execute("SELECT 1")
            break
        time.sleep(0.01)
    striker.timed("a process of the database killed", boottime())
    return True


def for_a_while(
    striker: Striker, what: str, end: Callable[[], object], begin: Callable[[], object], seconds: tuple[float, float]
) -> bool:
    """Something ends, and begins again a moment later, between so many seconds."""
    end()
    time.sleep(striker.chance.uniform(*seconds))
    begin()
    striker.timed(what, boottime())
    return True


def restart_database(striker: Striker) -> bool:
    """The database goes down as with its machine, and comes back."""
    postgres = striker.place.postgres
    assert postgres is not None
    return for_a_while(striker, "database down", postgres.stop, postgres.start, (0, 1.0))


def cut_link(striker: Striker) -> bool:
    """The way of one node to the server is closed for a while."""
    link = striker.place.link
    assert link is not None
    return for_a_while(striker, "way of a node closed", link.shut, link.unlock, (0.3, 4.0))


def stop_beside(striker: Striker) -> bool:
    """SIGSTOP to the node that has no supervisor."""
    node = striker.place.beside
    return node is not None and os.path.exists(f"/proc/{node.pid}") and paused(striker, node.pid)


PAIR: Mapping[str, Kept] = {
    **{name: kept for name, kept in BLOWS.items() if "server" not in name or "clock" in name},
    "SIGKILL leader": kill_server("SIGKILL leader", Place.leads),
    "SIGKILL the one that stands by": kill_server("SIGKILL the one that stands by", Place.stands_by),
    "SIGKILL both servers": Kept(kill_both, 10),
    "SIGKILL server and node": BLOWS["SIGKILL server and node"],
    "SIGSTOP leader": Kept(stop_leader, 15),
    "SIGSTOP third node": Kept(stop_beside, 10),
    "a process of the database killed": Kept(kill_session, 12),
    "database down": Kept(restart_database, 8),
    "way of a node closed": Kept(cut_link, 20),
}
"""Every kind, with how often in a thousand or so."""
