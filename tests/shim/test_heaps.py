"""What was freed goes back to the machine, and only where there is much of it."""

import subprocess
import sys

PROBE = """
import re
from runyard.shim.heaps import Tide, few_heaps

def held():
    return int(re.search(r"Private_Dirty: +([0-9]+)", open("/proc/self/smaps_rollup").read())[1])

few_heaps()
tide = Tide()
said = [tide.look()]
blocks = [bytes(3000) for _ in range(8000)]
for each in blocks:
    each.find(b"x")
last, much = blocks.pop(), held()
del blocks  # the last block is above them: malloc by itself returns nothing
kept = held()
said += [tide.look(), tide.look()]
print(said, much - kept > 12_000, kept - held() > 12_000, len(last))
"""


def test_what_was_freed_goes_back_once() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[False, True, False] False True 3000"


LARGE = """
import ctypes, re
from runyard.shim.heaps import few_heaps

few_heaps()
bytearray(8 << 20)  # comes, and goes
block = bytearray(3 << 20)
at = ctypes.addressof(ctypes.c_char.from_buffer(block))
low, high = re.search(r"^([0-9a-f]+)-([0-9a-f]+) .*\\[heap\\]$", open("/proc/self/maps").read(), re.MULTILINE).groups()
print(int(low, 16) <= at < int(high, 16))
"""


def test_what_is_large_is_in_no_heap_even_after_something_larger() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
    without = LARGE.replace("few_heaps()", "")
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "True"
