"""Model definitions as files: there when complete and right, else not at all."""

import asyncio
import hashlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runyard.adapters.definitions import DefinitionFiles

BODY = b"PK" + bytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


async def chunks(body: bytes, fails: Exception | None = None) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), 65_536):
        yield body[begin : begin + 65_536]
    if fails is not None:
        raise fails


def put(files: DefinitionFiles, sha: str, body: bytes, limit: int = 1_000_000, fails: Exception | None = None) -> int:
    return asyncio.run(files.put(sha, chunks(body, fails), limit))


def left(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.is_file()]


def test_what_was_put_is_there(tmp_path: Path) -> None:
    files = DefinitionFiles(tmp_path)
    assert files.size(SHA) is None
    assert files.open(SHA) is None
    for _ in range(2):
        assert put(files, SHA, BODY) == len(BODY)
    assert files.size(SHA) == len(BODY)
    opened = files.open(SHA)
    assert opened is not None
    with opened:
        assert opened.read() == BODY
    assert left(tmp_path) == [SHA]
    assert stat.S_IMODE((tmp_path / SHA[:2]).stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("sha", "limit", "fails", "error"),
    [
        ("0" * 64, 1_000_000, None, ValueError),
        (SHA.upper(), 1_000_000, None, ValueError),
        ("../../" + SHA[6:], 1_000_000, None, ValueError),
        ("", 1_000_000, None, ValueError),
        (SHA, len(BODY) - 1, None, OverflowError),
        (SHA, 1_000_000, ConnectionError("it broke off"), ConnectionError),
    ],
)
def test_what_is_not_right_leaves_nothing(
    tmp_path: Path, sha: str, limit: int, fails: Exception | None, error: type[Exception]
) -> None:
    files = DefinitionFiles(tmp_path / "root")
    with pytest.raises(error):
        put(files, sha, BODY, limit, fails)
    assert left(tmp_path) == []
    assert files.open(sha) is None
    assert files.size(sha) is None


def test_the_limit_is_allowed(tmp_path: Path) -> None:
    assert put(DefinitionFiles(tmp_path), SHA, BODY, limit=len(BODY)) == len(BODY)


def test_several_at_once(tmp_path: Path) -> None:
    files = DefinitionFiles(tmp_path)

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(files.put(SHA, chunks(BODY), 1_000_000) for _ in range(5)))

    assert asyncio.run(all_of_them()) == [len(BODY)] * 5
    assert left(tmp_path) == [SHA]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    put(DefinitionFiles(tmp_path), SHA, BODY)
    (tmp_path / SHA[:2] / ".0123.tmp").write_bytes(b"half")
    files = DefinitionFiles(tmp_path)
    assert left(tmp_path) == [SHA]
    assert files.size(SHA) == len(BODY)
