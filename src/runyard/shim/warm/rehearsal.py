"""A first step of training in a forked child, before there is any program: whether it can compute, and what it had to
get first, which its parent can have for all. The parent itself computes nothing."""

from __future__ import annotations

import os
import select
import sys
import time

from runyard.shim.lean import decode, encode, signals
from runyard.shim.warm.memory import map_files, mapped_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMIT_S = 10.0
"""For the test, and for the step again."""
COMPUTED = b" "
"""Said by a child that could: blank before the JSON that follows."""
OURS = __file__.rpartition("/warm/")[0] + "/"


class Learnt:
    """What a child that computed had to get first."""

    __slots__ = ("files", "modules", "sources")

    def __init__(self, files: list[tuple[int, int]], modules: list[str], sources: list[str]) -> None:
        self.files = files
        """Addresses (from, to) of libraries' code and constants that it looked at."""
        self.modules = modules
        """Parts of PyTorch that it imported, in that order; what they import comes with them."""
        self.sources = sources
        """Files of Python whose lines it read, as who formats a stack does (PyTorch when it is seeded, before CUDA)."""

    def get_ready(self) -> None:
        """Have what can be had beside imports."""
        linecache: Any = sys.modules.get("linecache")
        if linecache is not None:
            for path in self.sources:
                linecache.getlines(path)
        map_files(self.files)


def rehearse(torch: Any) -> Learnt | None:
    """Have a child compute with two threads, forward and backward, and then take a step of training as most programs
    do. None: it could not compute. Where the step breaks off or takes too long, less is learnt, or nothing."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(heard)
            _compute(torch)
            _write(told, COMPUTED)
            known = frozenset(sys.modules)
            try:
                _train(torch)
            except Exception:
                pass  # another PyTorch than those that it was written for
            _write(told, encode(_learnt(known)).encode())
        finally:
            os._exit(0)
    os.close(told)
    text = _until_its_end(heard, child)
    if not text.startswith(COMPUTED):
        return None
    try:
        record = decode(text)
    except ValueError:
        return Learnt([], [], [])
    return Learnt([(each[0], each[1]) for each in record["files"]], record["modules"], record["sources"])


def _compute(torch: Any) -> None:
    torch.set_num_threads(2)
    weights = torch.ones((400, 400), requires_grad=True)
    (weights @ weights).sum().backward()


def _train(torch: Any) -> None:
    torch.manual_seed(1)
    pictures, labels = torch.rand((64, 16)), torch.zeros(64, dtype=torch.int64)
    model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters())
    for batch in torch.randperm(64).split(32):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(pictures[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        loss.item()


def _learnt(known: frozenset[str]) -> dict[str, object]:
    linecache: Any = sys.modules.get("linecache")
    lines: dict[str, object] = {} if linecache is None else linecache.cache
    return {
        "files": mapped_files(),
        "modules": [name for name in sys.modules if name not in known and name.startswith("torch.")],
        "sources": [path for path in lines if path.startswith("/") and not path.startswith(OURS)],
    }


def _write(descriptor: int, text: bytes) -> None:
    while text:
        text = text[os.write(descriptor, text) :]


def _until_its_end(heard: int, child: int) -> bytes:
    """What a child says, who is gone then. Closes the descriptor."""
    text = b""
    deadline = time.monotonic() + LIMIT_S
    while select.select([heard], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(heard, 1 << 16)
        if not chunk:
            break
        if not text:
            deadline = time.monotonic() + LIMIT_S
        text += chunk
    else:
        os.kill(child, signals.SIGKILL)
    os.close(heard)
    os.waitpid(child, 0)
    return text
