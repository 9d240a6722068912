"""The shim of a warm parent: many runs under one roof, each with its own record, and whoever dies in between."""

import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runyard.node.shims import kill_shim
from tests.shim.launching import ENV, INTERPRETER, PATIENCE_S, SHIM, alive, group, needs_root
from tests.shim.test_cgroups import needs
from tests.shim.test_isolation import WORKS
from tests.shim.warm_shims import ALL, Warm, spared
from tests.support.waiting import wait_until

pytestmark = [
    needs_root,
    pytest.mark.skipif(not set(ALL) <= set(WORKS), reason="this machine lets nobody make these namespaces"),
]


def test_a_run_has_its_own_records_and_sees_itself_alone(warm: Warm) -> None:
    other = warm.launch("wait.py")
    other.wait_for_line("ready")
    run = warm.launch("seven.py")
    ended, started = run.ended(), run.started()
    assert (ended["exit_code"], ended["signal"], ended["cause"], ended["launch_failed"]) == (7, None, None, None)
    assert run.logged() == "2 1 ['2']\n"
    assert (started["way"], started["way_note"]) == ("warm", "It saves a second.")
    assert (started["namespaces"], started["missing"], started["tamper_proof"]) == (ALL, [], True)
    assert (started["shim_pid"], str(warm.runs) in started["view"]) == (warm.process.pid, True)
    assert not other.lock_is_free()
    other.go()
    assert other.ended()["exit_code"] == 5


@pytest.mark.parametrize("closed", [True, False])
def test_a_run_opens_the_devices_that_it_was_given_and_is_filtered(warm: Warm, base: Path, closed: bool) -> None:
    nodes = [str(base / f"gpu{number}") for number in (0, 1)]
    for node in nodes:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.chmod(node, 0o666)
    program = {"script": "opens.py", "module": None, "args": nodes, "argv0": "opens.py"}
    run = warm.launch("opens.py", program=program, closed_devices=nodes[1:] if closed else [])
    assert (run.ended()["exit_code"], run.started()["missing"]) == (0, [])
    assert run.logged().split() == ["open", "PermissionError" if closed else "open", "2"]


def test_what_it_used_is_in_its_record(warm: Warm) -> None:
    ended = warm.launch("burns.py").ended()
    assert ended["user_cpu_s"] > 0.02
    assert ended["max_rss_kib"] > 1000


def test_a_module_whose_import_breaks_off_is_left_to_the_programs(base: Path) -> None:
    lib = base / "lib"
    lib.mkdir()
    text = "names = []\ndef enter(name):\n    assert name not in names\n    names.append(name)\n"
    (lib / "register.py").write_text(text)
    (lib / "touchy.py").write_text("import os, register\nregister.enter('touchy')\nGIVEN = os.environ['GIVEN']\n")
    env, visible = {**ENV, "PYTHONPATH": str(lib)}, [*INTERPRETER, str(SHIM.parent), str(lib)]
    warm = Warm(base, env=env, visible=visible, preload=["json.tool", "touchy", "absent", "json.absent"])
    try:
        ready = warm.hear()
        assert ready["event"] == "ready"
        assert set(ready["failed"]) == {"touchy", "absent", "json.absent"}
        run = warm.launch("asks.py", env={**env, "GIVEN": "it"}, visible=[*visible, str(warm.runs / "1" / "work")])
        assert (run.ended()["exit_code"], run.started()["way"], run.logged()) == (0, "warm", "it True\n")
    finally:
        warm.close()


def test_a_stop_is_one_runs_alone(warm: Warm) -> None:
    heeding, deaf, staying = (warm.launch(name) for name in ("heeds.py", "deaf.py", "wait.py"))
    for run in (heeding, deaf, staying):
        run.wait_for_line("ready")
    heeding.client().say(op="stop", cause="cancel", grace_s=20)
    deaf.client().say(op="stop", cause="preempt", grace_s=0.1)
    first, second = heeding.ended(), deaf.ended()
    assert (first["exit_code"], first["cause"]) == (3, "cancel")
    assert (second["signal"], second["cause"]) == (signal.SIGKILL, "preempt")
    staying.go()
    assert (staying.ended()["exit_code"], staying.ended()["cause"]) == (5, None)


