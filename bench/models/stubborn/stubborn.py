"""Waits to be ended; with ``--deaf 1`` it does not hear SIGTERM."""

import argparse
import signal
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deaf", type=int, default=0)
parser.add_argument("--n", type=int, default=0)
if parser.parse_args().deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
