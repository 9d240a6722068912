"""Ranges of logs and points of many runs in one request: item by item, once, and no stranger's."""

import json

import pytest

from tests.api.serving import Answer, Api, Machine


def send(api: Api, *ranges: tuple[list[object], bytes], token: str = "node") -> Answer:
    heads = [[*where, len(chunk)] for where, chunk in ranges]
    body = json.dumps(heads).encode() + b"\n" + b"".join(chunk for _, chunk in ranges)
    return api.call("POST", "/node/ranges", body, token=token)


def sizes(api: Api, *ranges: tuple[list[object], bytes]) -> list[int]:
    answer = send(api, *ranges)
    assert answer.status == 200
    found: list[int] = json.loads(answer.body)
    return found


def log(run: str, offset: int, attempt: int = 1, learner: int = 1) -> list[object]:
    return [run, attempt, learner, "training-log", offset]


def test_many_streams_grow_in_one_request_and_each_byte_comes_once(api: Api, machine: Machine) -> None:
    one, other = machine.started(), machine.started()
    assert sizes(api, (log(one, 0), b"abc"), (log(other, 0), b"12"), (log(one, 3), b"def")) == [3, 2, 6]
    assert sizes(api, (log(one, 0), b"abcdefg"), (log(other, 9), b"gap"), (log(other, 2), b"")) == [7, 2, 2]
    assert api.call("GET", f"/training-runs/{one}/logs").body == b"abcdefg"
    assert api.call("GET", f"/training-runs/{other}/logs").body == b"12"


def test_points_come_the_same_way(api: Api, machine: Machine) -> None:
    run = machine.started()
    answers = sizes(api, ([run, 1, 1, "metrics", 0], b"no block"), (log(run, 0), b"x"))
    assert answers == [8, 1]
    assert api.call("GET", f"/node/metrics/{run}/1/1/size", token="node").json() == {"size": 8}


def test_one_that_has_no_place_keeps_the_others_from_nothing(api: Api, machine: Machine) -> None:
    run = machine.started()
    strange: list[list[object]] = [
        log(run, 0, attempt=2), log(run, 0, attempt=0), log("training-000000000", 0), log("../x", 0),
        [run, 1, 1, "passwords", 0], [run, 1, 1, "training-log.idx", 0], [run, 1, 0, "metrics", 0],
    ]  # fmt: skip
    assert sizes(api, *((where, b"?") for where in strange), (log(run, 0), b"ok")) == [-1] * 7 + [2]


def test_a_stranger_has_no_place(api: Api, machine: Machine) -> None:
    run = machine.started()
    Machine(api, "node2", gpus=0)
    answer = send(api, (log(run, 0), b"forged"), token="node2")
    assert json.loads(answer.body) == [-1]
    assert send(api, (log(run, 0), b"forged"), token="owner").status in (401, 403)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}\n", b"[[1]]\n", b'[["r", 1, 1, "s", 0, 5]]\nabc', b'[["r", 1, 1, "s", 0, 1]]\nabc',
     b'[["r", -1, 1, "s", 0, 0]]\n', b'[["r", 1, 1, "s", -5, 0]]\n', b"\xff\xfe\n"],
)  # fmt: skip
def test_what_is_no_list_of_ranges(api: Api, machine: Machine, body: bytes) -> None:
    answer = api.call("POST", "/node/ranges", body, token="node")
    assert (answer.status, answer.code) == (422, "invalid_request")


def test_too_much_at_once(api: Api, machine: Machine) -> None:
    run = machine.started()
    assert send(api, (log(run, 0), bytes(9 << 20))).status == 413
    assert sizes(api, (log(run, 0), bytes(7 << 20))) == [7 << 20]
    assert sizes(api) == []
