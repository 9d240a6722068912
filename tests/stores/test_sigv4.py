"""Signatures against the worked examples of Amazon's S3 API reference."""

import pytest

from runyard.stores.sigv4 import encode_path, encode_query, sign
from runyard.wire.orders import Secret

SECRET = Secret("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
HOST = "examplebucket.s3.amazonaws.com"
DATE = "20130524T000000Z"


def signature(method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes = b"") -> str:
    signed = sign(
        method, HOST, path, query, headers, body, secret=SECRET, region="us-east-1", amz_date=DATE
    )  # fmt: skip
    return signed["Authorization"].rpartition("=")[2]


def test_the_example_of_getting_an_object() -> None:
    expected = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert signature("GET", "/test.txt", {}, {"Range": "bytes=0-9"}) == expected


def test_the_example_of_putting_an_object() -> None:
    headers = {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
    expected = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    assert signature("PUT", "/test$file.text", {}, headers, b"Welcome to Amazon S3.") == expected


def test_the_example_of_a_query_without_value() -> None:
    expected = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    assert signature("GET", "/", {"lifecycle": ""}, {}) == expected


def test_the_example_of_listing_objects() -> None:
    expected = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    assert signature("GET", "/", {"prefix": "J", "max-keys": "2"}, {}) == expected


def test_a_session_token_is_sent_and_signed() -> None:
    secret = Secret(SECRET.access_key_id, SECRET.secret_access_key, "a-token")
    signed = sign("GET", HOST, "/", {}, {}, b"", secret=secret, region="us-east-1", amz_date=DATE)
    assert signed["x-amz-security-token"] == "a-token"
    assert "x-amz-security-token" in signed["Authorization"]


@pytest.mark.parametrize(
    ("path", "encoded"), [("/a b/c+d", "/a%20b/c%2Bd"), ("/ü~", "/%C3%BC~"), ("/a%41", "/a%2541"), ("/(x)", "/%28x%29")]
)
def test_a_path_is_encoded_once(path: str, encoded: str) -> None:
    assert encode_path(path) == encoded


def test_a_query_is_sorted_as_it_is_encoded() -> None:
    assert encode_query({"b": "/", "a": "x y", "a-b": ""}) == "a=x%20y&a-b=&b=%2F"
