"""Stopping: everything of a program's tree is told, gets its grace, and is gone before the end is recorded."""

import os
import signal
from pathlib import Path

import pytest

from tests.shim.launching import (
    INTERPRETER,
    Attempt,
    Launcher,
    alive,
    group,
    needs_root,
)
from tests.support.waiting import wait_until

PYTHON = "/usr/bin/python3 -I -S -u"
STUBBORN = """
import os, signal, sys
def stubborn(name):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(name, os.getpid(), flush=True)
    while True: signal.pause()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(3, 100)
        stubborn("daemon")
    os._exit(0)
if os.fork() == 0:
    os.setpgid(0, 0)
    stubborn("group")
stubborn("main")
"""


def in_group_or_not() -> list[object]:
    return [pytest.param(False, id="by descent"), pytest.param(True, id="by control group", marks=needs_root)]


def pids(attempt: Attempt, names: set[str]) -> dict[str, int]:
    """The numbers that processes print under their names, once each has."""

    def told() -> dict[str, int]:
        words = [line.split() for line in attempt.logged().splitlines()] if attempt.log.exists() else []
        return {line[0]: int(line[1]) for line in words if len(line) == 2}

    wait_until(lambda: told().keys() >= names, f"{names} to print", pause=0.005)
    return told()


@pytest.mark.parametrize("grouped", in_group_or_not())
def test_processes_in_other_sessions_that_ignore_sigterm_are_all_gone_at_the_end(
    launcher: Launcher, grouped: bool
) -> None:
    attempt = launcher.launch(
        ["/usr/bin/python3", "-I", "-S", "-c", STUBBORN], cgroup=group("stubborn") if grouped else None
    )
    client = attempt.running()
    numbers = pids(attempt, {"daemon", "group", "main"})
    client.say(op="stop", cause="cancel", grace_s=0.2)
    record = client.wait_for("exited")["record"]
    assert [name for name, pid in numbers.items() if alive(pid)] == []
    assert (record["signal"], record["exit_code"], record["cause"]) == (signal.SIGKILL, None, "cancel")
    assert record["boottime_ended_ms"] - record["boottime_started_ms"] >= 200
    assert record == attempt.ended()


@pytest.mark.parametrize("grouped", in_group_or_not())
def test_a_program_that_heeds_sigterm_ends_with_its_own_code_within_its_grace(
    launcher: Launcher, grouped: bool
) -> None:
    attempt = launcher.launch(
        "trap 'echo saved; exit 3' TERM; echo ready; while :; do read -r -t 1 x < <(sleep 1) || true; done",
        cgroup=group("heeds") if grouped else None,
    )
    client = attempt.running()
    attempt.wait_for_line("ready")
    client.say(op="stop", cause="preempt", grace_s=20)
    record = client.wait_for("exited")["record"]
    assert (record["exit_code"], record["signal"], record["cause"]) == (3, None, "preempt")
    assert attempt.logged().splitlines()[-1] == "saved"


def test_the_grace_is_the_whole_trees_though_its_shell_dies_at_once(launcher: Launcher) -> None:
    slow = (
        "import signal, sys, time\n"
        "def save(*_):\n    time.sleep(1.5); print('saved', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save); print('ready', flush=True)\n"
        "while True: signal.pause()"
    )
    attempt = launcher.launch(f'{PYTHON} -c "$SCRIPT" && echo after', env={"SCRIPT": slow})
    client = attempt.running()
    attempt.wait_for_line("ready")
    client.say(op="stop", cause="cancel", grace_s=20)
    record = client.wait_for("exited")["record"]
    assert attempt.logged().split() == ["ready", "saved"]
    assert (record["signal"], record["cause"], record["killed_leftovers"]) == (signal.SIGTERM, "cancel", 0)


