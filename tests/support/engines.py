"""Real container engines with folders of their own, a small image made of this machine's files, and a real registry.

Podman, Docker and the registry are Debian's packages. They are installed where they are not there (root and apt, half a
minute for all); where that cannot be done, the tests that need them are skipped and say so.
"""

import atexit
import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support.ports import free_ports
from tests.support.waiting import wait_until

PACKAGES = {
    "podman": ("podman", "runc"),
    "dockerd": ("docker.io",),
    "docker-registry": ("docker-registry",),
    "busybox": ("busybox-static",),
}
"""What has a command, by its name."""
SYSTEM = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
IMAGE = "localhost/tiny:1"
CREDENTIALS = "ada:open-sesame-7"
HTPASSWD = "ada:$2b$04$K652ooByJTkyaG6WtX.73eua3wYJjfORuXz8fmUeUA4ftxH.P36mW\n"
"""The same for a registry, which takes bcrypt alone."""
COMMANDS = (
    "sh",
    "ls",
    "cat",
    "sleep",
    "id",
    "env",
    "mount",
    "dd",
    "head",
    "tail",
    "kill",
    "mkdir",
    "touch",
    "wc",
    "seq",
)


@cache
def command(name: str) -> str:
    """The path of a command, its package installed where it is not there. Skips the test where it cannot be had."""
    found = shutil.which(name, path=SYSTEM)
    if found is None:
        found = _install(name)
    if found is None:
        pytest.skip(f"there is no {name} on this machine, and it cannot be installed (root and apt-get are needed)")
    return found


def _install(name: str) -> str | None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return None
    with open(Path(tempfile.gettempdir()) / "runyard-tests-apt.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES[name]]
        # A daemon that the package would start is none of ours.
        kept = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for before in ((), ("apt-get", "update", "-q")):
            if before:
                subprocess.run(before, capture_output=True, check=False)
            if subprocess.run(words, env=kept, capture_output=True, check=False).returncode == 0:
                break
    return shutil.which(name, path=SYSTEM)


@dataclass(frozen=True, slots=True)
class RealEngine:
    """An engine that answers. ``env``: what leads its client there, for the node, too."""

    kind: str
    path: str
    env: Mapping[str, str]
    folder: Path

    def run(self, *words: str, check: bool = True, text: bytes = b"") -> str:
        """What the client says when it does something."""
        env = {**os.environ, **self.env}
        done = subprocess.run([self.path, *words], env=env, input=text, capture_output=True, check=False)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def boxes(self) -> list[str]:
        """The names of all containers that there are."""
        return self.run("ps", "--all", "--format", "{{.Names}}").split()

    def images(self) -> list[str]:
        """The names of all images that there are."""
        return self.run("images", "--format", "{{.Repository}}:{{.Tag}}").split()


@contextlib.contextmanager
def running_engine(kind: str) -> Iterator[RealEngine]:
    """An engine with the small image (:data:`IMAGE`), gone at the end with all that it has."""
    folder = Path(tempfile.mkdtemp(prefix=f"runyard-{kind}-", dir="/var/tmp"))
    world = _podman if kind == "podman" else _docker
    try:
        with world(folder) as engine:
            engine.run("import", str(tiny_image()), IMAGE)
            yield engine
            boxes = engine.boxes()
            if boxes:
                engine.run("rm", "--force", *boxes)
    finally:
        _unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _unmount(folder: Path) -> None:
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split()[4] for line in file]
    for path in reversed(mounts):
        if path.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", path], check=False)


@contextlib.contextmanager
def _podman(folder: Path) -> Iterator[RealEngine]:
    path = command("podman")
    confs = {
        "CONTAINERS_CONF": '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n',
        "CONTAINERS_STORAGE_CONF": f'[storage]\ndriver="overlay"\ngraphroot="{folder}/root"\nrunroot="{folder}/run"\n',
        "CONTAINERS_REGISTRIES_CONF": '[[registry]]\nlocation="127.0.0.1"\ninsecure=true\n',
    }
    env: dict[str, str] = {}
    for name, text in confs.items():
        (folder / name).write_text(text)
        env[name] = str(folder / name)
    policy = Path("/etc/containers/policy.json")
    assert policy.exists(), "Debian's package brings it"
    yield RealEngine("podman", path, env, folder)


