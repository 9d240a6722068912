"""The cloud's metadata addresses, which give a machine's credentials to whoever asks, closed to programs.

Rules of the kernel's choice of routes (fib_rules, rtnetlink(7), ip-rule(8)), one set for a machine and a range of user
ids, made once: they cost a start nothing, and need neither nftables nor a network namespace. TCP alone is closed, and
not the port of DNS: some clouds answer names at the same address.
"""

import os
import socket
import struct
from errno import EEXIST

ADDRESSES = (
    "169.254.169.254",  # Amazon, Google, Azure, Oracle, IBM, OpenStack, DigitalOcean
    "169.254.170.2",  # Amazon ECS: credentials of a task
    "169.254.170.23",  # Amazon EKS: credentials of a pod
    "169.254.0.23",  # Tencent
    "100.100.100.200",  # Alibaba
    "168.63.129.16",  # Azure: what its agent is told
    "fd00:ec2::254",  # Amazon
    "fd00:ec2::23",  # Amazon EKS
    "fd20:ce::254",  # Google
)
PORTS = ((1, 52), (54, 65534))
"""All but that of DNS (and the last one, which the kernel takes for none)."""
MEMBERS = 10_000
"""So many user ids from the first one on are those of programs."""
PRIORITY = 5100
"""After the machine's own addresses (0), before all routes (32766)."""
RTM_NEWRULE, NLMSG_ERROR, REQUEST_ACK_EXCL_CREATE, PROHIBIT = 32, 2, 0x1 | 0x4 | 0x200 | 0x400, 8
FRA_DST, FRA_PRIORITY, FRA_UID_RANGE, FRA_IP_PROTO, FRA_DPORT_RANGE = 1, 6, 20, 22, 24  # linux/fib_rules.h
PATIENCE_S = 5
OPEN = "The cloud's metadata address is not closed: a program can ask it for this machine's credentials, if it has any"


def close(first: int, last: int) -> list[str]:
    """Close the addresses to the user ids ``first`` to ``last`` in this network namespace, as root; a sentence on what
    could not be closed. What is closed already stays so."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
            kernel.settimeout(PATIENCE_S)
            for address in ADDRESSES:
                for ports in PORTS:
                    _ask(kernel, _rule(address, ports, (first, last)), address)
    except OSError as error:
        return [f"{OPEN} ({error.strerror or error})."]
    return []


def _ask(kernel: socket.socket, rule: bytes, address: str) -> None:
    """Raises ``OSError``. A kernel without version 6 has nothing to close of it."""
    kernel.send(rule)
    answer = kernel.recv(4096)
    length, kind = struct.unpack_from("=IH", answer)
    number = -struct.unpack_from("=i", answer, 16)[0] if kind == NLMSG_ERROR and length >= 20 else 0
    if number not in (0, EEXIST) and (":" not in address or os.path.exists("/proc/net/if_inet6")):
        raise OSError(number, os.strerror(number))


def _rule(address: str, ports: tuple[int, int], users: tuple[int, int]) -> bytes:
    """The message that adds one rule: struct nlmsghdr, struct fib_rule_hdr, and attributes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    destination = socket.inet_pton(family, address)
    body = struct.pack("=8BI", family, len(destination) * 8, 0, 0, 0, 0, 0, PROHIBIT, 0)
    for kind, value in (
        (FRA_DST, destination),
        (FRA_PRIORITY, struct.pack("=I", PRIORITY)),
        (FRA_UID_RANGE, struct.pack("=II", *users)),
        (FRA_IP_PROTO, struct.pack("=B", socket.IPPROTO_TCP)),
        (FRA_DPORT_RANGE, struct.pack("=HH", *ports)),
    ):
        attribute = struct.pack("=HH", 4 + len(value), kind) + value
        body += attribute.ljust(-(-len(attribute) // 4) * 4, b"\0")
    return struct.pack("=IHHII", 16 + len(body), RTM_NEWRULE, REQUEST_ACK_EXCL_CREATE, 1, 0) + body
