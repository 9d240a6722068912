"""Prints lines, tells points of a metric and writes a result, for so many seconds; ends with the code that is asked."""

import argparse
import os
import sys
import time

import runyard

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--n", type=int, default=0, help="told to tell runs apart; changes nothing")
parser.add_argument("--seconds", type=float, default=5)
parser.add_argument("--code", type=int, default=0)
given = parser.parse_args()
began, step = time.monotonic(), 0
while time.monotonic() < began + given.seconds:
    runyard.log(step=step, loss=1 / (1 + step), rate=0.1)
    print(f"step {step} of run {given.n}")
    step += 1
    time.sleep(0.05)
with open(os.path.join(os.environ["RESULT_DIR"], "model.bin"), "wb") as file:
    file.write(bytes(50_000))
sys.exit(given.code)
