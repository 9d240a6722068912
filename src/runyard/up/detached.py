"""The supervisor in the background: ``runyard up --detach`` starts it with the listening socket it has made."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path

from runyard.cli.options import UpOptions
from runyard.up.start import foreground


def main() -> int:
    """Keep the installation running until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m runyard.up.detached")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--gpus", default="all")
    parser.add_argument("--slots-per-gpu", type=int, default=1)
    parser.add_argument("--fake-gpus", type=int)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--insecure", action="store_true")
    told = parser.parse_args()
    listening = socket.socket(fileno=told.fd)
    host, port = listening.getsockname()[:2]
    options = UpOptions(
        home=str(told.home),
        host=host,
        port=port,
        gpus=told.gpus,
        slots_per_gpu=told.slots_per_gpu,
        fake_gpus=told.fake_gpus,
        detach=False,
        tls=told.tls,
        insecure=told.insecure,
    )
    return foreground(told.home, options, listening)


if __name__ == "__main__":
    sys.exit(main())
