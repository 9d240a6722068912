"""The samples that fail do it in the way that their page says; here without the service."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

FAILING = Path(__file__).resolve().parents[2] / "samples" / "failing"


def ignores_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = re.search(r"^SigIgn:\s*([0-9a-f]+)$", status, re.MULTILINE)
    assert mask is not None
    return bool(int(mask[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_hang_leaves_children_that_neither_group_nor_parent_leads_to() -> None:
    with subprocess.Popen(
        [sys.executable, str(FAILING / "hang" / "hang.py")],
        env={**os.environ, "TRAINING_ID": "training-probe0001"},
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        pids: dict[str, int] = {}
        try:
            while len(pids) < 3:
                found = re.fullmatch(r"(\w+) hangs, process (\d+)\n", program.stdout.readline())
                assert found is not None
                role, pid = found.groups()
                pids[role] = int(pid)
            assert set(pids) == {"program", "child", "daemon"}
            assert all(ignores_sigterm(pid) for pid in pids.values())
            assert os.getpgid(pids["child"]) == os.getpgid(pids["program"]) != os.getpgid(pids["daemon"])
            assert os.getsid(pids["daemon"]) != os.getsid(pids["program"])
            for role in ("child", "daemon"):
                assert b"training-probe0001" in Path(f"/proc/{pids[role]}/cmdline").read_bytes()
        finally:
            for pid in (pids or {"program": program.pid}).values():
                os.kill(pid, signal.SIGKILL)


def test_out_of_memory_takes_what_it_says_and_stops_at_its_bound() -> None:
    done = subprocess.run(
        [sys.executable, str(FAILING / "out-of-memory" / "take_memory.py"), "--mib", "64"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stdout.splitlines()[:2] == ["32 MiB taken", "64 MiB taken"]
    assert "no memory limit is enforced" in done.stdout


def test_wrong_command_names_a_program_that_is_not_there() -> None:
    folder = FAILING / "wrong-command"
    named = re.search(r"command: python3 (\S+)", (folder / "manifest.yml").read_text())
    assert named is not None
    assert not (folder / named[1]).exists()
