"""A 64-64-10 network on the 1,797 digits, one thread, fixed seed: the short training run of the benches.

The last line of its output is a JSON object: times of CLOCK_BOOTTIME in ns, seconds of its own compute, and a digest of
what it learnt, by which a run is told to be right. With ``--hold`` it stays afterwards, with all it has in memory.
"""

# ruff: noqa: E402 - nothing may come before the first look at the clock
import time

BEGAN = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

import argparse
import gzip
import hashlib
import json
import os
from pathlib import Path

import numpy
import torch


def read_idx(path: Path) -> numpy.ndarray:
    """The bytes of a gzipped idx file: its fourth byte is the number of dimensions, then come their sizes."""
    raw = gzip.decompress(path.read_bytes())
    shape = numpy.frombuffer(raw, dtype=">u4", count=raw[3], offset=4)
    return numpy.frombuffer(raw, dtype=numpy.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def digits(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    pictures, labels = (
        numpy.concatenate([read_idx(folder / f"{part}-{what}-ubyte.gz") for part in ("train", "t10k")])
        for what in ("images-idx3", "labels-idx1")
    )
    return torch.tensor(pictures.reshape(-1, 64) / 255, dtype=torch.float32), torch.tensor(labels.astype("int64"))


def digest(model: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in model.parameters())).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=0, help="told to tell runs apart; changes nothing")
    parser.add_argument("--epochs", type=int, default=54)
    parser.add_argument("--hold", type=int, default=0)
    parser.add_argument("--report", type=int, default=0, help="tell the loss each so many epochs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    pictures, labels = digits(Path(os.environ.get("DATA_DIR", ".")))
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    log = __import__("runyard").log if given.report else None
    first_step, loss = 0, torch.tensor(0.0)
    began, began_cpu = time.perf_counter(), time.process_time()
    for epoch in range(given.epochs):
        for batch in torch.randperm(len(pictures)).split(32):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(pictures[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            first_step = first_step or time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if log is not None and epoch % given.report == 0:
            log(step=epoch, loss=loss.item())
            print(f"epoch {epoch} loss {loss.item():.6f}", flush=True)
    compute, compute_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    held = [pictures, labels, *model.parameters(), *(each.grad for each in model.parameters() if each.grad is not None)]
    held += [each for state in optimizer.state.values() for each in state.values() if isinstance(each, torch.Tensor)]
    told = {
        "first_line": BEGAN,
        "first_step": first_step,
        "compute_s": compute,
        "compute_cpu_s": compute_cpu,
        "loss": loss.item(),
        "digest": digest(model),
        "threads": torch.get_num_threads(),
        "tensor_bytes": sum(each.numel() * each.element_size() for each in held),
        "ended": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    }
    print(json.dumps(told), flush=True)
    if given.hold:
        time.sleep(given.hold)


main()
