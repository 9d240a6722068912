"""The traps of forking a process that has a framework imported, each seen from within a program."""

import ast
import json
import os
import sys
from pathlib import Path

import pytest

from tests.shim.warm.parents import SHIM, UID, Ran, Twice, Warm

SEES = """
import json, os, random, sys, threading
import numpy, torch
seen = {}
tasks = lambda: len(os.listdir("/proc/self/task"))
seen["torch threads"] = torch.get_num_threads(), torch.get_num_interop_threads()
seen["torch's view"] = torch.__config__.parallel_info()
other = []
thread = threading.Thread(target=lambda: other.append(torch.get_num_threads()))
thread.start()
thread.join()
seen["threads of another thread"] = other
a = torch.ones(1200, 1200, requires_grad=True)
(a @ a).sum().backward()
seen["gradient"] = float(a.grad.sum())
b = numpy.ones((600, 600))
seen["numpy"] = float((b @ b).sum())
seen["cuda"] = torch.cuda.is_available(), torch.cuda.is_initialized(), torch.cuda._is_in_bad_fork()
torch.manual_seed(3)
model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.ReLU(), torch.nn.Linear(96, 10))
optimizer = torch.optim.Adam(model.parameters())
x, y = torch.randn(512, 64), torch.randint(0, 10, (512,))
for _ in range(15):
    loss = torch.nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
seen["training"] = float(loss.detach()).hex(), [float(p.detach().double().sum()).hex() for p in model.parameters()]
numpy.random.seed(4)
random.seed(5)
seen["seeded"] = numpy.random.rand(), random.random(), float(torch.rand(1)), torch.initial_seed()
seen["native id"] = threading.main_thread().native_id == os.getpid()
from torch.utils.data import DataLoader
if __name__ == "__main__":
    loader = lambda: DataLoader(list(range(6)), batch_size=2, num_workers=1, multiprocessing_context="fork")
    seen["workers"] = [batch.tolist() for batch in loader()]
    import weakref, atexit
    class Thing: pass
    thing = Thing()
    weakref.finalize(thing, print, "finalized")
    atexit.register(print, "registered")
    print(json.dumps(seen, indent=1))
"""
KERNEL = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


def seen(ran: Ran) -> tuple[dict[str, object], list[str]]:
    assert ran.code == 0, ran.text
    text, _, rest = ran.text.partition("\n}\n")
    return json.loads(text + "}"), rest.split()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_program_computes_as_in_a_fresh_interpreter(framework: Twice, threads: int) -> None:
    files = {"t.py": SEES}
    warm, fresh = (run(files, OMP_NUM_THREADS=str(threads)) for run in (framework.forked, framework.fresh))
    assert warm.fresh is None
    assert seen(warm) == seen(fresh)
    assert seen(warm)[1] == ["registered", "finalized"]


def test_a_program_holds_to_the_cores_it_may_use(framework: Twice) -> None:
    text = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    text += "import torch\nprint(torch.get_num_threads())"
    assert framework.forked({"t.py": text}, OMP_NUM_THREADS="1").text == "1\n"
    assert "OMP_NUM_THREADS" in (framework.forked({"t.py": "print(1)"}, OMP_NUM_THREADS="").fresh or "")


def test_random_numbers_differ_from_run_to_run(framework: Twice) -> None:
    text = "import random, numpy, torch, tempfile, uuid, multiprocessing as mp\n"
    text += "print(random.random(), numpy.random.rand(), float(torch.rand(1)), mp.current_process().authkey.hex())"
    values = [value for _ in range(3) for value in framework.forked({"t.py": text}).text.split()]
    assert len(values) == 12
    assert len(set(values)) == 12


def test_hash_seeds_are_those_of_the_parent(framework: Twice) -> None:
    text = "print(hash('a'))"
    assert framework.forked({"t.py": text}).text == framework.forked({"t.py": text}).text
    assert framework.forked({"t.py": text}, PYTHONHASHSEED="0").fresh


def test_what_imports_remember_is_of_the_run(framework: Twice) -> None:
    text = "import tempfile, os, torch\nprint(tempfile.gettempdir())\n"
    text += "print(os.environ.get('TORCHINDUCTOR_CACHE_DIR'))"
    place = framework.place("warm", {})
    (place / "tmp").mkdir()
    os.chown(place / "tmp", UID if os.geteuid() == 0 else -1, -1)
    ran = framework.forked({"t.py": text}, TMPDIR=str(place / "tmp"))
    assert ran.text == f"{place}/tmp\nNone\n"


def test_memory_is_shared_with_the_parent(framework: Twice) -> None:
    text = """
import gc, torch, sys
m = torch.nn.Linear(64, 10)
o = torch.optim.Adam(m.parameters())
m(torch.randn(256, 64)).sum().backward()
o.step()
gc.collect()
size = {line.split()[0]: int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if "kB" in line}
print(size["Private_Dirty:"], size["Pss:"], flush=True)
import signal
signal.pause()
"""
    runs = [framework.start({"t.py": text}) for _ in range(3)]
    for run in runs:
        run.go()
    for run in runs:
        run.wait_for_text("\n")
        os.kill(run.pid, 9)
        private_kib = int(run.end().text.split()[0])
        assert private_kib < 16 * 1024


