"""Stored secrets: their values go in, and never come out."""

import pytest

from tests.api.serving import MANIFEST, Api, Machine

VALUE = "sesame-open-0123456789"


def names(api: Api, token: str = "owner") -> list[str]:
    return [each["name"] for each in api.get("/secrets", token=token)["items"]]


def test_a_secret_is_put_listed_by_name_and_removed(api: Api) -> None:
    for name, value in (("HF_TOKEN", VALUE), ("A_TOKEN", "x"), ("HF_TOKEN", VALUE + "2")):
        answer = api.call("PUT", f"/secrets/{name}", {"value": value})
        assert answer.status == 200
        assert set(answer.json()) == {"name", "created_at"}
    assert names(api) == ["A_TOKEN", "HF_TOKEN"]
    assert VALUE.encode() not in api.call("GET", "/secrets").body
    assert api.call("DELETE", "/secrets/A_TOKEN").status == 204
    assert api.call("DELETE", "/secrets/A_TOKEN").code == "not_found"
    assert names(api) == ["HF_TOKEN"]


def test_secrets_belong_to_their_account_and_are_shared_in_it(api: Api) -> None:
    assert api.call("PUT", "/secrets/OURS", {"value": VALUE}).status == 200
    assert "OURS" in names(api, "member")
    assert "OURS" not in names(api, "other")
    assert api.call("DELETE", "/secrets/OURS", token="other").status == 404


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("1ST", {"value": VALUE}),
        ("A-B", {"value": VALUE}),
        ("A" * 129, {"value": VALUE}),
        ("DATA_DIR", {"value": VALUE}),
        ("RUNYARD_TOKEN", {"value": VALUE}),
        ("OK", {"value": ""}),
        ("OK", {"value": VALUE + "\0"}),
        ("OK", {"value": VALUE + "x" * 65536}),
        ("OK", {"value": [VALUE]}),
        ("OK", {"value": VALUE, "more": VALUE}),
        ("OK", f'{{"value": "{VALUE}'.encode()),
        ("OK", f'{{"value": "{VALUE}\\ud800"}}'.encode()),
    ],
)
def test_what_cannot_be_kept_is_refused_without_being_shown(api: Api, name: str, body: object) -> None:
    answer = api.call("PUT", f"/secrets/{name}", body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert VALUE.encode() not in answer.body


def test_what_is_stored_is_sealed(api: Api) -> None:
    api.call("PUT", "/secrets/SEALED", {"value": VALUE})
    for path in api.home.rglob("*"):
        if path.is_file():
            assert VALUE.encode() not in path.read_bytes(), path


def test_many_are_canceled_in_one_request(api: Api, machine: Machine) -> None:
    assert machine is not None
    tagged = api.submit(
        manifest=MANIFEST + "runyard: {tags: [bulk]}\n", parameters=[{"i": i} for i in range(3)], force=True
    )
    one, foreign = api.submit()[0], api.submit(token="other")[0]
    body = {"runs": ["tag:bulk", one[:14], one, foreign, "training-unknown00", "tag:nothing"]}
    answer = api.call("POST", "/training-runs/cancel", body)
    assert answer.status == 202
    items, refused = answer.json()["items"], answer.json()["refused"]
    assert [each["id"] for each in items] == [*reversed(tagged), one]
    assert {each["state"] for each in items} == {"canceled"}
    assert {(each["id"], each["code"]) for each in refused} == {
        (foreign, "not_found"),
        ("training-unknown00", "not_found"),
        ("tag:nothing", "not_found"),
    }
    more = api.submit(parameters=[{"i": i} for i in range(2)], force=True)
    answer = api.call("POST", "/training-runs/cancel", {"states": ["waiting", "running"]})
    assert {each["id"] for each in answer.json()["items"]} >= set(more)
    assert api.get(f"/training-runs/{foreign}", token="other")["state"] == "waiting"
    assert api.call("POST", "/training-runs/cancel", {}).json() == {"items": [], "refused": []}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET"])
def test_the_address_of_the_key_is_no_secrets(api: Api, method: str) -> None:
    answer = api.call(method, "/secrets/rotate-key", {"value": "x"} if method == "PUT" else None)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