@pytest.mark.parametrize("held", ["cell", "parent"])
def test_a_stop_that_comes_before_the_program_needs_no_grace(warm: Warm, held: str) -> None:
    wait_until(lambda: len(warm.children()) == 1, "a cell that waits for the first run")
    holds = warm.children()[0]
    if held == "parent":  # which is asked for another cell then
        warm.launch("wait.py").wait_for_line("ready")
        holds = warm.parent()
    os.kill(holds, signal.SIGSTOP)
    run = warm.launch("deaf.py")
    client = run.client()
    assert client.hear() == {"event": "starting", "attempt": "training-a1B2c3D4e/1"}
    client.say(op="stop", cause="cancel", grace_s=3600)
    client.wait_for("stopping")
    if held == "parent":
        os.kill(holds, signal.SIGCONT)
    ended = run.ended()
    assert (ended["cause"], ended["signal"], ended["launch_failed"]) == ("cancel", signal.SIGKILL, None)
    assert run.logged() == ""


def test_twenty_at_once(warm: Warm) -> None:
    runs = [warm.launch("seven.py" if number % 2 else "leaves.py") for number in range(20)]
    ends = [run.ended() for run in runs]
    assert [each["exit_code"] for each in ends] == [6, 7] * 10, ends
    assert [run.ended()["killed_leftovers"] for run in runs] == [1, 0] * 10


def test_the_time_limit_holds(warm: Warm) -> None:
    ended = warm.launch("deaf.py", max_runtime_s=0.2, grace_s=0.2).ended()
    assert (ended["signal"], ended["cause"]) == (signal.SIGKILL, "time_limit")


def test_a_killed_shim_takes_its_runs_with_it_without_a_record(warm: Warm) -> None:
    runs = [warm.launch(name) for name in ("deaf.py", "wait.py")]
    for run in runs:
        run.wait_for_line("ready")
    inits, parent = [run.started()["pid"] for run in runs], warm.parent()
    assert not any(run.lock_is_free() for run in runs)
    warm.process.kill()
    warm.process.wait(PATIENCE_S)
    wait_until(lambda: not any(alive(pid) for pid in (*inits, parent)), "the end of everything")
    wait_until(lambda: all(run.lock_is_free() for run in runs), "the locks")
    assert not any(os.path.exists(run.folder.exit) for run in runs)


def test_the_runs_of_a_parent_that_was_killed_go_on(warm: Warm) -> None:
    run = warm.launch("wait.py")
    run.wait_for_line("ready")
    os.kill(warm.parent(), signal.SIGKILL)
    gone = warm.hear()
    assert (gone["event"], "ended" in gone["message"]) == ("gone", True)
    late, ordered = warm.prepare("seven.py")
    assert "ended" in warm.send(late, ordered)["error"]
    assert late.lock_is_free()
    run.go()
    assert run.ended()["exit_code"] == 5
    warm.line.close()
    assert warm.process.wait(PATIENCE_S) == 0


def test_when_the_node_dies_the_parent_ends_and_the_runs_go_on(warm: Warm) -> None:
    run = warm.launch("wait.py")
    run.wait_for_line("ready")
    parent = warm.parent()
    warm.line.close()
    wait_until(lambda: not alive(parent), "the end of the parent")
    client = run.client()
    assert client.hear() == {"event": "started", **run.started(), "stopping": None}
    run.go()
    assert client.wait_for("exited")["record"]["exit_code"] == 5
    assert run.ended()["exit_code"] == 5
    assert warm.process.wait(PATIENCE_S) == 0


def test_a_launch_on_its_way_when_the_node_dies_is_still_a_run(warm: Warm) -> None:
    run = warm.launch("seven.py")
    warm.line.close()
    assert run.ended()["exit_code"] == 7


def test_ending_a_hanging_run_ends_no_other(warm: Warm) -> None:
    hanging, staying = warm.launch("deaf.py"), warm.launch("wait.py")
    for run in (hanging, staying):
        run.wait_for_line("ready")
    hanging.client().wait_for("started")  # its init has told, too, that it began
    kill_shim(hanging.folder)
    assert hanging.ended()["signal"] == signal.SIGKILL
    assert warm.process.poll() is None
    staying.go()
    assert staying.ended()["exit_code"] == 5


def test_a_record_that_cannot_be_written_holds_no_other_run_up(warm: Warm) -> None:
    run = warm.launch("wait.py")
    run.wait_for_line("ready")
    os.unlink(f"{run.folder.exit}.tmp")
    os.mkdir(f"{run.folder.exit}.tmp")
    run.go()
    for _ in range(3):
        ended = warm.launch("seven.py").ended()
        assert ended["exit_code"] == 7, ended
    assert not run.lock_is_free()
    os.rmdir(f"{run.folder.exit}.tmp")
    assert run.ended()["exit_code"] == 5


