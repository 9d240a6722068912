"""The embedded store and model definitions over HTTP: parts, conditions, broken uploads, hostile names."""

import hashlib
import http.client
from pathlib import Path

import pytest

from tests.api.serving import Answer, Api
from tests.support.waiting import wait_until

BODY = bytes(range(256)) * 10


@pytest.fixture(scope="module")
def etag(api: Api) -> str:
    """The etag of ``parts/bytes``, 2560 bytes."""
    answer = api.call("PUT", "/data/parts/bytes", BODY)
    assert answer.status == 201
    assert answer.json() == {"key": "bytes", "size": 2560, "etag": answer.json()["etag"]} | {
        "modified_at": answer.json()["modified_at"]
    }
    return str(answer.json()["etag"])


def part(api: Api, **headers: str) -> Answer:
    return api.call("GET", "/data/parts/bytes", headers={name.replace("_", "-"): v for name, v in headers.items()})


@pytest.mark.parametrize(
    ("wanted", "begin", "end"),
    [
        ("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=2550-", 2550, 2560), ("bytes=-10", 2550, 2560),
        ("bytes=-9999", 0, 2560), ("bytes=100-99999", 100, 2560),
    ],
)  # fmt: skip
def test_parts(api: Api, etag: str, wanted: str, begin: int, end: int) -> None:
    answer = part(api, Range=wanted)
    assert (answer.status, answer.body) == (206, BODY[begin:end])
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/2560"
    assert answer.headers["content-length"] == str(end - begin)


@pytest.mark.parametrize("wanted", ["bytes=2560-", "bytes=9999-10000", "bytes=-0"])
def test_parts_that_are_not_there(api: Api, etag: str, wanted: str) -> None:
    answer = part(api, Range=wanted)
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */2560")


@pytest.mark.parametrize(
    "wanted", ["bytes=--5", "bytes=5-2", "bytes=-", "bytes=1_0-2_0", "bytes=x-y", "lines=1-2", "bytes=0-1,4-5"]
)
def test_what_is_no_range_is_answered_with_the_whole(api: Api, etag: str, wanted: str) -> None:
    answer = part(api, Range=wanted)
    assert (answer.status, answer.body) == (200, BODY)


def test_an_empty_object_has_no_parts(api: Api) -> None:
    api.call("PUT", "/data/parts/empty", b"")
    assert api.call("GET", "/data/parts/empty").body == b""
    assert api.call("GET", "/data/parts/empty", headers={"Range": "bytes=-5"}).status == 416


def test_conditions(api: Api, etag: str) -> None:
    for good in (f'"{etag}"', "*", f'"other", "{etag}"'):
        assert part(api, If_Match=good).status == 200
    answer = part(api, If_Match='"other"', Range="bytes=0-1")
    assert (answer.status, answer.headers["etag"]) == (412, f'"{etag}"')


def test_head(api: Api, etag: str) -> None:
    answer = api.call("HEAD", "/data/parts/bytes")
    assert (answer.status, answer.headers["content-length"], answer.headers["etag"]) == (200, "2560", f'"{etag}"')
    assert api.call("HEAD", "/data/parts/nothing").status == 404


def test_lists_by_pages(api: Api) -> None:
    keys = [f"a/{number}" for number in range(5)] + ["b"]
    for key in keys:
        api.call("PUT", f"/data/listed/{key}", b"x")
    seen, cursor = list[str](), ""
    while True:
        page = api.get(f"/data/listed?limit=2&cursor={cursor}")
        seen += [each["key"] for each in page["items"]]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert seen == keys
    assert [each["key"] for each in api.get("/data/listed?prefix=b")["items"]] == ["b"]
    assert {"name": "listed"} in api.get("/data")["items"]
    assert api.call("GET", "/data/nowhere").code == "not_found"


def test_delete_one_and_all_below(api: Api) -> None:
    for key in ("x/1", "x/2", "y"):
        api.call("PUT", f"/data/deleted/{key}", b"x")
    assert api.call("DELETE", "/data/deleted/y").status == 204
    assert api.call("DELETE", "/data/deleted/y").code == "not_found"
    answer = api.call("DELETE", "/data/deleted?prefix=x/")
    assert (answer.status, answer.headers["runyard-deleted"]) == (204, "2")


