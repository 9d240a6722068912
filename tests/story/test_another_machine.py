"""A node in another mount and network namespace, with no folder that the server sees, does the same by HTTP alone."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.installation import RUNYARD, alive, manifest, write_code
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.story,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs the command `ip` (Debian: iproute2)"),
]
SERVER, NODE, PORT = "10.231.0.1", "10.231.0.2", 18642
OWNER_TOKEN, NODE_TOKEN = "ryd_owner-of-two-machines", "ryd_node-of-two-machines"
RUNS = 12
PROGRAM = """\
import os, time
text = open(os.path.join(os.environ["DATA_DIR"], "words.txt")).read()
for number in range(30):
    os.write(1, f"{number} {text}\\n".encode())
    time.sleep(0.1)
os.makedirs(os.environ["RESULT_DIR"] + "/model", exist_ok=True)
open(os.environ["RESULT_DIR"] + "/model/words.txt", "w").write(text.upper())
"""


@dataclass
class Machine:
    """One host: a network namespace, and a process in it that does not see the other's folder."""

    namespace: str
    hidden: Path
    argv: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        hide = f'mount -t tmpfs none "{self.hidden}" && exec "$@"'
        argv = [*inside(self.namespace), "unshare", "--mount", "sh", "-c", hide, "sh", *self.argv]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class TwoMachines:
    """A server on one host, a node on another, a user beside the server."""

    server: Machine
    node: Machine
    folder: Path

    def cli(self, *arguments: str, check: int = 0) -> str:
        env = {**os.environ, "RUNYARD_URL": f"http://{SERVER}:{PORT}", "RUNYARD_TOKEN": OWNER_TOKEN}
        done = subprocess.run(
            [*inside(self.server.namespace), str(RUNYARD), *arguments],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == check, done.stdout + done.stderr
        return done.stdout

    def joined(self) -> bool:
        env = {**os.environ, "RUNYARD_URL": f"http://{SERVER}:{PORT}", "RUNYARD_TOKEN": OWNER_TOKEN}
        argv = [*inside(self.server.namespace), str(RUNYARD), "status", "--json"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode == 0 and '"connected": true' in done.stdout


def inside(namespace: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{namespace}"]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


@pytest.fixture
def wire() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them."""
    names = (f"ryd-s{os.getpid()}", f"ryd-n{os.getpid()}")
    links = (f"rs{os.getpid()}", f"rn{os.getpid()}")
    for name in names:
        ip("netns", "add", name)
    try:
        ip("link", "add", links[0], "netns", names[0], "type", "veth", "peer", "name", links[1], "netns", names[1])
        for name, link, address in zip(names, links, (SERVER, NODE), strict=True):
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
        yield names
    finally:
        for name in names:
            ip("netns", "delete", name)


@pytest.fixture
def machines(wire: tuple[str, str], tmp_path: Path) -> Iterator[TwoMachines]:
    server_home, node_home, folder = tmp_path / "server-machine", tmp_path / "node-machine", tmp_path / "user"
    for each in (server_home, node_home, folder):
        each.mkdir(mode=0o700)
    (node_home / "token").write_text(NODE_TOKEN)
    (node_home / "token").chmod(0o600)
    digests = [hashlib.sha256(token.encode()).hexdigest() for token in (OWNER_TOKEN, NODE_TOKEN)]
    server_argv = [sys.executable, "-m", "runyard.server", "--home", str(server_home), "--host", SERVER]
    server_argv += ["--port", str(PORT), "--owner-digest", digests[0], "--node-digest", digests[1]]
    node_argv = [sys.executable, "-m", "runyard.node", "--home", str(node_home), "--server", f"http://{SERVER}:{PORT}"]
    node_argv += ["--name", "far", "--token-file", str(node_home / "token"), "--fake-gpus", "4"]
    server = Machine(wire[0], node_home, server_argv, tmp_path / "server.log")
    node = Machine(wire[1], server_home, node_argv, tmp_path / "node.log")
    server.start()
    node.start()
    try:
        yield TwoMachines(server, node, folder)
    finally:
        node.kill()
        server.kill()


def test_a_node_elsewhere_does_the_same(machines: TwoMachines) -> None:
    wait_until(machines.joined, "the node", 60, 0.2)
    (machines.folder / "words.txt").write_text("far away")
    machines.cli("data", "push", "words.txt", "words")
    write_code(machines.folder / "code", {"train.py": PROGRAM})
    (machines.folder / "m.yml").write_text(manifest("exec python3 train.py", data="words"))
    values = ",".join(str(index) for index in range(RUNS))
    ids = machines.cli("train", "code", "m.yml", "--set", f"n={values}", "--force").split()
    assert len(ids) == RUNS
    wait_until(lambda: all(alive(each) for each in ids[:4]), "the first four", 60, 0.1)
    machines.node.kill()
    machines.node.start()
    wait_until(machines.joined, "the node again", 60, 0.2)
    machines.server.kill()
    machines.server.start()
    wait_until(machines.joined, "both again", 60, 0.2)
    machines.cli("wait", *ids)
    expected = "".join(f"{number} far away\n" for number in range(30))
    for each in ids:
        assert machines.cli("logs", each) == expected
        assert '"number": 2' not in machines.cli("show", each, "--json")
    machines.cli("download", ids[-1], "--to", "out")
    assert (machines.folder / "out" / ids[-1] / "model" / "words.txt").read_text() == "FAR AWAY"
    assert (machines.folder / "out" / ids[-1] / "learner-1" / "training-log.txt").read_text() == expected
