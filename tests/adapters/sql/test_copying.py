"""The log is copied beside the work: in quiet moments, at last without one, and never at the cost of what was said."""

import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from runyard.adapters.sql.copying import Copier
from runyard.adapters.sql.database import Turn
from tests.support.waiting import wait_until

PAGE = 4096


class Notes:
    """A table of its own, written a row of a page's size in a transaction, with a copier."""

    def __init__(
        self, path: Path, *, some: int = 60, many: int = 10**9, long: int = 10**9, quiet_s: float = 0.05
    ) -> None:
        self.path = path
        self.turn = Turn()
        self.driver = self._connect()
        self.driver.execute("PRAGMA wal_autocheckpoint=0")  # nobody but the copier copies
        self.driver.execute("CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY, text TEXT)")
        self.copier = Copier(self._connect, self.turn, some=some, many=many, long=long, quiet_s=quiet_s)

    def _connect(self) -> sqlite3.Connection:
        driver = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            driver.execute(f"PRAGMA {pragma}").close()
        return driver

    def write(self, number: int) -> None:
        with self.turn:
            self.driver.execute("INSERT INTO notes VALUES (?, ?)", (number, "x" * PAGE))
            self.copier.wrote(1)

    def log_size(self) -> int:
        return Path(f"{self.path}-wal").stat().st_size

    def close(self) -> None:
        self.copier.close()
        self.driver.close()


def copied(path: Path, aside: Path) -> int:
    """How many rows the database's file has by itself, without its log."""
    shutil.copy(path, aside)
    try:
        with closing(sqlite3.connect(aside)) as looker:
            return int(looker.execute("SELECT count(*) FROM notes").fetchone()[0])
    except sqlite3.DatabaseError:
        return 0  # it was copied in between, or there was nothing yet


def nobody_copies() -> bool:
    return not any(thread.name == "copy the log" for thread in threading.enumerate())


def test_a_quiet_moment_is_used_and_no_commit_copies(tmp_path: Path) -> None:
    notes, aside = Notes(tmp_path / "notes.db", some=100), tmp_path / "aside.db"
    for number in range(6):
        notes.write(number)
    assert copied(notes.path, aside) == 0  # 96 pages, as they are counted: not yet worth it
    notes.write(6)
    wait_until(lambda: copied(notes.path, aside) == 7, "the copying of the log", pause=0.01)
    notes.close()


def test_without_a_quiet_moment_the_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.db", some=16, many=160, long=160, quiet_s=3600)
    sizes: list[int] = []
    for number in range(400):
        notes.write(number)
        sizes.append(notes.log_size())
    assert max(sizes) < 200 * 3 * PAGE  # of 400 rows, each of two or three pages
    notes.close()


@pytest.mark.parametrize(("long", "in_turn"), [(10**9, [False]), (1, [False, False, True])])
def test_who_writes_while_it_copies_waits_only_for_the_rest_of_a_long_log(
    tmp_path: Path, long: int, in_turn: list[bool]
) -> None:
    notes = Notes(tmp_path / "notes.db", some=16, long=long, quiet_s=0)
    numbers = iter(range(100))
    held: list[bool] = []
    first_written = threading.Event()

    class Slow(sqlite3.Connection):
        """Somebody writes after each copy that is not in a turn."""

        def execute(self, sql: str, parameters: object = ()) -> sqlite3.Cursor:
            found = super().execute(sql, parameters)  # type: ignore[arg-type]  # as it came
            if "checkpoint" in sql:
                assert first_written.wait(10)  # its turn ends after the copying has begun
                held.append(notes.turn._taken)  # pyright: ignore[reportPrivateUsage]
                if len(held) <= 2 and not held[-1]:
                    notes.write(next(numbers))
            return found

    def connect() -> sqlite3.Connection:
        driver = sqlite3.connect(notes.path, isolation_level=None, factory=Slow)
        driver.execute("PRAGMA synchronous=FULL").close()
        return driver

    notes.copier._connect = connect  # pyright: ignore[reportPrivateUsage]
    notes.write(next(numbers))
    first_written.set()
    wait_until(nobody_copies, "the copying of the log", pause=0.01)
    assert held == in_turn
    notes.close()


def test_what_a_reader_still_needs_stays_in_the_log(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.db", some=16, quiet_s=0)
    notes.write(0)
    with closing(sqlite3.connect(notes.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM notes").fetchone() == (1,)
        for number in range(1, 30):
            notes.write(number)
        wait_until(nobody_copies, "the copying of the log", pause=0.01)
        assert reader.execute("SELECT count(*) FROM notes").fetchone() == (1,)
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*) FROM notes").fetchone() == (30,)
    notes.close()


def test_closing_waits_for_no_quiet_moment_and_leaves_no_thread(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.db", some=16, quiet_s=3600)
    notes.write(0)
    assert not nobody_copies()
    notes.close()
    assert nobody_copies()


def test_a_copy_that_fails_is_tried_again_with_later_commits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notes, aside = Notes(tmp_path / "notes.db", some=16, quiet_s=0), tmp_path / "aside.db"
    real, notes.copier._connect = notes.copier._connect, refuse  # pyright: ignore[reportPrivateUsage]
    notes.write(0)
    wait_until(lambda: "could not be copied" in caplog.text, "the copying of the log", pause=0.01)
    assert copied(notes.path, aside) == 0
    notes.copier._connect = real  # pyright: ignore[reportPrivateUsage]
    numbers = iter(range(1, 10_000))

    def again() -> bool:
        notes.write(next(numbers))
        return copied(notes.path, aside) > 0

    wait_until(again, "the copying of the log", pause=0.01)
    notes.close()


def refuse() -> sqlite3.Connection:
    raise sqlite3.OperationalError("unable to open database file")


WRITER = """
import sys
from pathlib import Path
from tests.support.waiting import wait_until
from tests.adapters.sql.test_copying import Notes
notes = Notes(Path(sys.argv[1]), some=16, many=64, long=90, quiet_s=0.001)
first = notes.driver.execute("SELECT count(*) FROM notes").fetchone()[0]
for number in range(first, 10**6):
    notes.write(number)
    print(number, flush=True)
"""


def test_nothing_that_was_said_is_lost_when_the_process_is_killed_while_it_copies(tmp_path: Path) -> None:
    path, chance = tmp_path / "notes.db", random.Random(7)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(chance.randrange(20, 90))]
        process.kill()
        said += process.stdout.readlines()
        process.wait(30)
        process.stdout.close()
        with closing(sqlite3.connect(path)) as looker:
            numbers = [row[0] for row in looker.execute("SELECT number FROM notes ORDER BY number")]
            assert looker.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert len(numbers) in (int(said[-1]) + 1, int(said[-1]) + 2)
        assert numbers == list(range(len(numbers)))
