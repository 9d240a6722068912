"""What a program is given, and what is known of its end."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.shim.launching import ENV, INTERPRETER, PATIENCE_S, UID, Attempt, Client, Launcher, needs_root, spawn

SECRET = "s3cr3t-9d1f44c0b7"


@pytest.mark.parametrize(
    ("command", "code"),
    [("true", 0), ("exit 7", 7), ("false | cat", 1), ("false; echo not reached", 1), ("no-such-command", 127)],
)
def test_the_exit_code_is_the_commands(launcher: Launcher, command: str, code: int) -> None:
    ended = launcher.launch(command).ended()
    assert (ended["exit_code"], ended["signal"], ended["cause"], ended["launch_failed"]) == (code, None, None, None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_signal_is_told_as_such(launcher: Launcher, number: int) -> None:
    ended = launcher.launch(f"kill -{number} $$").ended()
    assert (ended["exit_code"], ended["signal"], ended["cause"]) == (None, number, None)


def test_the_records_say_who_and_when(launcher: Launcher) -> None:
    attempt = launcher.launch("sleep 0.05; head -c 3000000 /dev/zero | sort > /dev/null")
    ended, started = attempt.ended(), attempt.started()
    assert started["attempt"] == ended["attempt"] == "training-a1B2c3D4e/1"
    assert started["shim_pid"] == attempt.process.pid
    assert started["pid"] != started["shim_pid"]
    assert started["pid_start_ticks"] >= started["shim_start_ticks"] > 0
    assert started["boot_id"] == ended["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (started["started_at_ms"], started["boottime_ms"]) == (ended["started_at_ms"], ended["boottime_started_ms"])
    assert 50 <= ended["boottime_ended_ms"] - ended["boottime_started_ms"] < PATIENCE_S * 1000
    assert ended["user_cpu_s"] + ended["system_cpu_s"] > 0
    assert ended["max_rss_kib"] > 1000
    assert (ended["killed_leftovers"], ended["oom_kills"], ended["memory_peak_bytes"]) == (0, 0, None)
    assert ended["cgroup"] is None


def test_the_start_is_on_disk_before_the_programs_first_instruction(launcher: Launcher, tmp_path: Path) -> None:
    folder = tmp_path / "1" / "a"
    attempt = launcher.launch(f"cat {folder}/started.json")
    attempt.ended()
    assert json.loads(attempt.logged()) == attempt.started()


def test_the_log_is_every_byte_of_both_streams_in_order_and_is_appended_to(launcher: Launcher, tmp_path: Path) -> None:
    log = tmp_path / "1" / "training-log.txt"
    log.parent.mkdir()
    log.write_bytes(b"told before\n")
    attempt = launcher.launch(r"printf 'a\0\xff'; printf 'b\r\n' >&2; (printf c); printf 'last'")
    assert attempt.ended()["log_bytes"] == 12 + 3 + 3 + 1 + 4
    assert log.read_bytes() == b"told before\na\x00\xffb\r\nclast"


def test_a_log_written_by_many_at_once_loses_nothing(launcher: Launcher) -> None:
    attempt = launcher.launch("for n in 1 2 3 4; do yes line-$n | head -n 5000 & done; wait")
    attempt.ended()
    logged = attempt.logged()  # in blocks, which need not end where lines do
    assert {sign: logged.count(sign) for sign in set(logged)} == {
        **dict.fromkeys("line-\n", 20_000),
        **dict.fromkeys("1234", 5_000),
    }


PROBE = """
import json, os, signal, sys
print(json.dumps({
    "descriptors": {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{name}")},
    "stdin": os.read(0, 1).decode(),
    "cwd": os.getcwd(),
    "umask": os.umask(0),
    "leader": os.getsid(0) == os.getpid() == os.getpgid(0),
    "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "nice": os.nice(0),
    "status": {line.split(":")[0]: line.split()[1] for line in open("/proc/self/status")
               if line.split(":")[0] in ("NoNewPrivs", "SigBlk", "SigIgn", "CapEff", "CapPrm", "CapAmb")},
}))
"""


def probe(attempt: Attempt) -> dict[str, object]:
    ended = attempt.ended()
    assert ended["exit_code"] == 0, (ended["launch_failed"], attempt.logged())
    return json.loads(attempt.logged())


def test_the_program_gets_its_surroundings_and_no_descriptor_of_the_shims(launcher: Launcher, tmp_path: Path) -> None:
    attempt = launcher.launch(["/usr/bin/python3", "-I", "-S", "-c", PROBE], cwd="/usr", nice=3)
    seen = probe(attempt)
    log = str(attempt.log)
    assert seen["descriptors"] == {"0": "/dev/null", "1": log, "2": log}
    assert (seen["stdin"], seen["cwd"], seen["umask"], seen["leader"]) == ("", "/usr", 0o022, True)
    assert seen["nice"] == min(19, os.nice(0) + 3)
    # Python itself ignores SIGPIPE (13) and SIGXFSZ (25); nothing else is ignored, and nothing is blocked.
    status = seen["status"]
    assert isinstance(status, dict)
    assert (status["SigBlk"], int(status["SigIgn"], 16), status["NoNewPrivs"]) == ("0" * 16, 1 << 12 | 1 << 24, "1")


def test_signals_that_the_shim_ignores_are_the_programs_own_again(launcher: Launcher) -> None:
    attempt = launcher.launch("grep -E 'Sig(Ign|Blk)' /proc/self/status")
    attempt.ended()
    assert [int(line.split()[1], 16) for line in attempt.logged().splitlines()] == [0, 0]


@needs_root
def test_another_user_holds_no_privilege(launcher: Launcher) -> None:
    argv = [f"{INTERPRETER[0]}/bin/python", "-I", "-S", "-c", PROBE]
    seen = probe(launcher.launch(argv, uid=UID, gid=UID + 1, visible=INTERPRETER))
    assert seen["ids"] == [[UID] * 3, [UID + 1] * 3, []]
    status = seen["status"]
    assert isinstance(status, dict)
    assert [status[name] for name in ("CapEff", "CapPrm", "CapAmb", "NoNewPrivs")] == ["0" * 16] * 3 + ["1"]


def test_the_environment_is_the_orders_and_nothing_more(launcher: Launcher) -> None:
    env = {**ENV, "TOKEN": SECRET, "LC_ALL": "C", "ODD": "a b\n\"'$é\udcff", "EMPTY": ""}
    attempt = launcher.launch(["/usr/bin/env", "-0"], env=env)
    attempt.ended()
    told = dict(pair.split(b"=", 1) for pair in attempt.log.read_bytes().rstrip(b"\0").split(b"\0"))
    assert told == {os.fsencode(name): value.encode("utf-8", "surrogateescape") for name, value in env.items()}


def test_no_secret_of_the_order_reaches_a_disk(launcher: Launcher, tmp_path: Path) -> None:
    attempt = launcher.launch("sleep 30", env={**ENV, "TOKEN": SECRET})
    client = attempt.running()
    told = json.dumps(client.say(op="stop", cause="cancel", grace_s=0)) + json.dumps(client.wait_for("exited"))
    attempt.ended()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"started.json", "exit.json", "shim.err", "lock", "training-log.txt"}
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in told


@pytest.mark.parametrize(
    ("stage", "errno", "fields", "says"),
    [
        ("exec", 2, {"argv": ["/no/such/shell"]}, "/no/such/shell"),
        ("exec", 13, {"argv": ["/etc/passwd"]}, "/etc/passwd"),
        ("cwd", 2, {"cwd": "/no/such/folder"}, "/no/such/folder"),
        ("log", 2, {"log": "/no/such/folder/log"}, "the node must make its folder"),
    ],
)
def test_a_launch_that_fails_says_where_and_why(
    launcher: Launcher, stage: str, errno: int, fields: dict[str, Any], says: str
) -> None:
    argv = fields.pop("argv", ["/bin/true"])
    assert isinstance(argv, list)
    ended = launcher.launch(argv, **fields).ended()
    assert (ended["exit_code"], ended["signal"]) == (None, None)
    assert (ended["launch_failed"]["stage"], ended["launch_failed"]["errno"]) == (stage, errno)
    assert says in ended["launch_failed"]["message"]


@needs_root
def test_a_program_is_not_run_where_its_user_cannot_be_taken_on(open_launcher: Launcher) -> None:
    ended = open_launcher.launch("echo ran", user=UID, uid=UID + 1, gid=UID + 1).ended()
    assert (ended["launch_failed"]["stage"], ended["launch_failed"]["errno"], ended["log_bytes"]) == ("user", 1, 0)


NAMELESS = b'{"attempt": "x", "argv": ["/bin/true"], "env": {}, "cwd": "/", "log": "/dev/null", "cgroup": {}}'


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"attempt": "x"}', NAMELESS, b'{"attempt": "x"} {}', b"\xff"])
def test_an_order_that_is_not_whole_is_an_end_with_a_sentence(tmp_path: Path, text: bytes) -> None:
    process = spawn(tmp_path, text)
    process.wait(PATIENCE_S)
    ended = json.loads((tmp_path / "exit.json").read_text())
    assert ended["launch_failed"]["stage"] == "order"
    assert "the node must send it whole" in ended["launch_failed"]["message"]


def test_an_order_larger_than_a_pipe_is_read_whole(launcher: Launcher) -> None:
    env = {f"VARIABLE_{n}": "x" * 1000 for n in range(300)}
    attempt = launcher.launch(["/usr/bin/env"], env=env)
    assert attempt.ended()["log_bytes"] == sum(len(f"{name}={value}\n") for name, value in env.items())


@needs_root
def test_without_privileges_all_of_it_works_but_cannot_be_proof_against_tampering(open_launcher: Launcher) -> None:
    attempt = open_launcher.launch("id -u; exit 5", user=UID)
    ended = attempt.ended()
    assert (ended["exit_code"], ended["tamper_proof"], attempt.logged()) == (5, False, f"{UID}\n")
    assert attempt.started()["tamper_proof"] is False


def test_a_client_is_told_the_state_and_then_each_change(launcher: Launcher) -> None:
    attempt = launcher.launch("read -r line < /dev/null || sleep 0.2")
    early: Client = attempt.connect()
    names = []
    while (heard := early.hear()) is not None:
        names.append(heard["event"])
    assert names in (["starting", "started", "over", "exited"], ["started", "over", "exited"])
    assert attempt.process.wait(PATIENCE_S) == 0
