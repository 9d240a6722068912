"""Files to and from the service: whole or not at all, and never outside of their folder."""

import os
import time
from pathlib import Path

import pytest

from runyard.client import Client, Misuse, TransferFailed
from runyard.client.transfer import download_results, pull, push, safe_target
from tests.client.api_server import ApiServer


@pytest.fixture
def stored(server: ApiServer) -> str:
    run = server.add_run(state="completed")
    server.state.results[run] = {
        "model/weights.bin": os.urandom(300_000),
        "learner-1/training-log.txt": b"log\n",
        "e": b"",
    }
    return run


def test_results_arrive_whole(server: ApiServer, client: Client, stored: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    paths = download_results(client, stored, tmp_path, progress=lambda done, total: told.append((done, total)))
    contents = {str(path.relative_to(tmp_path / stored)): path.read_bytes() for path in paths}
    assert contents == server.state.results[stored]
    assert max(told) == (300_004, 300_004)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "e",
        "training-log.txt",
        "weights.bin",
    ]


def test_only_a_part_of_the_results(client: Client, stored: str, tmp_path: Path) -> None:
    paths = download_results(client, stored, tmp_path, only="model")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [f"{stored}/model/weights.bin"]
    assert download_results(client, stored, tmp_path, only="mod") == ()


def test_a_file_that_is_cut_short_is_not_kept(server: ApiServer, client: Client, stored: str, tmp_path: Path) -> None:
    server.short_by = 1
    server.state.results[stored].pop("e")
    with pytest.raises(TransferFailed, match="instead of"):
        download_results(client, stored, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_whose_connection_breaks_is_fetched_again(
    server: ApiServer, client: Client, stored: str, tmp_path: Path
) -> None:
    client.results(stored)
    server.drop = 2
    paths = download_results(client, stored, tmp_path)
    assert len(paths) == 3


@pytest.mark.parametrize("key", ["../up", "/root", "a/../b", "a//b", "", ".", "a\\b"])
def test_a_key_that_leads_out_of_the_folder_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(TransferFailed):
        safe_target(tmp_path, key)


def test_a_folder_goes_and_comes_back(server: ApiServer, client: Client, tmp_path: Path) -> None:
    source = tmp_path / "data"
    (source / "sub").mkdir(parents=True)
    files = {"a.csv": b"1", "sub/b.csv": b"22", ".hidden": b"333"}
    for name, content in files.items():
        (source / name).write_bytes(content)
    (source / "link").symlink_to("sub")
    (source / "sub" / "loop").symlink_to("..")
    pushed = push(client, source, "bucket", "in")
    files["link/b.csv"] = b"22"
    assert server.state.objects["bucket"] == {f"in/{name}": content for name, content in files.items()}
    assert len(pushed.sent) == 4
    paths = pull(client, "bucket", "in", tmp_path / "back")
    assert {path.relative_to(tmp_path / "back").as_posix(): path.read_bytes() for path in paths} == files
    assert pull(client, "bucket", "i", tmp_path / "none") == ()
    one = pull(client, "bucket", "in/a.csv", tmp_path / "one")
    assert [path.name for path in one] == ["a.csv"]


def test_unchanged_files_are_not_sent_again(client: Client, tmp_path: Path) -> None:
    """The test service dates its objects an hour ahead, so that what is not changed is older."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"one")
    (tmp_path / "d" / "b").write_bytes(b"two")
    assert len(push(client, tmp_path / "d", "bucket").sent) == 2
    (tmp_path / "d" / "b").write_bytes(b"three")
    again = push(client, tmp_path / "d", "bucket")
    assert ([each.key for each in again.sent], again.unchanged) == (["b"], 1)
    later = time.time() + 7200
    os.utime(tmp_path / "d" / "a", (later, later))
    assert [each.key for each in push(client, tmp_path / "d", "bucket").sent] == ["a"]
    assert len(push(client, tmp_path / "d", "bucket", unchanged_too=True).sent) == 2


def test_a_single_file(server: ApiServer, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1")
    push(client, tmp_path / "a.csv", "bucket")
    assert server.state.objects["bucket"] == {"a.csv": b"1"}


def test_nothing_to_send(client: Client, tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="no files"):
        push(client, tmp_path, "bucket")
