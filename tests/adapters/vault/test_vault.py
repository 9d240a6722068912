"""Secrets at rest: what is sealed, what opens it, and what key files are refused."""

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runyard.adapters.vault import FileVault, KeyFileError
from runyard.ports.vault import Vault


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "key"


def test_what_is_sealed_is_opened_by_the_same_key_and_context(key_file: Path) -> None:
    vault: Vault = FileVault(key_file)
    for plain in (b"", b"secret", b"\0" * 100_000):
        assert vault.open(vault.seal(plain, "spec/a"), "spec/a") == plain
        assert FileVault(key_file).open(vault.seal(plain, "spec/a"), "spec/a") == plain


def test_nothing_of_the_text_shows_and_twice_is_not_the_same(key_file: Path) -> None:
    vault = FileVault(key_file)
    sealed = {vault.seal(b"a secret of some length", "c") for _ in range(50)}
    assert len(sealed) == 50
    assert not any(b"secret" in each for each in sealed)
    assert {len(each) for each in sealed} == {1 + 8 + 12 + 23 + 16}


def test_another_context_does_not_open_it(key_file: Path) -> None:
    vault = FileVault(key_file)
    sealed = vault.seal(b"secret", "spec/a")
    for context in ("spec/b", "", "spec/a "):
        with pytest.raises(ValueError, match="cannot be opened"):
            vault.open(sealed, context)


def test_any_changed_bit_is_noticed(key_file: Path) -> None:
    vault = FileVault(key_file)
    sealed = vault.seal(b"secret", "c")
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1 << (at % 8)
        with pytest.raises(ValueError, match="cannot be opened"):
            vault.open(bytes(changed), "c")
    for length in range(len(sealed)):
        with pytest.raises(ValueError, match="cannot be opened"):
            vault.open(sealed[:length], "c")
    with pytest.raises(ValueError, match="cannot be opened"):
        vault.open(sealed + b"\0", "c")


def test_another_key_does_not_open_it(key_file: Path, tmp_path: Path) -> None:
    sealed = FileVault(key_file).seal(b"secret", "c")
    with pytest.raises(ValueError, match="another key"):
        FileVault(tmp_path / "other").open(sealed, "c")


def test_the_key_is_made_once_for_its_owner_alone(key_file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        vaults = list(pool.map(lambda _: FileVault(key_file), range(16)))
    assert key_file.stat().st_mode & 0o7777 == 0o600
    assert os.listdir(key_file.parent) == ["key"]
    sealed = vaults[0].seal(b"x", "c")
    assert all(vault.open(sealed, "c") == b"x" for vault in vaults)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o700 | 0o010])
def test_a_key_file_that_others_may_use_is_refused(key_file: Path, mode: int) -> None:
    FileVault(key_file)
    key_file.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        FileVault(key_file)
    key_file.chmod(0o600)
    FileVault(key_file)


def test_a_key_file_that_is_none_is_refused(key_file: Path, tmp_path: Path) -> None:
    FileVault(key_file)
    (tmp_path / "link").symlink_to(key_file)
    with pytest.raises(KeyFileError, match="cannot be opened"):
        FileVault(tmp_path / "link")
    for content in ("", "\n", "12", "zz" * 32, secrets.token_hex(16), secrets.token_hex(32) + "\n12\n"):
        key_file.write_text(content)
        with pytest.raises(KeyFileError, match="no usable key") as caught:
            FileVault(key_file)
        said = caught.value.message.replace(str(key_file), "")  # where there may be any digits
        assert content.strip() == "" or content.strip() not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_file_of_another_user_is_refused(key_file: Path) -> None:
    FileVault(key_file)
    os.chown(key_file, 12345, 12345)
    with pytest.raises(KeyFileError, match="another user"):
        FileVault(key_file)


def test_a_new_key_seals_and_the_old_one_still_opens(key_file: Path) -> None:
    old = FileVault(key_file)
    sealed = old.seal(b"old", "c")
    with key_file.open("a") as file:
        file.write(secrets.token_hex(32) + "\n")
    both = FileVault(key_file)
    assert both.open(sealed, "c") == b"old"
    with pytest.raises(ValueError, match="another key"):
        old.open(both.seal(b"new", "c"), "c")


def test_the_key_shows_nowhere(key_file: Path) -> None:
    vault = FileVault(key_file)
    key = key_file.read_text().strip()
    assert key not in repr(vault)
    assert key not in repr(vars(vault))
