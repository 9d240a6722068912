"""What a warm parent does for the memory of its forks, each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

from runyard.shim.warm.rehearsal import Learnt, rehearse

HOLES = """
import argparse, http.client, json, os
from runyard.shim.warm.memory import _holes, fill_holes
room = lambda: sum(size * free for size, free in _holes())
files = os.listdir("/proc/self/fd")
before, kept = room(), None
kept = fill_holes()
after = room()
print(json.dumps([before, after, os.listdir("/proc/self/fd") == files]))
"""
MAPPED = """
import json
from runyard.shim.warm.memory import map_files, mapped_files
size = lambda: sum(end - start for start, end in mapped_files())
code = [line.split()[0] for line in open("/proc/self/maps") if "r-xp" in line and "/" in line]
ranges = [tuple(int(each, 16) for each in place.split("-")) for place in code]
before = size()
map_files(ranges)
print(json.dumps([sum(end - start for start, end in ranges), before, size()]))
"""


def told(program: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_holes_among_small_objects_are_filled() -> None:
    before, after, as_before = told(HOLES)
    assert before > 20_000
    assert after < before / 2
    assert as_before


def test_an_interpreter_without_pools_has_no_holes() -> None:
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout) == [0, 0, True]


def test_code_of_files_is_found_and_mapped() -> None:
    code, mapped, mapped_then = told(MAPPED)
    if tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2]) >= (5, 14):
        assert mapped < mapped_then
        assert code <= mapped_then


class Tensor:
    """As much of one as the test of a child asks for."""

    def __matmul__(self, other: "Tensor") -> "Tensor":
        return self

    def sum(self) -> "Tensor":
        return self

    def backward(self) -> None:
        return


def of(ones: Callable[..., Tensor]) -> Learnt | None:
    return rehearse(SimpleNamespace(set_num_threads=int, ones=ones))


def test_a_child_that_cannot_compute_is_told() -> None:
    def fails(*_: object, **__: object) -> Tensor:
        os._exit(1)

    assert of(fails) is None


def test_a_library_that_trains_otherwise_teaches_less() -> None:
    def ones(*_: object, **__: object) -> Tensor:
        return Tensor()

    learnt = of(ones)
    assert learnt is not None
    assert learnt.modules == []
