"""System calls that an operator leaves open: they work in a run, and it, the machine and the doctor say so."""

import errno
import json
import os
from pathlib import Path

import pytest

from tests.story.test_escapes import finished, told
from tests.support.installation import running_installation

pytestmark = [
    pytest.mark.story,
    pytest.mark.timeout(200),
    pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="programs run without a filter"),
]
TRIES = r"""
import ctypes, json, os
libc = ctypes.CDLL(None, use_errno=True)
def errno(number, *arguments):
    return 0 if libc.syscall(number, *arguments) >= 0 else ctypes.get_errno()
keyctl, add_key = ((250, 248), (219, 217))[os.uname().machine == "aarch64"]
print("TOLD", json.dumps({"keyctl": errno(keyctl, 0, -3, 0), "add_key": errno(add_key, None, None, None, 0, 0)}))
"""


@pytest.mark.parametrize("calls", [["keyctl"], ["all"]])
def test_what_is_left_open_works_and_is_told(tmp_path: Path, calls: list[str]) -> None:
    settings = f"allow_system_calls = {json.dumps(calls)}\n"
    says = "turned the filter off" if calls == ["all"] else "leaves system calls open: keyctl."
    with running_installation(tmp_path, "--fake-gpus", "1", settings=settings) as yard:
        yard.wait_connected()
        for way in ("exec", "warm"):
            run, log = finished(yard, f"tries-{way}", TRIES, way=way)
            answers = told(log)
            assert answers["keyctl"] == 0
            assert answers["add_key"] == (errno.EPERM if calls == ["keyctl"] else errno.EFAULT)
            assert says in run.attempts[-1].way_note
        assert any(says in note for note in yard.get("/status")["nodes"][0]["notes"])
        assert says in yard.cli("doctor", check=None).stdout
