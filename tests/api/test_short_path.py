"""What nodes ask most often is answered the short way, and in nothing otherwise than the long way does."""

import http.client
import json

import pytest

from tests.api.serving import Answer, Api

HOT = ("/node/facts", "/node/ranges", "/node/objects")
BODIES = (b"", b"{", b"[]", b"[]\n", b"[1]\n", b'[{"type": "dances"}]', b"\xff\n")


def chunked(api: Api, path: str, body: bytes) -> Answer:
    """Send without a length: such a request goes the long way."""
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=15)
    try:
        headers = api.headers("node")
        connection.request("POST", f"/api/v1{path}", iter([body]), headers, encode_chunked=True)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def known(api: Api) -> None:
    """Let the doorkeeper know the node."""
    assert api.call("POST", "/node/facts", b"[]", token="node").status == 200


@pytest.mark.parametrize("path", HOT)
@pytest.mark.parametrize("body", BODIES)
def test_both_ways_answer_the_same(api: Api, path: str, body: bytes) -> None:
    known(api)
    short, long = api.call("POST", path, body, token="node"), chunked(api, path, body)
    assert (short.status, short.headers["content-type"], short.body) == (
        long.status, long.headers["content-type"], long.body,
    )  # fmt: skip
    assert short.status in (200, 422)


@pytest.mark.parametrize("path", HOT)
def test_only_nodes_go_it(api: Api, path: str) -> None:
    known(api)
    assert api.call("POST", path, b"[]", token=None).status == 401
    assert [api.call("POST", path, b"[]", token=who).status for who in ("owner", "member")] == [403, 403]
    assert api.call("GET", path, token="node").status in (404, 405)


def test_a_token_that_is_revoked_does_not_go_it(api: Api) -> None:
    made = json.loads(api.call("POST", "/tokens", {"name": "soon-gone", "scope": "node"}).body)
    headers = {"Authorization": f"Bearer {made['token']}"}

    def told() -> int:
        return api.call("POST", "/node/facts", b"[]", token=None, headers=headers).status

    assert [told(), told()] == [200, 200]
    assert api.call("DELETE", f"/tokens/{made['id']}").status == 204
    assert told() == 401


def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    known(api)
    answer = api.call("POST", "/node/ranges", b"x" * (8 * 1024 * 1024 + 1), token="node")
    assert (answer.status, answer.code) == (413, "too_large")
