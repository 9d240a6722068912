"""What comes back from servers that refuse, stumble or list oddities."""

from pathlib import Path

import pytest

from runyard.stores import StoreError, open_place
from runyard.stores.errors import StoreFault
from runyard.stores.faults import Asked, of_obstore, of_os_error, of_status
from runyard.stores.s3_requests import parse_page
from runyard.wire.orders import Item, Place, Secret
from tests.stores.serving import Answering, Handler, answering

ASKED = Asked("http://store", "bucket", "some/key")


def listing(*keys: str, more: str = "") -> bytes:
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>3</Size><ETag>&quot;e&quot;</ETag><Owner><ID>7</ID></Owner></Contents>"
        for key in keys
    )
    token = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<?xml version="1.0"?><ListBucketResult xmlns="{namespace}">{contents}{token}</ListBucketResult>'.encode()


def refusal(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>token AbC is bad</Message></Error>".encode()


def place(server: Answering) -> Place:
    return Place("s3", "bucket", "pre", endpoint_url=server.url, secret=Secret("key-id", "secret"))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "SignatureDoesNotMatch", "denied"),
        (403, "InvalidAccessKeyId", "denied"),
        (403, "AccessDenied", "denied"),
        (403, "RequestTimeTooSkewed", "denied"),
        (400, "ExpiredToken", "denied"),
        (400, "InvalidToken", "denied"),
        (401, "", "denied"),
        (403, "", "denied"),
        (404, "NoSuchBucket", "not_found"),
        (404, "NoSuchKey", "not_found"),
        (404, "", "not_found"),
        (412, "PreconditionFailed", "changed"),
        (416, "InvalidRange", "changed"),
        (301, "PermanentRedirect", "invalid"),
        (400, "AuthorizationHeaderMalformed", "invalid"),
        (400, "EntityTooLarge", "invalid"),
        (429, "", "unreachable"),
        (503, "SlowDown", "unreachable"),
        (500, "InternalError", "unreachable"),
        (400, "RequestTimeout", "unreachable"),
    ],
)
def test_every_refusal_is_one_of_five_things(status: int, code: str, kind: StoreFault) -> None:
    error = of_status(status, code, ASKED)
    assert error.kind == kind
    assert error.message[0].isupper()
    assert error.message.endswith(".")
    text = f"... - Server returned non-2xx status code: {status} Word: {refusal(code).decode() if code else ''}"
    assert of_obstore(FileNotFoundError(text), ASKED).kind == kind


def test_what_is_missing_is_named() -> None:
    assert "bucket 'bucket'" in of_status(404, "NoSuchBucket", ASKED).message
    assert "object 'some/key'" in of_status(404, "NoSuchKey", ASKED).message
    assert "no bucket 'bucket'" in of_status(404, "", Asked("http://store", "bucket")).message


def test_a_broken_connection_is_unreachable() -> None:
    for error in (ConnectionResetError(104, "Connection reset by peer"), TimeoutError("timed out"), OSError("odd")):
        assert of_os_error(error, ASKED).kind == "unreachable"


def test_one_odd_key_does_not_hide_the_others() -> None:
    with answering(
        lambda r: r.answer(200, listing("pre/ok", "pre/a//b", "pre/../up", "pre/dir/", "pre/b\\c"))
    ) as server:
        odd: list[str] = []
        assert open_place(place(server)).list(left_out=odd.append) == [Item("ok", 3, '"e"')]
        # A marker of a folder holds nothing; this one does.
        assert odd == ["pre/a//b", "pre/../up", "pre/dir/", "pre/b\\c"]


def test_pages_are_followed_by_their_token() -> None:
    def answer(request: Handler) -> None:
        last = "continuation-token=to%2Bken" in request.path
        request.answer(200, listing("pre/b") if last else listing("pre/a", more="to+ken"))

    with answering(answer) as server:
        assert [item.key for item in open_place(place(server)).list()] == ["a", "b"]
        assert len(server.seen) == 2
        assert "prefix=pre%2F" in server.seen[0]