def test_a_first_step_imports_nothing_and_maps_no_code_of_its_own(framework: Twice) -> None:
    text = """
import sys, torch
before = set(sys.modules)
torch.manual_seed(3)
model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.ReLU(), torch.nn.Linear(96, 10))
optimizer = torch.optim.Adam(model.parameters())
optimizer.zero_grad()
torch.nn.functional.cross_entropy(model(torch.randn(32, 64)), torch.zeros(32, dtype=torch.int64)).backward()
optimizer.step()
print(sorted(set(sys.modules) - before))
size = {line.split()[0]: int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if "kB" in line}
print(size["Private_Clean:"], flush=True)
"""
    imported, clean_kib = framework.forked({"t.py": text}).text.splitlines()
    assert imported == "[]"
    if KERNEL >= (5, 14):
        assert int(clean_kib) < 6 * 1024


def test_a_module_that_is_not_there_ends_no_parent(torch_parent: Warm) -> None:
    assert list(torch_parent.loaded["failed"]) == ["no_such_module"]
    assert torch_parent.loaded["threads"] == 1


def test_a_parent_with_threads_or_a_gpu_in_use_forks_nothing(folder: Path) -> None:
    (folder / "starts_a_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()"
    )
    warm = Warm("starts_a_thread", env={"PYTHONPATH": str(folder)}, visible=[str(folder)])
    assert "1 more thread" in warm.failure
    warm.close()


def test_a_variable_that_an_import_reads_needs_a_fresh_interpreter(folder: Path) -> None:
    (folder / "reads_early.py").write_text(
        "import os\nFOUND = os.environ.get('FLAVOUR')\nos.environ['SET_BY_IT'] = '1'"
    )
    warm = Warm("reads_early", env={"PYTHONPATH": str(folder)}, visible=[str(folder)])
    twice = Twice(warm, folder)
    text = "import os, reads_early\nprint(reads_early.FOUND, os.environ.get('SET_BY_IT'))"
    search = f"{folder}/warm:{folder}"
    assert twice.forked({"t.py": text}, PYTHONPATH=search).text == "None 1\n"
    ran = twice.forked({"t.py": text}, FLAVOUR="sweet", PYTHONPATH=search)
    assert ran.text == "sweet 1\n"
    assert "FLAVOUR" in (ran.fresh or "")
    warm.close()


AT_FORKS = """
import os
from os import register_at_fork
CALLED = []
def note(what): return lambda: CALLED.append(what)
os.register_at_fork(before=note("before 1"), after_in_child=note("child 1"), after_in_parent=note("parent 1"))
os.register_at_fork(before=note("before 2"), after_in_child=note("child 2"))
try:
    os.register_at_fork()
except TypeError:
    CALLED.append("refused")
def later(): register_at_fork(after_in_child=note("child 3"))
"""


def test_what_imports_ask_for_at_forks_is_done_once_and_for_the_programs_own(folder: Path) -> None:
    (folder / "forks.py").write_text(AT_FORKS)
    warm = Warm("forks", env={"PYTHONPATH": str(folder)}, visible=[str(folder)])
    text = "import os, forks\nprint(*forks.CALLED, sep=',', flush=True)\nforks.CALLED.clear()\nforks.later()\n"
    text += "pid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint(*forks.CALLED, sep=',', flush=True)\n"
    ran = Twice(warm, folder).forked({"t.py": text}, PYTHONPATH=f"{folder}/warm:{folder}")
    assert (ran.code, ran.fresh) == (0, None)
    assert ran.text.splitlines() == [
        "refused,before 2,before 1,child 1,child 2",
        "before 2,before 1,child 1,child 2,child 3",
        "before 2,before 1,parent 1",
    ]
    warm.close()


OTHER_PYTHONS = [f"3.{minor}" for minor in range(8, 15) if minor != sys.version_info.minor]
BY_ANY_PYTHON = """
import os, random, sys, threading
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool: print(pool.submit("{0[0]}.{0[1]}".format, sys.version_info).result())
print(threading.main_thread().ident == threading.get_ident())
here, pid = random.random(), os.fork()
if pid == 0:
    print(random.random() != here, threading.active_count(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("version", OTHER_PYTHONS)
def test_programs_are_forked_by_whichever_python_there_is(folder: Path, version: str) -> None:
    built = Path.home() / ".pyenv" / "versions"  # where https://github.com/pyenv/pyenv has them
    found = [*built.glob(f"{version}.*/bin/python{version}"), Path("/usr/bin") / f"python{version}"]
    executable = next((str(path) for path in found if path.exists()), None)
    if executable is None:
        pytest.skip(f"this machine has no Python {version}")
    warm = Warm("logging", "random", "concurrent.futures", "threading", executable=executable, visible=[str(folder)])
    assert warm.failure == ""
    ran = Twice(warm, folder).forked({"t.py": BY_ANY_PYTHON}, PATH=f"{Path(executable).parent}:/usr/bin:/bin")
    assert (ran.code, ran.fresh, ran.text.split()) == (0, None, [version, "True", "True", "1"])
    warm.close()


FOR_OLD_PYTHONS = [
    "init",
    "lean",
    "view",
    "isolation",
    "control",
    "scope",
    "seccomp",
    "trees",
    *(f"warm/{path.stem}" for path in (SHIM / "warm").glob("*.py")),
]


@pytest.mark.parametrize("name", FOR_OLD_PYTHONS)
def test_what_runs_in_environments_is_read_by_their_oldest_python(name: str) -> None:
    ast.parse((SHIM / f"{name}.py").read_text(), feature_version=(3, 8))
    assert "from __future__ import annotations" in (SHIM / f"{name}.py").read_text() or name in (
        "init",
        "warm/__init__",
    )