@needs("memory")
def test_limits_are_each_runs_own_and_only_the_shim_is_spared(warm: Warm) -> None:
    eater = warm.launch("eats.py", cgroup=group("eats", memory_bytes=128 << 20))
    plain = warm.launch("adjusts.py", cgroup=group("plain", memory_bytes=128 << 20))
    ended = eater.ended()
    assert (ended["signal"], ended["exit_code"]) == (signal.SIGKILL, None)
    assert ended["oom_kills"] >= 1
    assert "1337" not in eater.logged()
    assert (plain.ended()["oom_kills"], plain.logged()) == (0, "0\n")
    assert plain.ended()["cgroup"]["missing"] is None
    assert Path(f"/proc/{warm.process.pid}/oom_score_adj").read_text() == ("-1000\n" if spared() else "0\n")
    assert Path(f"/proc/{warm.parent()}/oom_score_adj").read_text() == "0\n"
    assert [folder for folder in ended["cgroup"]["folders"] if os.path.exists(folder)] == []


def test_a_program_can_do_nothing_to_its_init_to_others_or_to_their_folders(warm: Warm) -> None:
    other = warm.launch("wait.py")
    other.wait_for_line("ready")
    env = {**ENV, "HIDDEN": str(warm.runs), "OTHER": str(other.place / "work" / "wait.py"), "NAME": "1"}
    run = warm.launch("forges.py", env=env)
    ended = run.ended()
    lines = run.logged().splitlines()
    assert (len(lines), lines[-1]) == (11, "still here"), lines
    assert [line for line in lines[:-1] if not line.startswith("refused")] == []
    assert (ended["exit_code"], ended["signal"]) == (9, None)
    other.go()
    assert other.ended()["exit_code"] == 5


def test_what_was_mounted_where_the_program_does_not_get_hinders_none(warm: Warm, tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "late", str(inner)], check=True)
    try:
        ended = warm.launch("seven.py").ended()
        assert ended["exit_code"] == 7, ended
    finally:
        subprocess.run(["umount", "-l", str(inner)], check=True)


def test_what_was_mounted_after_the_parent_began_is_seen(warm: Warm, base: Path) -> None:
    (base / "data").mkdir(mode=0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "late", str(base / "data")], check=True)
    try:
        (base / "data" / "file").write_text("late\n")
        run, ordered = warm.prepare("seven.py")
        script = run.place / "work" / "seven.py"
        script.write_text(f"print(open('{base}/data/file').read())\n")
        warm.send(run, ordered)
        assert run.ended()["exit_code"] == 0, run.logged()
        assert run.logged().strip() == "late"
    finally:
        subprocess.run(["umount", "-l", str(base / "data")], check=True)


def test_what_is_no_launch_for_a_warm_parent_is_answered(warm: Warm) -> None:
    warm.line.send(b'{"op": "dance", "number": 9}')
    assert "only launches" in warm.hear()["error"].lower()
    run, ordered = warm.prepare("seven.py", program=None)
    assert "`program`" in warm.send(run, ordered)["error"]
    assert run.lock_is_free()
    assert warm.launch("seven.py").ended()["exit_code"] == 7


def test_a_launch_that_fails_says_where(warm: Warm) -> None:
    ended = warm.launch("seven.py", cwd="/no/such/folder").ended()
    assert (ended["launch_failed"]["stage"], ended["exit_code"]) == ("cwd", None)
    ended = warm.launch("seven.py", log="/no/such/log").ended()
    assert (ended["launch_failed"]["stage"], ended["exit_code"]) == ("log", None)


@pytest.mark.parametrize(
    "fields", [{"argv": ["/no/such/python"]}, {"argv": ["/bin/false"]}, {"visible": ["/root/no/such/path"]}]
)
def test_a_parent_that_cannot_be_is_told_as_failed(base: Path, fields: dict[str, Any]) -> None:
    made = Warm(base, **fields)
    try:
        failed = made.hear()
        assert (failed["event"], bool(failed["message"])) == ("failed", True)
        made.line.close()
        assert made.process.wait(PATIENCE_S) == 0
    finally:
        made.close()


def test_what_the_parent_has_mounted_and_is_gone_is_not_seen(base: Path) -> None:
    (base / "data").mkdir(mode=0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "early", str(base / "data")], check=True)
    try:
        (base / "data" / "file").write_text("early\n")
        warm = Warm(base)
        assert warm.hear()["event"] == "ready"
    finally:
        subprocess.run(["umount", "-l", str(base / "data")], check=True)
    try:
        run, ordered = warm.prepare("seven.py")
        (run.place / "work" / "seven.py").write_text(
            f"import os\nprint(os.listdir('{base}/data'), os.listdir('../..'))\n"
        )
        warm.send(run, ordered)
        assert run.ended()["exit_code"] == 0, run.logged()
        assert run.logged() == "[] ['1']\n"
    finally:
        warm.close()
