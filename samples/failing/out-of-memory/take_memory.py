"""Takes memory, 32 MiB at a time and every page of it, up to a bound that spares a machine that enforces none."""

import argparse
import sys

STEP_MIB = 32

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--mib", type=int, default=1024, help="stop here, with exit code 3")
wanted = parser.parse_args().mib

taken: list[bytes] = []
while len(taken) * STEP_MIB < wanted:
    taken.append(b"\1" * (STEP_MIB << 20))
    print(f"{len(taken) * STEP_MIB} MiB taken", flush=True)

print("nobody stopped me: no memory limit is enforced here", flush=True)
sys.exit(3)