def test_a_stopped_process_hears_sigterm_too(launcher: Launcher) -> None:
    attempt = launcher.launch("trap 'echo heard; exit 0' TERM; echo ready; kill -STOP $$; while :; do :; done")
    client = attempt.running()
    attempt.wait_for_line("ready")
    client.say(op="stop", cause="cancel", grace_s=20)
    assert client.wait_for("exited")["record"]["exit_code"] == 0


def test_the_first_cause_stands_and_a_second_stop_shortens_the_grace(launcher: Launcher) -> None:
    attempt = launcher.launch("trap '' TERM; echo ready; while :; do sleep 60 || true; done")
    client, other = attempt.running(), attempt.running()
    attempt.wait_for_line("ready")
    client.say(op="stop", cause="cancel", grace_s=3600)
    first = client.wait_for("stopping")
    other.wait_for("stopping")
    other.say(op="stop", cause="preempt", grace_s=7200)
    longer = other.wait_for("stopping")
    other.say(op="stop", cause="preempt", grace_s=0.1)
    shorter = other.wait_for("stopping")
    record = client.wait_for("exited")["record"]
    assert first["kill_at_boottime_ms"] == longer["kill_at_boottime_ms"] > shorter["kill_at_boottime_ms"] + 3_000_000
    assert {first["cause"], longer["cause"], shorter["cause"], record["cause"]} == {"cancel"}
    assert record["signal"] == signal.SIGKILL


def test_no_grace_is_the_end_at_once_without_a_sigterm(launcher: Launcher) -> None:
    attempt = launcher.launch("trap 'echo heard' TERM; echo ready; while :; do sleep 60; done")
    client = attempt.running()
    attempt.wait_for_line("ready")
    client.say(op="stop", cause="prune", grace_s=0)
    record = client.wait_for("exited")["record"]
    assert (record["signal"], record["cause"]) == (signal.SIGKILL, "prune")
    assert attempt.logged().split() == ["ready"]


def test_a_stop_that_comes_before_the_program_needs_no_grace(launcher: Launcher) -> None:
    attempt = launcher.launch("trap '' TERM; sleep 3600")
    client = attempt.connect()
    client.say(op="stop", cause="cancel", grace_s=3600)  # while the shim is starting
    client.close()  # without waiting to be heard
    ended = attempt.ended()
    assert (ended["cause"], ended["signal"], ended["exit_code"]) == ("cancel", signal.SIGKILL, None)


def test_the_time_limit_is_a_stop_with_the_orders_grace(launcher: Launcher) -> None:
    attempt = launcher.launch("trap 'echo heard; exit 4' TERM; while :; do sleep 0.02 || true; done", max_runtime_s=0.4)
    ended = attempt.ended()
    assert (ended["exit_code"], ended["cause"], attempt.logged().split()[-1]) == (4, "time_limit", "heard")
    assert 400 <= ended["boottime_ended_ms"] - ended["boottime_started_ms"] < 10_000


def test_the_time_limit_ends_a_program_that_does_not_listen(launcher: Launcher) -> None:
    ended = launcher.launch("trap '' TERM; while :; do sleep 9 || true; done", max_runtime_s=0.2, grace_s=0.2).ended()
    assert (ended["signal"], ended["cause"]) == (signal.SIGKILL, "time_limit")
    assert ended["boottime_ended_ms"] - ended["boottime_started_ms"] >= 400


def test_a_program_within_its_time_limit_knows_nothing_of_it(launcher: Launcher) -> None:
    ended = launcher.launch("sleep 0.1", max_runtime_s=60).ended()
    assert (ended["exit_code"], ended["cause"]) == (0, None)


