"""What the server says of folders of a machine that it does not see."""

from pathlib import Path

import pytest

from runyard.adapters.objects import FolderStore, Stores
from runyard.core.errors import StoreUnavailable
from runyard.core.spec import Connection, Location, StoreKind
from runyard.ports.objects import Checked, Listing, Verdict
from runyard.testing.objects_contract import ACCOUNT


def stores(tmp_path: Path, *roots: str) -> Stores:
    return Stores(FolderStore(tmp_path / "store"), host_paths=roots)


def volume(path: str | None, bucket: str = "", prefix: str = "") -> Location:
    return Location(StoreKind.volume, Connection(path=path), bucket, prefix)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    ("path", "bucket"),
    [("/data", ""), ("/data", "set"), ("/data/a/b", "set"), ("/data/a/../b", ""), ("/srv/x/", "y"), ("/data/", "..x")],
)
def test_below_a_root_is_allowed(tmp_path: Path, path: str, bucket: str, write: bool) -> None:
    asked = stores(tmp_path, "/data/:rw", "/srv/x:rw")
    assert asked.check(volume(path, bucket), None, write=write, account_id=ACCOUNT) == Checked(Verdict.ok)
    assert asked.list(volume(path, bucket), None, account_id=ACCOUNT) == Listing(Checked(Verdict.ok))


def test_a_read_only_root_is_read_and_not_written(tmp_path: Path) -> None:
    asked = stores(tmp_path, "/data", "/data/out:rw")
    checked = asked.check(volume("/data/set"), None, write=True, account_id=ACCOUNT)
    assert checked.verdict is Verdict.denied
    assert "read-only" in checked.message
    assert asked.check(volume("/data/set"), None, write=False, account_id=ACCOUNT) == Checked(Verdict.ok)
    assert asked.check(volume("/data/out/a"), None, write=True, account_id=ACCOUNT) == Checked(Verdict.ok)


@pytest.mark.parametrize(
    ("path", "bucket"),
    [("/", ""), ("/etc", ""), ("/database", ""), ("/data/..", ""), ("/data", "../etc"), ("/data/a/../../etc", "b")],
)
def test_outside_the_roots_is_denied_and_the_roots_are_named(tmp_path: Path, path: str, bucket: str) -> None:
    asked = stores(tmp_path, "/data", "/srv/x")
    checked = asked.check(volume(path, bucket), None, write=False, account_id=ACCOUNT)
    assert checked.verdict is Verdict.denied
    assert "/data (read-only), /srv/x (read-only)" in checked.message
    assert asked.list(volume(path, bucket), None, account_id=ACCOUNT).checked == checked


@pytest.mark.parametrize("path", [None, "", "data", "./data", "/data\0"])
def test_a_path_must_be_absolute(tmp_path: Path, path: str | None) -> None:
    checked = stores(tmp_path, "/data").check(volume(path), None, write=False, account_id=ACCOUNT)
    assert checked.verdict is Verdict.denied
    assert "absolute" in checked.message


def test_without_roots_none_is_allowed(tmp_path: Path) -> None:
    checked = stores(tmp_path).check(volume("/data"), None, write=False, account_id=ACCOUNT)
    assert checked.verdict is Verdict.denied
    assert "none is allowed" in checked.message
    assert stores(tmp_path, "/").check(volume("/data"), None, write=False, account_id=ACCOUNT).verdict is Verdict.ok


def test_the_server_does_not_reach_into_the_folder(tmp_path: Path) -> None:
    asked = stores(tmp_path, "/data")
    for ask in (
        lambda: asked.read(volume("/data", "set"), None, "k", account_id=ACCOUNT),
        lambda: asked.delete_prefix(volume("/data", "set"), None, "run/", account_id=ACCOUNT),
    ):
        with pytest.raises(StoreUnavailable, match="/data/set"):
            ask()
