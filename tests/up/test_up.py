"""Up, up again, down, doctor: what they say, and what they leave on the disk."""

import hashlib
import json
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runyard.cli.options import DoctorOptions, DownOptions, UpOptions
from runyard.up import record, tokens
from runyard.up.doctor import doctor, examine
from runyard.up.down import down
from runyard.up.start import up
from tests.support.installation import RUNYARD, children_of
from tests.support.waiting import wait_until

Options = Callable[..., UpOptions]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_up_twice_tokens_and_down(tmp_path: Path, options: Options, capfd: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    assert up(options()) == 0
    try:
        answered, said = capfd.readouterr()
        url = answered.strip()
        assert url.startswith("http://127.0.0.1:")
        assert (home / "url").read_text().strip() == url
        assert up(options()) == 0
        assert f"Runyard runs already at {url}" in capfd.readouterr().err
        for secret in ("token", "node/token", "server/key"):
            assert mode(home / secret) == 0o600, secret
        assert mode(home / "server") == 0o700
        token = (home / "token").read_text().strip()
        assert token not in said
        assert all(token.encode() not in path.read_bytes() for path in (home / "log").iterdir())
        running = record.read(home)
        assert running is not None
        children = children_of(running.pid)
        assert len(children) == 2
        assert token not in " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in children)
        findings = {each.what: each for each in examine(home)}
        assert url in findings["installation"].text
        assert "secrets" not in findings
        assert findings["settings"].level == "ok"
    finally:
        assert down(DownOptions(str(home), cancel_runs=True)) == 0
    assert capfd.readouterr().err.endswith("Runyard is down.\n")
    assert record.read(home) is None
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "both are gone")
    assert (home / "token").read_text().strip() == token, "the next start knows it still"


def test_down_without_an_installation(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert down(DownOptions(str(tmp_path / "nothing"), cancel_runs=False)) == 0
    assert "Runyard does not run in" in capfd.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_down_with_the_record_of_one_that_is_gone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    text = {"pid": process.pid, "start_ticks": 1, "boot_id": record.boot_id(), "url": "http://127.0.0.1:1"}
    (tmp_path / "up.json").write_text(json.dumps(text))
    assert down(DownOptions(str(tmp_path), cancel_runs=False)) == 0
    assert "does not run" in capfd.readouterr().err


def test_the_record_of_another_process_is_not_believed(tmp_path: Path) -> None:
    record.write(tmp_path, "http://127.0.0.1:1")
    mine = record.read(tmp_path)
    assert mine is not None
    for wrong in ({"start_ticks": mine.start_ticks + 1}, {"boot_id": "another"}, {"pid": 2**22 + 1}, {"colour": "red"}):
        text = json.loads((tmp_path / "up.json").read_text()) | wrong
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        (other / "up.json").write_text(json.dumps(text))
        assert record.read(other) is None


def test_a_port_that_is_taken(options: Options, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert up(options(port)) == 4
        said = capfd.readouterr().err
        assert said.startswith(f"Cannot listen on 127.0.0.1 port {port} (")
        assert "choose another with --port" in said


def test_settings_that_cannot_be_used(tmp_path: Path, options: Options, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "settings.toml").write_text("cache_gb = 3\n")
    assert up(options()) == 4
    assert "unknown setting cache_gb; did you mean cache_gib?" in capfd.readouterr().err
    assert [each.level for each in examine(tmp_path / "home") if each.what == "settings"] == ["bad"]


def test_two_that_start_at_the_same_moment(tmp_path: Path, options: Options, capfd: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    held = record.lock(home)
    assert held is not None
    assert record.lock(home) is None
    assert up(options()) == 4
    assert "Runyard ended at once (status 4)" in capfd.readouterr().err
    assert "Another `runyard up` is just starting" in (home / "log" / "up.log").read_text()


def test_tokens_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    made = tokens.ensure(path)
    text = path.read_text().strip()
    assert mode(path) == 0o600
    assert (made.digest, made.hint) == (hashlib.sha256(text.encode()).hexdigest(), text[:8])
    assert tokens.ensure(path) == made
    assert [each.name for each in tmp_path.iterdir()] == ["token"]


@pytest.mark.parametrize("left", ["", "\n"])
def test_a_token_file_that_was_cut_short_is_made_anew(tmp_path: Path, left: str) -> None:
    (tmp_path / "token").write_text(left)
    made = tokens.ensure(tmp_path / "token")
    assert made.hint.startswith("ryd_")
    assert mode(tmp_path / "token") == 0o600


def test_the_doctor_names_secrets_that_others_can_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text("x")
    (tmp_path / "token").chmod(0o644)
    assert doctor(DoctorOptions(str(tmp_path), json=True)) == 1
    findings = json.loads(capfd.readouterr().out)["findings"]
    bad = [each for each in findings if each["level"] == "bad"]
    assert [(each["what"], each["text"]) for each in bad if each["what"] == "secrets"] == [
        ("secrets", f"{tmp_path}/token can be read by others: chmod 600 {tmp_path}/token")
    ]


def test_the_doctor_in_prose(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = doctor(DoctorOptions(str(tmp_path / "not" / "there"), json=False))
    lines = capfd.readouterr().out.splitlines()
    assert code == int(any(line.startswith("BAD") for line in lines))
    assert any(line.startswith("ok    Python: ") for line in lines)
    assert any("`runyard up` starts it" in line for line in lines)
    assert any(line.startswith("note  not isolated: the network") for line in lines)
    isolated = [line for line in lines if "isolated: " in line]
    assert len(isolated) in (4, 6)
    if len(isolated) == 4:
        assert any("processes, files, /dev/shm and GPUs alone" in line for line in isolated)


def test_the_command_says_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(RUNYARD), "down", "--home", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "Runyard does not run" in done.stderr
