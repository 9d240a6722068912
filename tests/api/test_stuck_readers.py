"""A reader who has stopped reading, or whose machine is gone, is let go after a while, with all that is held for it."""

import http.client
import os
import socket
import subprocess
import sys
from pathlib import Path

from runyard.up import tokens
from tests.support.waiting import wait_until


def test_who_takes_nothing_is_let_go(tmp_path: Path) -> None:
    owner = tokens.ensure(tmp_path / "token")
    token = (tmp_path / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        address = listening.getsockname()
        argv = [sys.executable, "-m", "runyard.server", "--home", str(tmp_path), "--fd", str(listening.fileno())]
        argv += ["--owner-digest", owner.digest, "--owner-hint", owner.hint, "--patience", "1.5"]
        argv += ["--node-digest", "0" * 64, "--node-hint", "ryd_none"]
        server = subprocess.Popen(argv, pass_fds=(listening.fileno(),))
    try:
        asking = http.client.HTTPConnection(*address, timeout=60)
        asking.request("PUT", "/api/v1/data/bucket/large", bytes(16 << 20), headers)
        assert asking.getresponse().read()
        asking.close()
        descriptors = Path(f"/proc/{server.pid}/fd")
        wait_until(lambda: not connections(descriptors), "no connection")
        stuck = [reader(address, token) for _ in range(5)]
        assert len(connections(descriptors)) == 5
        assert len(opened(descriptors, "large")) == 5
        wait_until(lambda: not connections(descriptors) and not opened(descriptors, "large"), "all are let go", 30)
        for each in stuck:
            each.close()
    finally:
        server.terminate()
        server.wait(20)


def reader(address: tuple[str, int], token: str) -> socket.socket:
    """One that asks for an object and takes only the beginning of the answer."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(address)
    made.settimeout(20)
    made.sendall(f"GET /api/v1/data/bucket/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    assert made.recv(12) == b"HTTP/1.1 200"
    return made


def opened(descriptors: Path, name: str) -> list[str]:
    """The open files of a process whose path holds a name."""
    found: list[str] = []
    for each in descriptors.iterdir():
        try:
            target = os.readlink(each)
        except FileNotFoundError:
            continue
        if name in target:
            found.append(target)
    return found


def connections(descriptors: Path) -> list[str]:
    """The established TCP connections of a process, by the inodes that the kernel's table (proc(5)) tells."""
    rows = [line.split() for line in (descriptors.parent / "net" / "tcp").read_text().splitlines()[1:]]
    established = {f"socket:[{row[9]}]" for row in rows if row[3] == "01"}
    return [target for target in opened(descriptors, "socket:") if target in established]
