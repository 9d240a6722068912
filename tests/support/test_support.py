"""What other tests lean on is real: the S3 server keeps what it is given and lets nobody in with a wrong key."""

import obstore
import pytest
from obstore.exceptions import NotFoundError, PermissionDeniedError

from tests.support.ports import free_ports, is_free
from tests.support.seaweedfs import S3Server, create_bucket, open_bucket
from tests.support.waiting import wait_until


@pytest.mark.s3
def test_the_s3_server_keeps_returns_and_refuses(s3_server: S3Server) -> None:
    store = create_bucket(s3_server, "support-probe")
    obstore.put(store, "a/b", b"kept")
    assert bytes(obstore.get(store, "a/b").bytes()) == b"kept"
    with pytest.raises((FileNotFoundError, NotFoundError)):
        obstore.get(store, "a/c")
    with pytest.raises((PermissionError, PermissionDeniedError)):
        obstore.get(open_bucket(s3_server, "support-probe", "wrong-secret"), "a/b")


def test_the_secret_is_not_shown(s3_server: S3Server) -> None:
    assert s3_server.secret_access_key not in repr(s3_server)


def test_free_ports_are_distinct_and_so_are_their_twins() -> None:
    ports = free_ports(4, twin_offset=10_000)
    assert len(set(ports)) == 4
    assert all(is_free(port) and is_free(port + 10_000) for port in ports)


def test_waiting_ends_with_a_sentence() -> None:
    with pytest.raises(TimeoutError, match="the moon"):
        wait_until(lambda: False, "the moon", seconds=0.05)
