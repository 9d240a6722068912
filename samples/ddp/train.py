"""Several processes train one network together: PyTorch's DistributedDataParallel over gloo.

``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT`` say who is who, as torchrun says it; without them the
program is alone and trains just the same. Every process takes its own share of the pictures. At the end all compare
their weights and add up how many pictures they took; the first writes ``model/model.pt`` and ``metrics.json``.
"""

import argparse
import gzip
import hashlib
import json
import os
import struct
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

ALONE = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def read_idx(path: Path) -> Tensor:
    """The bytes of a gzipped idx file: its fourth byte is the number of dimensions, then come their sizes."""
    raw = gzip.decompress(path.read_bytes())
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    return torch.frombuffer(bytearray(raw[4 + 4 * raw[3] :]), dtype=torch.uint8).reshape(shape)


def read_pictures(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Pictures as rows of values from 0 to 1, and their labels."""
    pictures = read_idx(folder / f"{part}-images-idx3-ubyte.gz").flatten(1).float() / 255
    return pictures, read_idx(folder / f"{part}-labels-idx1-ubyte.gz").long()


def share_of(count: int, epoch: int) -> Tensor:
    """The pictures of this process in an epoch: all draw the same order, each takes every n-th, all equally many."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
    world = dist.get_world_size()
    return order[dist.get_rank() : count - count % world : world]


def train(network: nn.Module, pictures: Tensor, labels: Tensor, epochs: int, lr: float) -> int:
    """Returns how many pictures this process took. The gradients are averaged over all of them by the network."""
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    taken = 0
    for epoch in range(epochs):
        for batch in share_of(len(pictures), epoch).split(32):
            loss = F.cross_entropy(network(pictures[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            taken += len(batch)
    return taken


def fingerprint(network: nn.Module) -> str:
    """A hash of all weights."""
    hashed = hashlib.sha256()
    for values in network.state_dict().values():
        hashed.update(values.numpy().tobytes())
    return hashed.hexdigest()[:16]


def everybodys(value: object) -> list[object]:
    """What each process has, by rank."""
    found: list[object] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    for name, value in ALONE.items():
        os.environ.setdefault(name, value)
    torch.set_num_threads(1)

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    # Text and line's end in one write: several processes share this log, and unbuffered they would be two.
    print(f"rank {rank} of {world}, learner {os.environ.get('LEARNER_ID', '1')}\n", end="", flush=True)
    data = Path(os.environ.get("DATA_DIR", "."))
    pictures, labels = read_pictures(data, "train")
    torch.manual_seed(rank)  # each begins with other weights; DistributedDataParallel gives all those of the first
    network = nn.Sequential(nn.Linear(pictures.shape[1], 32), nn.ReLU(), nn.Linear(32, 10))
    taken = train(DistributedDataParallel(network), pictures, labels, options.epochs, options.lr)

    weights, counts = everybodys(fingerprint(network)), everybodys(taken)
    if len(set(weights)) != 1:
        sys.exit(f"rank {rank}: the weights differ: {weights}")
    if rank == 0:
        finish(network, data, [int(str(count)) for count in counts], str(weights[0]))
    dist.destroy_process_group()
    # In about one of forty processes PyTorch 2.13 aborts while the interpreter ends ("terminate called without an
    # active exception"), when all the work is done: leave without that end.
    sys.stdout.flush()
    os._exit(0)


def finish(network: nn.Module, data: Path, counts: list[int], weights: str) -> None:
    """What the first process tells and writes."""
    test_pictures, test_labels = read_pictures(data, "t10k")
    with torch.no_grad():
        accuracy = float((network(test_pictures).argmax(1) == test_labels).float().mean())
    print(f"the same weights {weights} on {len(counts)} ranks, {sum(counts)} pictures taken: {counts}", flush=True)
    print(f"test accuracy {accuracy:.4f}", flush=True)
    results = Path(os.environ.get("RESULT_DIR", "results"))
    (results / "model").mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), results / "model" / "model.pt")
    told = {"ranks": len(counts), "pictures": sum(counts), "weights": weights, "test_accuracy": accuracy}
    (results / "metrics.json").write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
