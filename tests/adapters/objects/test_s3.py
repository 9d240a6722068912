"""The contract of object stores on a real S3 server, and the verdicts on those that do not let us in."""

import socket
import time
from pathlib import Path
from uuid import uuid4

import obstore
import pytest

from runyard.adapters.objects import FolderStore, Stores
from runyard.adapters.objects.s3 import PROBE
from runyard.core.errors import StoreUnavailable
from runyard.core.spec import Connection, Credentials, Location, StoreKind
from runyard.ports.objects import Checked, Verdict
from runyard.stores.s3_requests import S3Requests
from runyard.testing.objects_contract import ACCOUNT, CHECK_S, ObjectsCase, ObjectStoresContract
from runyard.wire.orders import Place, Secret
from tests.stores.serving import Handler, answering
from tests.support.seaweedfs import S3Server, create_bucket, open_bucket

pytestmark = pytest.mark.s3


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(FolderStore(tmp_path / "store"))


def location_at(server: S3Server, bucket: str, prefix: str = "") -> Location:
    return Location(StoreKind.s3, Connection(endpoint_url=server.endpoint_url), bucket, prefix)


def keys_of(server: S3Server, secret: str | None = None) -> Credentials:
    return Credentials(server.access_key_id, secret or server.secret_access_key)


class TestS3Objects(ObjectStoresContract):
    @pytest.fixture
    def case(self, s3_server: S3Server, stores: Stores) -> ObjectsCase:
        bucket = f"objects-{uuid4().hex[:12]}"
        opened = {bucket: create_bucket(s3_server, bucket)}

        def put(name: str, key: str, content: bytes) -> None:
            obstore.put(opened[name], key, content)

        return ObjectsCase(
            stores,
            lambda name, prefix: location_at(s3_server, name, prefix),
            put,
            keys_of(s3_server),
            bucket,
            f"missing-{uuid4().hex[:12]}",
        )

    def test_markers_and_odd_keys_are_deleted_too(self, case: ObjectsCase, s3_server: S3Server) -> None:
        keys = Secret(s3_server.access_key_id, s3_server.secret_access_key)
        requests = S3Requests(Place("s3", case.bucket, endpoint_url=s3_server.endpoint_url, secret=keys))
        for key in ("run/", "run/empty/", "run/ta\tb", "run/plain"):
            requests.put(key, b"")
        listing = case.list(case.bucket)
        assert [entry.key for entry in listing.entries] == ["run/plain"]
        assert listing.checked.verdict is Verdict.ok
        assert "1 object is left out" in listing.checked.message
        assert r"'run/ta\tb'" in listing.checked.message
        assert case.delete(case.bucket, "", "run/") == 4
        assert list(requests.list_all("")) == []


def test_wrong_keys_are_denied_and_never_repeated(s3_server: S3Server, stores: Stores) -> None:
    bucket = f"objects-{uuid4().hex[:12]}"
    create_bucket(s3_server, bucket)
    location, wrong = location_at(s3_server, bucket), keys_of(s3_server, "wrong-and-secret")
    checks = [stores.check(location, wrong, write=write, account_id=ACCOUNT) for write in (False, True)]
    checks.append(stores.list(location, wrong, account_id=ACCOUNT).checked)
    checks.append(stores.check(location, None, write=False, account_id=ACCOUNT))
    for checked in checks:
        assert checked.verdict is Verdict.denied
        assert "wrong-and-secret" not in checked.message
    for ask in (
        lambda: stores.read(location, wrong, "k", account_id=ACCOUNT),
        lambda: stores.delete_prefix(location, wrong, "k/", account_id=ACCOUNT),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            ask()
        assert caught.value.code == "store_denied"
        assert "wrong-and-secret" not in caught.value.message


def test_a_server_that_never_answers_is_unreachable_in_five_seconds(stores: Stores) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=8) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        location = Location(StoreKind.s3, Connection(endpoint_url=url), "bucket")
        for write in (False, True):
            began = time.monotonic()
            checked = stores.check(location, Credentials("k", "hush"), write=write, account_id=ACCOUNT)
            assert time.monotonic() - began < CHECK_S + 10
            assert checked.verdict is Verdict.unreachable
            assert "in time" in checked.message


