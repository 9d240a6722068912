"""The server's start, as far as no request is needed to see it."""

import subprocess
import sys
from pathlib import Path

from runyard.adapters.sql import is_current, open_store
from runyard.adapters.sql.database import Database
from runyard.adapters.sql.migrate import HEAD
from runyard.server import UPGRADING, _noting  # pyright: ignore[reportPrivateUsage]
from runyard.up import readiness

PROBE = """
import logging, sys
from pathlib import Path
from runyard import server
logging.basicConfig()
server.bring_forward(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[1]) / server.UPGRADING)
print([name for name in ("alembic", "mako") if name in sys.modules])
"""


def brought_forward(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", PROBE, str(folder), url]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_what_makes_the_schema_does_not_stay_with_the_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/server/runyard.db"
    for _ in range(2):  # made, then found
        done = brought_forward(tmp_path / "server", url)
        assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
        assert is_current(url)
        assert not (tmp_path / "server" / UPGRADING).exists()


def test_how_far_an_upgrade_is_stands_where_up_looks(tmp_path: Path) -> None:
    assert readiness.UPGRADING == UPGRADING
    tell = _noting(tmp_path / UPGRADING)
    tell("runs", 5000)
    assert (tmp_path / UPGRADING).read_text() == "runs 5000"
    tell("runs", 5001)
    assert (tmp_path / UPGRADING).read_text() == "runs 5000", "twice a second is enough"
    _noting(tmp_path / "nowhere" / UPGRADING)("runs", 1)


def test_a_schema_that_cannot_be_brought_forward_is_told_once_and_ends_the_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runyard.db"
    open_store(url).close()
    database = Database(url)
    with database.write() as tx:
        tx.change("UPDATE alembic_version SET version_num = 'from-the-future'")
    database.close()
    assert not is_current(url)
    done = brought_forward(tmp_path, url)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("has schema from-the-future") == 1
    assert f"knows no newer one than {HEAD}" in done.stderr
