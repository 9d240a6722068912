"""Folders become zips: the same bytes for the same files; zips are looked through before they are sent."""

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from runyard.client.errors import PackingError
from runyard.client.packing import pack_folder, packed, read_zip
from runyard.client.sizes import human_size


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_equal_folders_give_equal_zips(tmp_path: Path) -> None:
    files = {"b/x.py": b"x" * 5000, "a.py": b"print()", "ü.txt": b"u"}
    write(tmp_path / "one", files)
    write(tmp_path / "two", dict(reversed(files.items())))
    os.utime(tmp_path / "two" / "a.py", (1, 1))
    (tmp_path / "two" / "a.py").chmod(0o600)
    one = pack_folder(tmp_path / "one", tmp_path / "one.zip")
    two = pack_folder(tmp_path / "two", tmp_path / "two.zip")
    assert one.sha256 == two.sha256 == hashlib.sha256((tmp_path / "one.zip").read_bytes()).hexdigest()
    assert one.size == (tmp_path / "one.zip").stat().st_size
    assert one.names == ("a.py", "b/x.py", "ü.txt")


def test_contents_and_modes_arrive(tmp_path: Path) -> None:
    write(tmp_path / "m", {"run.sh": b"#!/bin/sh\n", "big.bin": os.urandom(3_000_000), "empty": b""})
    (tmp_path / "m" / "run.sh").chmod(0o777)
    pack_folder(tmp_path / "m", tmp_path / "m.zip")
    with zipfile.ZipFile(tmp_path / "m.zip") as archive:
        modes = {info.filename: (info.external_attr >> 16) & 0o777 for info in archive.infolist()}
        assert archive.read("big.bin") == (tmp_path / "m" / "big.bin").read_bytes()
        assert archive.testzip() is None
    assert modes == {"run.sh": 0o755, "big.bin": 0o644, "empty": 0o644}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.py": b"open('config.json')"}, True),
        ({"a.py": b"pass", "config.json": b"{}"}, False),
        ({"a.bin": b"\0\0config.json"}, False),
        ({"a.py": b"x" * ((1 << 20) - 5) + b"config.json"}, True),
        ({"notes.md": b"the config json"}, False),
    ],
)
def test_whether_the_code_speaks_of_its_parameters_is_found(
    tmp_path: Path, files: dict[str, bytes], expected: bool
) -> None:
    write(tmp_path / "m", files)
    assert pack_folder(tmp_path / "m", tmp_path / "m.zip").mentions_config is expected
    assert read_zip(tmp_path / "m.zip").mentions_config is expected


def test_a_zip_is_sent_as_it_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("train.py", "print()")
    before = (tmp_path / "m.zip").read_bytes()
    with packed(tmp_path / "m.zip") as found:
        assert found.path.read_bytes() == before
        assert found.names == ("train.py",)
        assert found.sha256 == hashlib.sha256(before).hexdigest()


def test_a_temporary_zip_goes_away(tmp_path: Path) -> None:
    write(tmp_path / "m", {"a.py": b""})
    with packed(tmp_path / "m") as found:
        path = found.path
        assert path.exists()
    assert not path.exists()


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "m", {"a.log": b"", ".gitignore": b"*\n"})
    with pytest.raises(PackingError, match="no files to send"), packed(tmp_path / "m"):
        pass


def test_what_is_too_large_names_the_largest_files(tmp_path: Path) -> None:
    write(tmp_path / "m", {"data/huge.bin": os.urandom(300_000), "big.bin": os.urandom(100_000), "a.py": b"x"})
    with pytest.raises(PackingError, match=r"larger than 100 KB.*data/huge.bin \(293 KB\), big.bin \(97.7 KB\)"):
        pack_folder(tmp_path / "m", tmp_path / "m.zip", limit=100 * 1024)
    pack_folder(tmp_path / "m", tmp_path / "whole.zip")
    with pytest.raises(PackingError, match=r"data/huge.bin"):
        read_zip(tmp_path / "whole.zip", limit=100 * 1024)


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(PackingError, match="is no zip"):
        read_zip(tmp_path / "text.zip")
    with pytest.raises(PackingError, match="no folder or zip"):
        read_zip(tmp_path / "missing.zip")


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "m", {"a.bin": os.urandom(50_000)})
    pack_folder(tmp_path / "m", tmp_path / "m.zip")
    content = bytearray((tmp_path / "m.zip").read_bytes())
    content[20_000] ^= 0xFF
    (tmp_path / "m.zip").write_bytes(content)
    with pytest.raises(PackingError, match="cannot be read"):
        read_zip(tmp_path / "m.zip")


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "a/../../b"])
def test_a_zip_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(PackingError, match="outside of its folder"):
        read_zip(tmp_path / "m.zip")


def test_an_empty_zip_is_refused(tmp_path: Path) -> None:
    zipfile.ZipFile(tmp_path / "m.zip", "w").close()
    with pytest.raises(PackingError, match="has no files"):
        read_zip(tmp_path / "m.zip")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KB"), (512 << 20, "512 MB"), (5 << 40, "5120 GB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert human_size(size) == text