@contextlib.contextmanager
def _docker(folder: Path) -> Iterator[RealEngine]:
    daemon = command("dockerd")
    socket = folder / "docker.sock"
    words = [daemon, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "-H", f"unix://{socket}"]
    words += ["-p", f"{folder}/pid", "--iptables=false", "--ip6tables=false", "--bridge=none"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    answers = ("info", "--format", "{{.ServerVersion}}")
    engine = RealEngine("docker", "/usr/bin/docker", {"DOCKER_HOST": f"unix://{socket}"}, folder)
    try:
        wait_until(lambda: bool(engine.run(*answers, check=False).strip()), "dockerd", 30)
        yield engine
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@cache
def tiny_image() -> Path:
    """A tar of a root file system: bash, BusyBox's commands and a Python with its standard library."""
    folder = Path(tempfile.mkdtemp(prefix="runyard-rootfs-", dir="/var/tmp"))
    busybox, root = command("busybox"), folder / "root"
    (root / "bin").mkdir(parents=True)
    for name in ("tmp", "var/tmp", "etc", "proc", "dev", "sys", "usr/lib"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "var/tmp").chmod(0o1777)
    _copy(Path(busybox), root / "bin/busybox")
    for name in COMMANDS:
        (root / "bin" / name).symlink_to("busybox")
    for path, name in ((Path("/bin/bash"), "bash"), (Path("/usr/bin/python3").resolve(), "python3")):
        _copy(path, root / "bin" / name)
        for library in _libraries(path):
            _copy(library, root / str(library).lstrip("/"))
    standard = Path("/usr/lib") / Path("/usr/bin/python3").resolve().name
    for entry in standard.iterdir():
        if entry.suffix == ".py":
            _copy(entry, root / str(entry).lstrip("/"))
    for name in ("collections", "encodings", "importlib", "json", "re", "lib-dynload"):
        shutil.copytree(standard / name, root / str(standard).lstrip("/") / name, symlinks=True)
    target = folder / "tiny.tar"
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tarfile.open(target, "w") as archive:
        archive.add(root, ".")
    shutil.rmtree(root)
    return target


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _libraries(program: Path) -> list[Path]:
    """What a program is linked with (ldd(1))."""
    told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    return [Path(word) for line in told.splitlines() for word in line.split() if word.startswith("/")]


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry on the loopback. ``credentials``: who may read and write, USER:PASSWORD; empty: everybody."""

    address: str
    credentials: str


@contextlib.contextmanager
def running_registry(folder: Path, *, closed: bool = False) -> Iterator[Registry]:
    """Debian's registry, with its files in a folder. ``closed``: it asks for :data:`CREDENTIALS`."""
    daemon = command("docker-registry")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    settings: dict[str, object] = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": address},
        "log": {"level": "warn"},
    }
    if closed:
        (folder / "htpasswd").write_text(HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "registry.yml").write_text(json.dumps(settings))  # JSON is YAML
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([daemon, "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(address), "the registry", 20)
        yield Registry(address, CREDENTIALS if closed else "")
    finally:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except OSError:
        return False
    finally:
        connection.close()


def push(engine: RealEngine, registry: Registry, name: str, source: str = IMAGE) -> str:
    """Put an image into a registry under a name, and take that name off the machine. Returns the whole name."""
    target = f"{registry.address}/{name}"
    engine.run("tag", source, target)
    words: Sequence[str] = ("push", target)
    if registry.credentials:
        user, _, password = registry.credentials.partition(":")
        engine.run("login", "--username", user, "--password-stdin", registry.address, text=password.encode())
    engine.run(*words)
    engine.run("rmi", target)
    if registry.credentials:
        engine.run("logout", registry.address)
    return target
