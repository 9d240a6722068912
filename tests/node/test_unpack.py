"""Model definitions: what comes out of a good zip, and which ones are refused."""

import io
import stat
import zipfile
from pathlib import Path

import pytest

from runyard.node.unpack import CodeInvalid, Limits, make_passable, unpack
from runyard.wire import facts
from tests.node.nodes import NodeProcess, stage_of, zipped


def entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def zip_of(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> io.BytesIO:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in entries:
            archive.writestr(info, content)
    target.seek(0)
    return target


def test_modes_names_and_empty_folders(tmp_path: Path) -> None:
    target = tmp_path / "out"
    archive = zip_of(
        (entry("train.py"), b"x"),
        (entry("./bin/run.sh", 0o100750), b"#!/bin/sh"),
        (entry("setuid", 0o104777), b""),
        (entry("empty/", 0o040700), b""),
        ("d\xe4ta/\u6587.txt", b"unicode"),
    )
    unpacked = unpack(archive, str(target))
    make_passable(str(target))
    assert (unpacked.files, unpacked.size) == (4, 1 + 9 + 7)
    modes = {str(p.relative_to(target)): stat.S_IMODE(p.stat().st_mode) for p in target.rglob("*")}
    assert modes == {
        "train.py": 0o644,
        "bin": 0o755,
        "bin/run.sh": 0o755,
        "setuid": 0o755,
        "empty": 0o755,
        "d\xe4ta": 0o755,
        "d\xe4ta/\u6587.txt": 0o644,
    }


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (entry("../evil"), "leads out"),
        (entry("a/../../evil"), "leads out"),
        (entry("/etc/passwd"), "absolute"),
        (entry("C:/evil"), "absolute"),
        (entry("link", stat.S_IFLNK | 0o777), "symbolic link"),
        (entry("device", stat.S_IFCHR | 0o666), "neither a file"),
        (entry("fifo", stat.S_IFIFO | 0o666), "neither a file"),
        (entry("x" * 300), "too long"),
        (entry("good.txt/inside"), "both as a file and as a folder"),
    ],
)
def test_hostile_entries_are_refused(tmp_path: Path, bad: zipfile.ZipInfo, words: str) -> None:
    archive = zip_of((entry("good.txt"), b"1"), (bad, b"/etc/shadow"))
    with pytest.raises(CodeInvalid, match=words):
        unpack(archive, str(tmp_path / "out"))
    assert {p.name for p in tmp_path.iterdir()} <= {"out"}


def test_bombs_are_stopped_as_their_bytes_come_out(tmp_path: Path) -> None:
    bomb = zip_of(("zeros", b"\0" * 3_000_000))
    assert len(bomb.getvalue()) < 10_000
    with pytest.raises(CodeInvalid, match="larger than"):
        unpack(bomb, str(tmp_path / "out"), Limits(size=1 << 20))
    assert (tmp_path / "out" / "zeros").stat().st_size <= 1 << 20


def test_a_size_that_lies_is_found_out(tmp_path: Path) -> None:
    raw = bytearray(zip_of(("zeros", b"\0" * 100_000)).getvalue())
    at = raw.rfind(b"PK\x01\x02")
    raw[at + 24 : at + 28] = (10).to_bytes(4, "little")  # uncompressed size in the central directory
    with pytest.raises(CodeInvalid):
        unpack(io.BytesIO(bytes(raw)), str(tmp_path / "out"))


def test_too_many_entries(tmp_path: Path) -> None:
    archive = zip_of(*((f"f{n}", b"") for n in range(11)))
    with pytest.raises(CodeInvalid, match="more than the 10 entries"):
        unpack(archive, str(tmp_path / "out"), Limits(entries=10))


def test_encrypted_damaged_and_foreign_files(tmp_path: Path) -> None:
    raw = bytearray(zip_of(("a", b"x" * 1000)).getvalue())
    encrypted = bytearray(raw)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.find(mark) + offset] |= 1
    damaged = bytearray(raw)
    damaged[raw.find(b"a", 30) + 3] ^= 0xFF
    for number, content in enumerate((encrypted, damaged, b"", b"not a zip", raw[: len(raw) // 2])):
        with pytest.raises(CodeInvalid):
            unpack(io.BytesIO(bytes(content)), str(tmp_path / str(number)))


def test_the_node_tells_of_a_bad_zip_with_its_evidence(node: NodeProcess) -> None:
    stage = stage_of(node.server, {"../evil.py": "x"})
    node.server.give(stage)
    failed = node.server.wait_for(facts.StageFailed)
    assert (failed.spec, failed.reason) == (7, "code_invalid")
    assert "'../evil.py' leads out" in failed.detail
    assert failed.detail in failed.log
    assert not list(node.home.rglob("evil.py"))
    assert not list((node.home / "cache" / "code").iterdir())


def test_a_zip_that_is_not_what_its_hash_says(node: NodeProcess) -> None:
    stage = stage_of(node.server, {"a.py": "1"})
    assert stage.code is not None
    node.server.definitions[stage.code] = zipped({"a.py": "2"})
    node.server.give(stage)
    failed = node.server.wait_for(facts.StageFailed)
    assert failed.reason == "code_invalid"
    assert "hash" in failed.log


def test_a_zip_that_the_server_does_not_have_is_the_platforms_fault(node: NodeProcess) -> None:
    stage = stage_of(node.server, {"a.py": "1"})
    node.server.definitions.clear()
    node.server.give(stage)
    assert node.server.wait_for(facts.StageFailed).reason == "staging_failed"
