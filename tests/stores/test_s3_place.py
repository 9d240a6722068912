"""The contract on a real S3 server, and what only S3 has."""

import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import obstore
import pytest

from runyard.stores import PlaceStore, StoreError, open_place
from runyard.stores.s3_requests import S3Requests
from runyard.stores.sigv4 import sign
from runyard.wire.orders import Place, Secret
from tests.stores.place_contract import LARGE, PlaceContract, filled
from tests.stores.tls import make_authority, tls_front
from tests.support.seaweedfs import S3Server, create_bucket, open_bucket

pytestmark = pytest.mark.s3


def place_at(server: S3Server, bucket: str, prefix: str = "", secret: str | None = None) -> Place:
    keys = Secret(server.access_key_id, secret or server.secret_access_key)
    return Place("s3", bucket, prefix, endpoint_url=server.endpoint_url, secret=keys)


@pytest.fixture
def bucket_name(s3_server: S3Server) -> str:
    name = f"stores-{uuid4().hex[:12]}"
    create_bucket(s3_server, name)
    return name


class TestS3Place(PlaceContract):
    @pytest.fixture
    def place(self, s3_server: S3Server, bucket_name: str) -> PlaceStore:
        return open_place(place_at(s3_server, bucket_name, "pre/fix/"))

    @pytest.fixture
    def bucket(self, s3_server: S3Server, bucket_name: str) -> PlaceStore:
        return open_place(place_at(s3_server, bucket_name))

    @pytest.fixture
    def nowhere(self, s3_server: S3Server) -> PlaceStore:
        return open_place(place_at(s3_server, "nowhere"))


def failing(place: PlaceStore, tmp_path: Path) -> list[StoreError]:
    """What a place says to everything that one can ask of it."""
    (tmp_path / "source").write_bytes(b"x" * 100)
    asked = (
        place.list,
        lambda: place.get_bytes("k"),
        lambda: place.size_of("k"),
        lambda: place.fetch("k", tmp_path / "t", size=1),
        lambda: place.put_bytes("k", b"x"),
        lambda: place.put_file("k", tmp_path / "source", 100),
        lambda: place.delete(["k"]),
    )
    errors: list[StoreError] = []
    for ask in asked:
        with pytest.raises(StoreError) as caught:
            ask()
        errors.append(caught.value)
    return errors


