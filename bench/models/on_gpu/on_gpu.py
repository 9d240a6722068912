"""A small network on one GPU, fixed seed, deterministic algorithms: the short training run of the benches on real GPUs.

The last line of its output is a JSON object: times of CLOCK_BOOTTIME in ns and a digest of what it learnt.
"""

# ruff: noqa: E402 - nothing may come before the first look at the clock
import time

BEGAN = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

import argparse
import hashlib
import json
import os

os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what deterministic matrix products ask for

import torch

IMPORTED = time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=0, help="told to tell runs apart; changes nothing")
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    unused_before = not torch.cuda.is_initialized()
    torch.manual_seed(1)
    torch.use_deterministic_algorithms(True)
    device = torch.device("cuda")
    model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)).to(device)
    ready = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    inputs, labels = torch.randn(1024, 256).to(device), torch.randint(0, 10, (1024,)).to(device)
    first_step, loss = 0, torch.tensor(0.0)
    for _ in range(given.steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        if not first_step:
            torch.cuda.synchronize()
            first_step = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    learnt = b"".join(each.detach().cpu().numpy().tobytes() for each in model.parameters())
    told = {
        "first_line": BEGAN,
        "imported": IMPORTED,
        "device_ready": ready,
        "first_step": first_step,
        "unused_before": unused_before,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "devices": torch.cuda.device_count(),
        "card": torch.cuda.get_device_name(),
        "loss": loss.item(),
        "digest": hashlib.sha256(learnt).hexdigest()[:16],
        "ended": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    }
    print(json.dumps(told), flush=True)


main()
