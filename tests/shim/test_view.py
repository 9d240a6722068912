"""What a program of another user sees of folders that are closed to it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from runyard.shim import view
from tests.shim.launching import ENV, INTERPRETER, UID, Launcher, bash, needs_root


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A home folder of mode 0700 with a tool, a data file, a run's folder, and something private."""
    outer = tmp_path / "outer"
    home = outer / "home"
    (home / "python" / "bin").mkdir(parents=True)
    shutil.copy("/usr/bin/env", home / "python" / "bin" / "tool")
    (home / "data.txt").write_text("data\n")
    (home / "private.txt").write_text("private\n")
    (home / "runs" / "1" / "work").mkdir(parents=True)
    (home / "runs" / "2").mkdir()
    (home / "runs").chmod(0o700)
    home.chmod(0o700)
    return home


def open_up(path: Path) -> None:
    """Let everybody pass the parents of a test's folder, so that only what the test closes is closed."""
    for folder in path.parents:
        if folder.stat().st_uid == os.geteuid() and folder not in (Path("/"), Path("/tmp")):
            folder.chmod(0o755)


@needs_root
def test_paths_are_grouped_by_the_topmost_closed_folder_and_come_with_what_is_in_them(closed: Path) -> None:
    open_up(closed)
    needed = [
        closed / "python",
        closed / "python" / "bin",
        closed / "runs" / "1",
        closed / "data.txt",
        Path("/usr/bin"),
    ]
    assert view.plan([str(path) for path in needed], UID, (UID,)) == {
        str(closed): [str(closed / "data.txt"), str(closed / "python"), str(closed / "runs" / "1")]
    }


@needs_root
def test_the_owner_and_the_group_of_a_folder_pass_by_their_own_bits(closed: Path) -> None:
    open_up(closed)
    path = [str(closed / "python")]
    os.chown(closed, UID, 0)
    assert view.plan(path, UID, (UID,)) == {}
    os.chown(closed, 0, UID)
    closed.chmod(0o710)
    assert view.plan(path, UID, (UID,)) == {}
    closed.chmod(0o701)  # the group's bit counts for the group, not everybody's
    assert list(view.plan(path, UID, (UID,))) == [str(closed)]
    os.chown(closed, 0, 0)
    assert view.plan(path, UID, (UID,)) == {}


@needs_root
def test_a_path_through_a_link_counts_as_what_it_leads_to(closed: Path) -> None:
    open_up(closed)
    link = closed.parent / "link"
    link.symlink_to(closed / "python")
    assert view.plan([str(link)], UID, (UID,)) == {str(closed): [str(closed / "python")]}


@needs_root
def test_plans_that_follow_each_other_look_once_and_again_after_a_while(closed: Path, tmp_path: Path) -> None:
    open_up(closed)
    runs = closed / "runs"
    link = tmp_path / "link"
    link.symlink_to(closed / "python")
    needed = [str(path) for path in (closed / "python", closed / "data.txt", runs / "1", link)]
    looked, alone = view.Looked(), view.plan(needed, UID, (UID,), [str(runs)])
    looked.refresh(0, valid=10)
    assert view.plan(needed, UID, (UID,), [str(runs)], looked=looked) == alone
    link.unlink()
    link.symlink_to(closed / "data.txt")  # what is named itself is looked at each time
    again = view.plan(needed, UID, (UID,), [str(runs)])
    assert view.plan(needed, UID, (UID,), [str(runs)], looked=looked) == again
    closed.chmod(0o755)
    opened = view.plan(needed, UID, (UID,), [str(runs)])
    assert opened != again
    looked.refresh(9, valid=10)
    assert view.plan(needed, UID, (UID,), [str(runs)], looked=looked) == again, "within the time it was closed"
    looked.refresh(10, valid=10)
    assert view.plan(needed, UID, (UID,), [str(runs)], looked=looked) == opened


def test_a_path_that_does_not_exist_is_for_the_launch_to_complain_of() -> None:
    assert view.plan(["/no/such/path"], UID, (UID,)) == {}