def test_nobody_elses_objects_are_there(api: Api, etag: str) -> None:
    for method, path in (("GET", "/data/parts"), ("GET", "/data/parts/bytes"), ("DELETE", "/data/parts/bytes")):
        assert api.call(method, path, token="other").status == 404
    assert api.call("HEAD", "/data/parts/bytes", token="other").status == 404
    assert api.call("DELETE", "/data/parts", token="other").headers["runyard-deleted"] == "0"
    assert api.get("/data", token="other")["items"] == []
    assert api.call("PUT", "/data/parts/bytes", b"mine", token="other").status == 201
    assert part(api).body == BODY


@pytest.mark.parametrize(
    "path", ["/data/..%2Fother/x", "/data/b/..%2F..%2F..%2Fkey", "/data/b/a%2F%2Fb", "/data/b/a%00b",
             "/data/b/" + "x" * 300],
)  # fmt: skip
def test_hostile_names(api: Api, path: str) -> None:
    for method in ("PUT", "GET"):
        answer = api.call(method, path, b"x" if method == "PUT" else None)
        assert answer.status in (404, 422), (method, answer.status)
        assert answer.code in ("invalid_request", "not_found")


def broken_off(api: Api, path: str) -> None:
    """Send half of what is announced, and hang up."""
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
    connection.putrequest("PUT", f"/api/v1{path}")
    for name, value in api.headers("owner").items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"x" * 50)
    connection.close()


def open_files(below: Path) -> list[str]:
    """Files of this process that lie below a folder."""
    found: list[str] = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = entry.readlink()
        except FileNotFoundError:
            continue
        if target.is_relative_to(below):
            found.append(str(target))
    return found


def test_an_upload_that_breaks_off_leaves_nothing(api: Api) -> None:
    incoming = api.home / "store" / ".incoming"
    broken_off(api, "/data/broken/off")
    wait_until(lambda: list(incoming.iterdir()) == [], "nothing is left")
    wait_until(lambda: open_files(incoming) == [str(incoming)], "nothing but the folder is open")
    assert api.call("GET", "/data/broken/off").status == 404


def test_a_reader_that_hangs_up_leaves_no_file_open(api: Api) -> None:
    big = b"x" * 8 * 1024 * 1024
    api.call("PUT", "/data/large/object", big)
    with api.open("GET", "/data/large/object") as response:
        assert response.read(1000) == big[:1000]
        assert any(path.endswith("large/object") for path in open_files(Path("/")))
    wait_until(lambda: not any(p.endswith("large/object") for p in open_files(Path("/"))), "the file is closed")


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_definitions_are_kept_by_their_hash(api: Api) -> None:
    body = b"PK a zip"
    assert api.call("HEAD", f"/definitions/{sha(body)}").status == 404
    for _ in range(2):
        assert api.call("PUT", f"/definitions/{sha(body)}?mentions_config=true", body).status == 201
    assert api.call("HEAD", f"/definitions/{sha(body)}").status == 200
    answer = api.call("GET", f"/definitions/{sha(body)}")
    assert (answer.body, answer.headers["content-type"]) == (body, "application/zip")
    assert api.call("GET", f"/definitions/{sha(body)}", token="other").code == "not_found"
    assert api.call("HEAD", f"/definitions/{sha(body)}", token="other").status == 404


@pytest.mark.parametrize("name", ["a" * 64, "A" * 64, "short", "..%2F..%2Fkey", "g" * 64])
def test_another_hash_is_refused_and_nothing_kept(api: Api, name: str) -> None:
    answer = api.call("PUT", f"/definitions/{name}", b"other bytes")
    assert answer.status in (404, 422)
    assert api.call("HEAD", f"/definitions/{name}").status == 404
    assert api.call("GET", f"/definitions/{name}").status == 404


def test_a_definition_that_is_too_large(api: Api) -> None:
    body = b"x" * (1024 * 1024 + 1)
    try:
        answer = api.call("PUT", f"/definitions/{sha(body)}", body)
    except (BrokenPipeError, ConnectionResetError):
        return  # it said so while we were still sending
    assert (answer.status, answer.code) == (413, "too_large")
    assert api.call("HEAD", f"/definitions/{sha(body)}").status == 404
