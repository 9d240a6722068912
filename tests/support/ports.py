"""Free TCP ports on loopback."""

import contextlib
import socket


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int, twin_offset: int = 0) -> list[int]:
    """Distinct ports that are free now.

    ``twin_offset``: a server that listens on port + offset too gets ports whose twin is free as well. Nobody
    reserves them: a server that finds one taken must be started again with others.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if not twin_offset or (port + twin_offset < 65536 and is_free(port + twin_offset)):
                found.append(port)
    return found