def test_a_wrong_key_is_denied_at_once_and_never_repeated(
    s3_server: S3Server, bucket_name: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    errors = failing(open_place(place_at(s3_server, bucket_name, secret="wrong-and-secret")), tmp_path)
    assert time.monotonic() - began < 20  # what is repeated is repeated for 30 s
    assert {error.kind for error in errors} == {"denied"}
    text = "".join(repr(error) + str(error) for error in errors)
    assert "wrong-and-secret" not in text
    assert s3_server.access_key_id not in text
    assert "check both keys" in errors[0].message


def test_without_keys_one_comes_as_nobody(s3_server: S3Server, bucket_name: str, tmp_path: Path) -> None:
    nobody = open_place(Place("s3", bucket_name, endpoint_url=s3_server.endpoint_url))
    assert {error.kind for error in failing(nobody, tmp_path)} == {"denied"}


def test_a_store_that_is_not_there_is_unreachable_within_seconds(tmp_path: Path) -> None:
    secret = Secret("k", "very-secret")
    for url, cause in (("http://127.0.0.1:9", "refused"), ("http://no-such-host.invalid", "name cannot be resolved")):
        began = time.monotonic()
        with pytest.raises(StoreError, match=cause) as caught:
            open_place(Place("s3", "b", endpoint_url=url, secret=secret)).put_bytes("k", b"")
        assert caught.value.kind == "unreachable"
        assert not caught.value.definite
        with pytest.raises(StoreError, match=cause):
            open_place(Place("s3", "b", endpoint_url=url, secret=secret)).list()
        assert time.monotonic() - began < 30


@dataclass(frozen=True)
class Overwriting:
    """Writes an object anew when it hears of the first bytes."""

    place: PlaceStore
    content: bytes
    done: list[int]

    def __call__(self, count: int) -> None:
        if not self.done:
            self.done.append(count)
            open_path = Path(f"/proc/self/fd/{os.memfd_create('content')}")
            open_path.write_bytes(self.content)
            self.place.put_file("k", open_path, len(self.content))


def test_an_object_that_changes_between_two_ranges_is_not_mixed(
    s3_server: S3Server, bucket_name: str, tmp_path: Path
) -> None:
    place = open_place(place_at(s3_server, bucket_name))
    content = filled(tmp_path / "source", LARGE)
    place.put_file("k", tmp_path / "source", LARGE)
    with pytest.raises(StoreError) as caught:
        place.fetch("k", tmp_path / "target", size=LARGE, on_bytes=Overwriting(place, content[::-1], []))
    assert caught.value.kind == "changed"


def test_the_environment_is_not_mixed_in(
    s3_server: S3Server, bucket_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "another",
        "AWS_SECRET_ACCESS_KEY": "another",
        "AWS_SESSION_TOKEN": "another",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    place = open_place(place_at(s3_server, bucket_name))
    place.put_bytes("k", b"mine")
    assert place.get_bytes("k") == b"mine"
    assert [item.key for item in place.list()] == ["k"]
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "false")
    with pytest.raises(StoreError) as caught:
        open_place(Place("s3", bucket_name, endpoint_url=s3_server.endpoint_url)).get_bytes("k")
    assert caught.value.kind == "denied"


def test_a_private_authority_is_trusted_when_it_is_named(
    s3_server: S3Server, bucket_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority(tmp_path)
    keys = Secret(s3_server.access_key_id, s3_server.secret_access_key)
    with tls_front(authority, int(s3_server.endpoint_url.rpartition(":")[2])) as url:
        place = Place("s3", bucket_name, endpoint_url=url, secret=keys)
        for ask in (lambda: open_place(place).put_bytes("k", b"x"), lambda: open_place(place).list()):
            with pytest.raises(StoreError, match="TLS certificate is not trusted") as caught:
                ask()
            assert caught.value.kind == "unreachable"
        named = open_place(place, ca_bundle=authority.ca)
        named.put_bytes("k", b"over TLS")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        by_environment = open_place(place)
        assert named.get_bytes("k") == by_environment.get_bytes("k") == b"over TLS"
        assert len(named.list()) == len(by_environment.list()) == 1


def test_a_plain_server_does_not_pass_for_a_secured_one(s3_server: S3Server, bucket_name: str) -> None:
    keys = Secret(s3_server.access_key_id, s3_server.secret_access_key)
    url = s3_server.endpoint_url.replace("http:", "https:")
    with pytest.raises(StoreError) as caught:
        open_place(Place("s3", bucket_name, endpoint_url=url, secret=keys)).list()
    assert (caught.value.kind, "does not speak TLS" in caught.value.message) == ("unreachable", True)


def test_markers_of_folders_are_no_objects(s3_server: S3Server, bucket_name: str) -> None:
    requests = S3Requests(place_at(s3_server, bucket_name))
    requests.put("data/", b"")
    requests.put("data/empty/", b"")
    obstore.put(open_bucket(s3_server, bucket_name), "data/file", b"1")
    place = open_place(place_at(s3_server, bucket_name))
    odd: list[str] = []
    assert [item.key for item in place.list(left_out=odd.append)] == ["data/file"]
    assert odd == []
    assert [item.key for item in requests.list_all("")] == ["data/", "data/empty/", "data/file"]


def unfinished_uploads(server: S3Server, bucket: str) -> int:
    """Uploads in parts that were begun and neither completed nor given up."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    host = server.endpoint_url.removeprefix("http://")
    keys = Secret(server.access_key_id, server.secret_access_key)
    query = {"uploads": ""}
    headers = sign("GET", host, f"/{bucket}", query, {}, b"", secret=keys, region="us-east-1", amz_date=date)
    request = urllib.request.Request(f"{server.endpoint_url}/{bucket}?uploads=", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        document = answer.read().decode()
    assert "<ListMultipartUploadsResult" in document
    return document.count("<Upload>")


def test_an_upload_that_fails_leaves_no_parts_behind(s3_server: S3Server, bucket_name: str, tmp_path: Path) -> None:
    place = open_place(place_at(s3_server, bucket_name))
    filled(tmp_path / "cut", 20 << 20)
    with pytest.raises(StoreError):
        place.put_file("k", tmp_path / "cut", 30 << 20)
    assert unfinished_uploads(s3_server, bucket_name) == 0
    with pytest.raises(StoreError):
        place.get_bytes("k")


MEMORY_PROBE = """
import os, resource, sys
from runyard.stores import open_place
from runyard.wire.orders import Place, Secret
url, bucket, key, secret, folder = sys.argv[1:]
place = open_place(Place("s3", bucket, endpoint_url=url, secret=Secret(key, secret)))
place.put_bytes("warm", b"x"); place.get_bytes("warm"); place.list()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = 256 << 20
with open(folder + "/sparse", "wb") as file: file.truncate(size)
place.put_file("sparse", folder + "/sparse", size)
place.fetch("sparse", folder + "/back", size=size)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_stays_bounded_whatever_the_size(s3_server: S3Server, bucket_name: str, tmp_path: Path) -> None:
    arguments = (s3_server.endpoint_url, bucket_name, s3_server.access_key_id, s3_server.secret_access_key)
    probe = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE, *arguments, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert int(probe.stdout) < 128  # MiB, for 256 MiB each way
    assert os.path.getsize(tmp_path / "back") == 256 << 20
