"""Small things that a program does with a device, tried by ``runyard doctor --gpu`` in processes of their own.

``python gpu_tries.py matmul|hold|reduce DEVICE``: run as a file, by any interpreter that has PyTorch. A line of JSON on
stdout says how it went. ``DEVICE`` is ``cuda``, or ``cpu`` to try the trying.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

HELD_BYTES = 256 << 20


def matmul(torch: Any, device: str) -> dict[str, Any]:
    """Multiply on the device, and compare with the processor's own result."""
    torch.manual_seed(0)
    left, right = torch.rand(512, 512), torch.rand(512, 512)
    began = time.monotonic()
    there = (left.to(device) @ right.to(device)).cpu()
    took = time.monotonic() - began
    difference = float((there - left @ right).abs().max())
    return {"seconds": took, "difference": difference, "right": difference < 0.5}  # TF32 keeps ten bits of 128


def hold(torch: Any, device: str) -> NoReturn:
    """Take memory of the device and keep it until killed."""
    memory = torch.ones(HELD_BYTES, dtype=torch.uint8, device=device)
    if device == "cuda":
        torch.cuda.synchronize()
    say({"held": memory.numel()})
    while True:
        time.sleep(3600)


def reduce(torch: Any, device: str) -> dict[str, Any]:
    """Add up over all processes that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT name."""
    distributed: Any = import_module("torch.distributed")
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    part = torch.full((1024,), float(distributed.get_rank() + 1), device=device)
    distributed.all_reduce(part)
    count = distributed.get_world_size()
    distributed.destroy_process_group()
    return {"right": bool((part == count * (count + 1) / 2).all()), "count": count}


def say(answer: dict[str, Any]) -> None:
    """A line for who asked."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(words: Sequence[str]) -> dict[str, Any]:
    """Try what the words say; what goes wrong becomes a sentence."""
    what, device = words
    try:
        torch: Any = import_module("torch")  # that it is missing is one of the answers
        facts = {"torch": torch.__version__, "cuda": torch.version.cuda, "count": torch.cuda.device_count()}
        if device == "cuda" and not torch.cuda.is_available():
            return {**facts, "error": "PyTorch sees no CUDA device"}
        return {**facts, **{"matmul": matmul, "hold": hold, "reduce": reduce}[what](torch, device)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}


if __name__ == "__main__":
    answer = main(sys.argv[1:])
    say(answer)
    os._exit(0 if "error" not in answer else 1)