@needs_root
def test_the_program_sees_exactly_what_it_needs(launcher: Launcher, closed: Path) -> None:
    work = closed / "runs" / "1" / "work"
    os.chown(work, UID, UID)
    needed = [closed / "python", closed / "data.txt", closed / "runs" / "1"]
    attempt = launcher.launch(
        bash(
            "$HOME/python/bin/tool true; cat $HOME/data.txt; ls $HOME; ls $HOME/runs; echo written > made;"
            "grep ' runyard ' /proc/self/mountinfo;"
            "for path in $HOME/new $HOME/runs/1/new $HOME/data.txt; do"
            " (echo x > $path) 2> /dev/null && echo wrote $path; done; [ -w $HOME ] || echo read-only"
        ),
        uid=UID,
        gid=UID,
        env={**ENV, "HOME": str(closed)},
        cwd=str(work),
        visible=[str(path) for path in needed],
    )
    ended = attempt.ended()
    assert (ended["exit_code"], ended["launch_failed"]) == (0, None), attempt.logged()
    *told, cover, last = attempt.logged().splitlines()
    assert [*told, last] == ["data", "data.txt", "python", "runs", "1", "read-only"]
    assert set(cover.split()[5].split(",")) >= {"ro", "nosuid", "nodev"}
    assert (work / "made").read_text() == "written\n"
    # The covered folder is the topmost one: pytest closes the parents of its own temporary folders, too.
    [covered] = attempt.started()["view"]
    assert closed.is_relative_to(covered)
    mount_points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert covered not in mount_points
    assert (closed / "private.txt").read_text() == "private\n"


@needs_root
def test_the_cover_does_not_spread_to_the_machine(open_launcher: Launcher) -> None:
    shared = open_launcher.folder / "shared"
    (shared / "closed" / "needed").mkdir(parents=True)
    (shared / "closed").chmod(0o700)
    subprocess.run(["mount", "--bind", str(shared), str(shared)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(shared)], check=True)
        needed = str(shared / "closed" / "needed")
        attempt = open_launcher.launch("echo ready; sleep 60", uid=UID, gid=UID, visible=[needed])
        client = attempt.running()
        attempt.wait_for_line("ready")
        mount_points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        assert [path for path in mount_points if path.startswith(str(shared))] == [str(shared)]
        assert attempt.started()["view"] == [str(shared / "closed")]
        client.say(op="stop", cause="cancel", grace_s=0)
        assert attempt.ended()["cause"] == "cancel"
    finally:
        open_launcher.close()
        subprocess.run(["umount", str(shared)], check=True)


@needs_root
def test_an_interpreter_below_a_closed_folder_runs(launcher: Launcher, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    os.chown(work, UID, UID)
    script = "import os, json, ssl, sqlite3, sys; print(os.getuid(), os.getcwd(), sys.prefix)"
    attempt = launcher.launch(
        [f"{INTERPRETER[0]}/bin/python", "-c", script],
        uid=UID,
        gid=UID,
        cwd=str(work),
        visible=[*INTERPRETER, str(work)],
    )
    assert attempt.ended()["exit_code"] == 0, attempt.logged()
    assert attempt.logged().split() == [str(UID), str(work), INTERPRETER[0]]


@needs_root
def test_a_file_can_be_visible_alone(launcher: Launcher, closed: Path) -> None:
    attempt = launcher.launch(["/bin/ls", str(closed)], uid=UID, gid=UID, visible=[str(closed / "data.txt")])
    assert attempt.ended()["exit_code"] == 0
    assert attempt.logged() == "data.txt\n"


@needs_root
def test_a_visible_path_that_is_not_there_fails_the_launch_by_name(launcher: Launcher, closed: Path) -> None:
    ended = launcher.launch("true", uid=UID, gid=UID, visible=[str(closed / "gone")]).ended()
    assert (ended["launch_failed"]["stage"], ended["launch_failed"]["errno"]) == ("view", 2)
    assert str(closed / "gone") in ended["launch_failed"]["message"]


@needs_root
def test_where_nothing_is_closed_no_namespace_is_made(launcher: Launcher) -> None:
    attempt = launcher.launch("readlink /proc/self/ns/mnt", uid=UID, gid=UID, visible=["/usr", "/tmp"])
    attempt.ended()
    assert attempt.logged().strip() == os.readlink("/proc/self/ns/mnt")
    assert attempt.started()["view"] == []


@needs_root
def test_a_program_of_the_same_user_keeps_the_machines_view(launcher: Launcher, closed: Path) -> None:
    attempt = launcher.launch(["/bin/cat", str(closed / "private.txt")], visible=[str(closed / "data.txt")])
    attempt.ended()
    assert attempt.logged() == "private\n"