def test_a_server_that_answers_byte_by_byte_is_given_up(stores: Stores) -> None:
    def drip(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        for _ in range(80):
            request.wfile.write(b" ")
            time.sleep(0.5)  # slower than the whole check may last, faster than any one read may

    with answering(drip) as server:
        location = Location(StoreKind.s3, Connection(endpoint_url=server.url), "bucket")
        began = time.monotonic()
        checked = stores.check(location, None, write=False, account_id=ACCOUNT)
        assert time.monotonic() - began < CHECK_S + 10
        assert checked.verdict is Verdict.unreachable
        assert "within 5 seconds" in checked.message


@pytest.mark.parametrize(
    ("url", "verdict", "sentence"),
    [
        ("http://127.0.0.1:9", Verdict.unreachable, "refused"),
        ("https://no-such-host.invalid", Verdict.unreachable, "name cannot be resolved"),
        ("no address", Verdict.denied, "not an address"),
    ],
)
def test_a_wrong_address_is_said_to_be_one(stores: Stores, url: str, verdict: Verdict, sentence: str) -> None:
    location = Location(StoreKind.s3, Connection(endpoint_url=url), "bucket")
    checked = stores.check(location, Credentials("k", "s"), write=True, account_id=ACCOUNT)
    assert checked.verdict is verdict
    assert sentence in checked.message


def test_who_may_only_write_need_not_list(stores: Stores) -> None:
    def write_only(request: Handler) -> None:
        if request.command in ("PUT", "DELETE"):
            request.answer(200)
        else:
            request.answer(403, b"<Error><Code>AccessDenied</Code></Error>")

    with answering(write_only) as server:
        location = Location(StoreKind.s3, Connection(endpoint_url=server.url), "bucket", "pre")
        checked = stores.check(location, Credentials("k", "s"), write=True, account_id=ACCOUNT)
        assert checked == Checked(Verdict.ok)
        assert server.seen[1:] == [f"PUT /bucket/pre/{PROBE}", f"DELETE /bucket/pre/{PROBE}"]
        assert stores.check(location, None, write=False, account_id=ACCOUNT).verdict is Verdict.denied


def test_who_may_not_delete_is_told_what_stays_behind(stores: Stores) -> None:
    def no_delete(request: Handler) -> None:
        listing = b"<ListBucketResult></ListBucketResult>"
        request.answer(403 if request.command == "DELETE" else 200, listing if request.command == "GET" else b"")

    with answering(no_delete) as server:
        location = Location(StoreKind.s3, Connection(endpoint_url=server.url), "bucket")
        checked = stores.check(location, Credentials("k", "s"), write=True, account_id=ACCOUNT)
        assert checked.verdict is Verdict.ok
        assert PROBE in checked.message


def test_who_may_list_but_not_read_is_denied(stores: Stores) -> None:
    def list_only(request: Handler) -> None:
        entry = b"<Contents><Key>k</Key><Size>1</Size></Contents>"
        listing = b"<ListBucketResult>" + entry + b"</ListBucketResult>"
        request.answer(200 if request.command == "GET" else 403, listing)

    with answering(list_only) as server:
        location = Location(StoreKind.s3, Connection(endpoint_url=server.url), "bucket")
        checked = stores.check(location, Credentials("k", "s"), write=False, account_id=ACCOUNT)
        assert checked.verdict is Verdict.denied
        assert "'k'" in checked.message


def test_a_real_probe_is_gone_afterwards(s3_server: S3Server, stores: Stores) -> None:
    bucket = f"objects-{uuid4().hex[:12]}"
    create_bucket(s3_server, bucket)
    location = location_at(s3_server, bucket, "pre")
    assert stores.check(location, keys_of(s3_server), write=True, account_id=ACCOUNT) == Checked(Verdict.ok)
    assert obstore.list(open_bucket(s3_server, bucket)).collect() == []
