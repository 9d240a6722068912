"""Prints numbered lines of 100 bytes as fast as it can, unbuffered, and last how many seconds that took."""

import json
import os
import sys
import time

LINE = "abcdefghijklmnopqrstuvwxyz0123456789 loss 0.123456 accuracy 0.654321 abcdefghijklmnopqrs"


def lines_wanted() -> int:
    """The number in config.json, or the argument."""
    if len(sys.argv) > 1:
        return int(sys.argv[1])
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "config.json"), encoding="utf-8") as file:
        return int(json.load(file)["lines"])


def main() -> None:
    count = lines_wanted()
    began = time.perf_counter()
    for number in range(count):
        print(f"{number:010d} {LINE}")
    print(f"took {time.perf_counter() - began:.6f}")


if __name__ == "__main__":
    main()