def test_encoded_keys_are_decoded_only_when_they_are_said_to_be() -> None:
    document = listing("a%20b+c%2Bd")
    assert [item.key for item in parse_page(document, ASKED).items] == ["a%20b+c%2Bd"]
    encoded = document.replace(b"</ListBucketResult>", b"<EncodingType>url</EncodingType></ListBucketResult>")
    assert [item.key for item in parse_page(encoded, ASKED).items] == ["a b c+d"]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>a login page</html>",
        b"not xml",
        b"<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<!DOCTYPE x [<!ENTITY e 'eeee'>]><ListBucketResult><Contents><Key>&e;</Key></Contents></ListBucketResult>",
    ],
)
def test_what_is_no_listing_is_not_taken_for_an_empty_one(document: bytes) -> None:
    with pytest.raises(StoreError, match="not an S3 store") as caught:
        parse_page(document, ASKED)
    assert caught.value.kind == "unreachable"


def test_a_stumbling_server_is_asked_again_and_a_refusing_one_is_not() -> None:
    def stumble(request: Handler) -> None:
        good = len(request.server.seen) > 2
        request.answer(200 if good else 503, listing("pre/k") if good else refusal("SlowDown"))

    with answering(stumble) as server:
        assert len(open_place(place(server)).list()) == 1
        assert len(server.seen) == 3

    with answering(lambda r: r.answer(403, refusal("AccessDenied"))) as server:
        for ask in (
            lambda: open_place(place(server)).list(),
            lambda: open_place(place(server)).get_bytes("k"),
            lambda: open_place(place(server)).put_bytes("k", b""),
        ):
            with pytest.raises(StoreError) as caught:
                ask()
            assert caught.value.kind == "denied"
            assert "AbC" not in caught.value.message
        assert len(server.seen) == 3


def test_a_refusal_of_a_put_names_the_bucket() -> None:
    def refuse(request: Handler) -> None:
        request.rfile.read(int(request.headers["Content-Length"]))
        request.answer(404, refusal("NoSuchBucket"))

    with answering(refuse) as server, pytest.raises(StoreError, match="no bucket 'bucket'") as caught:
        open_place(place(server)).put_bytes("k", b"12345")
    assert caught.value.kind == "not_found"


def test_an_object_is_not_taken_from_a_server_that_gives_too_little(tmp_path: Path) -> None:
    def cut(request: Handler) -> None:
        request.answer(200, b"12345", Content_Length="10", ETag='"e"', Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT")
        request.close_connection = True

    with answering(cut) as server, pytest.raises(StoreError) as caught:
        open_place(place(server)).fetch("k", tmp_path / "target", size=10)
    assert caught.value.kind == "unreachable"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("not an address", "not an address"),
        ("ftp://host", "not an address"),
        ("http://", "not an address"),
        ("http://host:port", "not an address"),
        ("http://host:99999", "not an address"),
        ("http://host/?a=b", "not an address"),
        ("http://ho st", "not an address"),
        ("http://höst", "not an address"),
        ("http://user:pass-word@host", "user name or password"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_asked(url: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence) as caught:
        open_place(Place("s3", "bucket", endpoint_url=url))
    assert caught.value.kind == "invalid"
    assert "pass-word" not in caught.value.message


def test_what_no_request_can_carry_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    for secret in (Secret("a\nb", "s"), Secret("", "s"), Secret("a", "s", "to ken")):
        with pytest.raises(StoreError, match="odd character"):
            open_place(Place("s3", "bucket", endpoint_url="http://host", secret=secret))
    for bucket in ("", "a/b", "..", "b" * 64, "b?"):
        with pytest.raises(StoreError, match="bucket name"):
            open_place(Place("s3", bucket, endpoint_url="http://host"))
    with pytest.raises(StoreError, match="region"):
        open_place(Place("s3", "bucket", region="us east"))
    (tmp_path / "ca.pem").write_text("nothing")
    for bundle in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(StoreError, match="certificate authorities"):
            open_place(Place("s3", "bucket", endpoint_url="https://host"), ca_bundle=bundle)
    with pytest.raises(StoreError, match="no kind of store called 'gopher'"):
        open_place(Place("gopher", "bucket"))


def test_without_an_address_it_is_amazons() -> None:
    with pytest.raises(StoreError, match=r"https://s3\.nowhere-1\.amazonaws\.com"):
        open_place(Place("s3", "bucket", region="nowhere-1")).list()
