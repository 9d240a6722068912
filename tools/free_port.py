"""A TCP port on loopback that nobody listens on."""

import socket


def free_port(wanted: int = 0) -> int:
    """The wanted port when it is free, else any that is. Nobody reserves it."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port on 127.0.0.1 is free")
