"""A forked program sees and leaves what the same program does in a fresh interpreter: text, exit code, signal."""

import pytest

from tests.shim.warm.parents import Twice

ENDS = {
    "division": "1/0",
    "chain": "def f():\n  g()\ndef g():\n  raise ValueError('x') from KeyError(3)\nf()",
    "missing": "import nothing_of_that_name",
    "exit 0": "raise SystemExit",
    "exit 7": "import sys; sys.exit(7)",
    "exit 300": "import sys; sys.exit(300)",
    "exit -3": "import sys; sys.exit(-3)",
    "exit words": "import sys; print('a'); sys.exit('bye')",
    "os exit": "import os; print('a'); os._exit(5)",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "terminated": "import os; os.kill(os.getpid(), 15)",
    "aborted": "import os; os.abort()",
    "hook": "import sys\nsys.excepthook = lambda *a: print('mine', a[0])\n1/0",
    "broken hook": "import sys\ndef hook(*a): raise RuntimeError('hook')\nsys.excepthook = hook\n1/0",
    "syntax": "def f(:",
    "atexit": "import atexit\natexit.register(print, 'bye')\natexit.register(lambda: 1/0)\nprint('x')",
    "thread": "import threading, time\ndef f():\n  time.sleep(0.05)\n  print('thread')\n"
    "threading.Thread(target=f).start()\nprint('main')",
    "daemon": "import threading\ndef f():\n  while True: len([1] * 999)\n"
    "threading.Thread(target=f, daemon=True).start()\nopen('o', 'w').write('x')\nprint('main')",
    "unflushed": "import sys\nsys.stdout = open(1, 'w', buffering=9999)\nprint('late')",
    "destructor": "class A:\n  def __del__(self): print('gone', self.x)\na = A()\na.x = a\na.x = 3",
    "fork": "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint(pid > 0)",
    "c output": "import ctypes\nctypes.CDLL(None).printf(b'from C\\n')",
    "logging": "import logging\nlogging.warning('a')\nlogging.basicConfig(level=10)\nlogging.info('b')",
    "warning": "import warnings\nwarnings.warn('old')",
    "async": "import asyncio\nasync def f(): pass\nasyncio.run(f())\nasync def g(): 1/0\nasyncio.run(g())",
}


@pytest.mark.parametrize("text", list(ENDS.values()), ids=list(ENDS))
def test_a_program_ends_as_in_a_fresh_interpreter(slim: Twice, text: str) -> None:
    warm, fresh = slim.both(text)
    assert (warm.text, warm.code) == (fresh.text, fresh.code)


def test_output_that_cannot_be_written_out_is_a_failure(slim: Twice) -> None:
    warm, fresh = slim.both("import sys\nsys.stdout = open('/dev/full', 'w')\nprint('x')\nsys.exit(3)")
    assert warm.code == fresh.code == 120
    for ran in (warm, fresh):
        assert "OSError: [Errno 28] No space left on device" in ran.text
        assert "Traceback" not in ran.text


STATE = {
    "interpreter": "import sys\nprint(sys.argv, sys.orig_argv, sys.path, sys.executable, sys.prefix, sys.flags)\n"
    "print(sys.warnoptions, sys.dont_write_bytecode, sys.getswitchinterval(), sys.getrecursionlimit())\n"
    "print([m for m in sys.modules if 'runyard' in m], 'json' in sys.modules, sys.excepthook, sys.gettrace())",
    "main": "print(sorted(globals().items(), key=str))\n"
    "import __main__, sys\nprint(__main__ is sys.modules['__main__'])",
    "streams": "import sys\nfor s in (sys.stdin, sys.stdout, sys.stderr):\n"
    "  print(s, s.line_buffering, s.write_through, s.errors, s.buffer, s.newlines, s.isatty())\n"
    "print(sys.stdin.read())",
    "signals": "import signal\nprint([signal.getsignal(s) for s in sorted(signal.valid_signals())])\n"
    "print(signal.pthread_sigmask(0, []))",
    "process": "import os, resource\nprint(os.umask(0), os.getcwd(), os.getuid(), os.getgid(), os.getgroups())\n"
    "print(sorted(os.listdir('/proc/self/fd')), [resource.getrlimit(i) for i in range(10)])\n"
    "print(os.getsid(0) == os.getpid() == os.getpgid(0), os.sched_getaffinity(0), os.getpriority(0, 0))",
    "environment": "import os\nprint(sorted(os.environ.items()), flush=True)\nos.system('env | sort')",
    "gc": "import gc\nprint(gc.isenabled(), gc.get_threshold())",
    "pickle": "import pickle, inspect\nclass A: pass\nprint(pickle.loads(pickle.dumps(A)), inspect.getsource(A))",
    "time zone": "import time, os\nprint(time.strftime('%Z', time.gmtime(0)), time.localtime(0).tm_hour)",
    "own module": "import runyard\nprint(runyard.__name__)",
    "kill all": "import os, signal\nsignal.signal(1, signal.SIG_IGN)\nos.kill(0, 1)\nprint('alive')",
}