@pytest.mark.parametrize("grouped", in_group_or_not())
def test_what_runs_on_in_the_background_ends_with_the_program(launcher: Launcher, grouped: bool) -> None:
    attempt = launcher.launch(
        "(trap 'echo heard; exit 0' TERM; echo polite $BASHPID; while :; do sleep 0.02 || true; done) &"
        "(trap '' TERM; echo deaf $BASHPID; while :; do sleep 0.02 || true; done) &"
        "until [ $(grep -cE 'polite|deaf' $LOG) = 2 ]; do sleep 0.02; done; exit 6",
        env={"PATH": "/usr/bin:/bin", "LOG": str(launcher.folder / "1" / "training-log.txt")},
        cgroup=group("background") if grouped else None,
    )
    ended = attempt.ended()
    numbers = pids(attempt, {"polite", "deaf"})
    assert [name for name, pid in numbers.items() if alive(pid)] == []
    assert (ended["exit_code"], ended["signal"], ended["cause"]) == (6, None, None)
    assert 2 <= ended["killed_leftovers"] <= 8  # the two, and the short sleeps that they were in
    assert "heard" in attempt.logged().split()


def test_a_stop_does_not_rewrite_an_end(launcher: Launcher) -> None:
    attempt = launcher.launch("(trap '' TERM; echo left $BASHPID; sleep 60 || sleep 60) & sleep 0.1; exit 0")
    client = attempt.running()
    left = pids(attempt, {"left"})["left"]
    main = attempt.started()["pid"]
    wait_until(lambda: not alive(main), "the end of the program", pause=0.002)
    client.say(op="stop", cause="cancel", grace_s=0)
    record = client.wait_for("exited")["record"]
    assert (record["exit_code"], record["cause"], alive(left)) == (0, None, False)


def test_the_shim_does_not_heed_signals(launcher: Launcher) -> None:
    attempt = launcher.launch("echo ready; sleep 0.3; echo done")
    attempt.wait_for_line("ready")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        attempt.process.send_signal(number)
    ended = attempt.ended()
    assert (ended["exit_code"], attempt.logged().split()) == (0, ["ready", "done"])


def test_orphans_are_collected_while_the_program_runs(launcher: Launcher) -> None:
    attempt = launcher.launch("for n in 1 2 3; do (sh -c 'exit 0' &); done; sleep 0.3; ps -o stat= --ppid $PPID")
    attempt.ended()
    assert [state for state in attempt.logged().split() if state.startswith("Z")] == []
    assert attempt.logged().split() != []


def test_a_line_that_is_no_command_is_refused_and_harms_nothing(launcher: Launcher) -> None:
    attempt = launcher.launch("sleep 60")
    client = attempt.running()
    for fields in ({"op": "dance"}, {}, {"op": "stop"}, {"op": "stop", "cause": "cancel", "grace_s": "soon"}):
        client.say(**fields)
        assert "stop" in client.wait_for("refused")["message"]
    endless = attempt.running()
    endless.send(b"x" * 80_000)
    assert endless.hear() is None
    client.say(op="stop", cause="cancel", grace_s=0)
    assert client.wait_for("exited")["record"]["cause"] == "cancel"


def owner(pid: str) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except (FileNotFoundError, ProcessLookupError):
        return None


@needs_root
def test_a_bomb_of_forks_is_over_when_it_is_told_to_be(launcher: Launcher) -> None:
    bomb = "import os\nprint('ready', flush=True)\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    user = 51_000 + os.getpid() % 10_000  # whom no other test uses
    attempt = launcher.launch(
        ["/usr/bin/python3", "-I", "-S", "-c", bomb], uid=user, gid=user, cgroup=group("bomb", pids=40, cpu_millis=1000)
    )
    client = attempt.running()
    attempt.wait_for_line("ready")
    client.say(op="stop", cause="cancel", grace_s=0.1)
    record = client.wait_for("exited")["record"]
    assert record["cause"] == "cancel"
    assert all(not Path(folder).exists() for folder in record["cgroup"]["folders"])
    assert not any(owner(pid) == user for pid in os.listdir("/proc") if pid.isdigit())


def test_the_interpreter_of_the_tests_is_one_that_programs_can_be_given() -> None:
    assert all(os.path.isdir(path) for path in INTERPRETER)
