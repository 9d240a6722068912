"""The cloud's metadata address, closed to programs and to nobody else."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from runyard.shim import metadata
from tests.shim.launching import UID, needs_root

INSIDE = r"""
import errno, os, socket, sys, time
from runyard.shim import isolation, metadata
first, last, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
isolation.cut_network()

def route(family, table_entry):
    import struct
    body = struct.pack("=8BI", family, 0, 0, 0, 254, 3, 0, 1, 0)  # rtmsg: a default route in the main table
    index = struct.pack("=I", socket.if_nametoindex("lo"))
    body += struct.pack("=HH", 8, 4) + index  # RTA_OIF
    message = struct.pack("=IHHII", 16 + len(body), 24, 0x605, 1, 0) + body  # RTM_NEWROUTE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(message)
        assert struct.unpack_from("=i", kernel.recv(4096), 16)[0] == 0

route(socket.AF_INET, None)
if what == "closed":
    assert metadata.close(first, last) == [], metadata.close(first, last)
    assert metadata.close(first, last) == []

def tried(user, address, port, kind=socket.SOCK_STREAM):
    pid = os.fork()
    if pid == 0:
        os.setgid(user); os.setuid(user)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, kind) as client:
            client.setblocking(False)
            os._exit(client.connect_ex((address, port)))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

for user in (first, last, last + 1, 0):
    print(user, *(errno.errorcode.get(tried(user, *where), "0") for where in (
        ("169.254.169.254", 80), ("169.254.169.254", 53), ("169.254.169.254", 53, socket.SOCK_DGRAM),
        ("::ffff:169.254.169.254", 80), ("100.100.100.200", 443), ("168.63.129.16", 32526), ("203.0.113.1", 80))))
"""


def answers(what: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, str(UID), str(UID + 10), what], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [line.split()[1:] for line in done.stdout.splitlines()]


@needs_root
def test_programs_do_not_reach_it_and_others_and_all_else_do() -> None:
    open_to_all = answers("open")
    on_its_way = ["EINPROGRESS", "EINPROGRESS", "0", *["EINPROGRESS"] * 4]
    if open_to_all != [on_its_way] * 4:
        pytest.skip(f"this machine's network namespaces have no such routes: {open_to_all}")
    closed = ["EACCES", "EINPROGRESS", "0", "EACCES", "EACCES", "EACCES", "EINPROGRESS"]
    assert answers("closed") == [closed, closed, on_its_way, on_its_way]


@needs_root
def test_who_may_not_is_told_in_a_sentence() -> None:
    pid = os.fork()
    if pid == 0:
        os.setgid(UID)
        os.setuid(UID)
        said = metadata.close(UID, UID)
        os._exit(0 if said == [f"{metadata.OPEN} ({os.strerror(errno.EPERM)})."] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_rule_is_of_the_length_that_it_says() -> None:
    for address in metadata.ADDRESSES:
        message = metadata._rule(address, (1, 2), (3, 4))
        assert int.from_bytes(message[:4], sys.byteorder) == len(message)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        assert socket.inet_pton(family, address) in message
