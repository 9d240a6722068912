"""A program of the campaign. What it did, it also notes in a witness file that no blow reaches, after each step."""

import argparse
import errno
import fcntl
import os
import re
import sys
import time

import runyard

RUN = os.environ["TRAINING_ID"]
ATTEMPT = int(re.findall(r"/attempts/(\d+)", os.environ["RESULT_DIR"])[-1])
METRICS = os.environ["RUNYARD_METRICS"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--witness", required=True)
    parser.add_argument("--lines", type=int, default=1)
    parser.add_argument("--points", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--save", type=int, default=0)
    parser.add_argument("--code", type=int, default=0)
    parser.add_argument("--n", type=int, default=0)
    return parser.parse_args()


def patiently(work):
    """A full disk is no reason to give up: what could not be written is tried again."""
    while True:
        try:
            return work()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            time.sleep(0.02)


def wrote(text: bytes) -> None:
    left = memoryview(text)
    while left:
        left = left[patiently(lambda rest=left: os.write(1, rest)) :]


def recorded(step: int) -> bool:
    """Whether the point is whole in the file when the call returns: acknowledged, as far as a program can know."""
    before = os.path.getsize(METRICS) if os.path.exists(METRICS) else 0
    runyard.log(step=step, loss=1 / (step + 1))
    try:
        with open(METRICS, "rb") as file:
            file.seek(before)
            return file.read().endswith(b"\n")
    except FileNotFoundError:
        return False


def saved(step: int) -> None:
    path = os.path.join(os.environ["CHECKPOINT_DIR"], "step")
    with open(path + ".new", "w") as file:
        file.write(str(step))
    os.replace(path + ".new", path)


def resumed() -> int:
    try:
        with open(os.path.join(os.environ["CHECKPOINT_DIR"], "step")) as file:
            return int(file.read() or 0)
    except FileNotFoundError:
        return 0


def main() -> int:
    told = arguments()
    witness = os.open(f"{told.witness}/{RUN}.{ATTEMPT}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    alone = os.open(f"{told.witness}/{RUN}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.write(witness, b"doubled\n")

    def note(what: str, number: int) -> None:
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        os.write(witness, f"{what} {number} {now}\n".encode())

    first = resumed() if told.save else 0
    note("begin", first)
    for step in range(first, told.lines):
        wrote(f"line {step} of {RUN}/{ATTEMPT}\n".encode())
        note("line", step)
        if step < told.points and recorded(step):
            note("point", step)
        if told.save and step % told.save == told.save - 1:
            patiently(lambda step=step: saved(step + 1))
        if told.pause:
            time.sleep(told.pause)
    note("end", told.code)
    return told.code


if __name__ == "__main__":
    sys.exit(main())