@pytest.mark.parametrize("text", list(STATE.values()), ids=list(STATE))
def test_a_program_finds_what_it_would_in_a_fresh_interpreter(slim: Twice, text: str) -> None:
    warm, fresh = slim.both(text, "--lr", "a b", TZ="Asia/Tokyo", OTHER="ü\udcff")
    assert warm.code == 0, warm.text
    assert warm.text == fresh.text
    assert warm.fresh is None


def test_processes_of_a_program_work_with_each_start_method(slim: Twice) -> None:
    text = """
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor

def double(x):
    return 2 * x

def put(q):
    q.put((mp.current_process().name, mp.process.ORIGINAL_DIR))

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = mp.get_context(method)
        q = context.Queue()
        p = context.Process(target=put, args=(q,))
        p.start()
        print(method, q.get())
        p.join()
    with ProcessPoolExecutor(2) as pool:
        print(list(pool.map(double, [1, 2])))
"""
    warm, fresh = slim.both(text)
    assert (warm.text, warm.code) == (fresh.text, fresh.code)
    assert warm.text.startswith("fork (")


def test_a_module_runs_as_with_m(slim: Twice) -> None:
    files = {
        "pack/__init__.py": "",
        "pack/tool.py": "import sys\nprint(sys.argv, sys.orig_argv, sys.path[0], __spec__.name)\n1/0",
    }
    files["pack/__main__.py"] = "print(__name__, __package__)\nraise KeyboardInterrupt"
    for module in ("pack.tool", "pack", "pack.nothing"):
        warm, fresh = slim.forked(files, "x", module=module), slim.fresh(files, "x", module=module)
        assert warm.code == fresh.code
        assert warm.text.replace("/warm", "/X") == fresh.text.replace("/fresh", "/X")
        assert warm.fresh is None


def test_what_a_fork_cannot_have_runs_in_a_fresh_interpreter(slim: Twice) -> None:
    show = "import sys\nprint(sys.argv[1:], hash('a') == hash('a'))"
    assert slim.forked({"t.py": show}, "x").fresh is None
    given = {"PYTHONHASHSEED": "0", "LD_PRELOAD": "", "MKL_DEBUG": "0", "TORCH_LOGS": "", "LC_ALL": "C.UTF-8"}
    for name, value in given.items():
        ran = slim.forked({"t.py": show}, "x", **{name: value})
        assert name in (ran.fresh or "")
        assert (ran.code, ran.text) == (0, "['x'] True\n")
    shadow = {"t.py": "import resource\nprint(resource.__file__)", "resource.py": ""}
    ran = slim.forked(shadow)
    assert "resource.py" in (ran.fresh or "")
    assert ran.text.endswith("warm/resource.py\n")


def test_a_site_file_of_the_program_is_imported_first(slim: Twice) -> None:
    files = {
        "t.py": "import sys\nprint('t', sys.path[0] == sys.path[1])",
        "sitecustomize.py": "import sys\nprint('site')",
    }
    warm, fresh = slim.forked(files), slim.fresh(files)
    assert (warm.text, warm.code) == (fresh.text, fresh.code) == ("site\nt True\n", 0)
