"""Accounts, members, plans, passwords, who did what, and the key, over HTTP."""

import os
from pathlib import Path
from typing import Any

import pytest

from runyard.adapters.vault import KeyFileError
from runyard.api.throttle import FREE_TRIES, Throttle
from runyard.server import build
from runyard.settings import Settings
from tests.api.serving import MANIFEST, Api, Machine, serving
from tests.support.waiting import wait_until

LONG = "correct horse battery"


def member_of(api: Api, account: str, name: str, role: str = "user", by: str = "owner") -> str:
    """Take somebody in; their token is known to the tests as ``account/name``."""
    answer = api.call("POST", f"/accounts/{account}/members", {"name": name, "role": role}, token=by)
    assert answer.status == 201, answer.body
    api.tokens[f"{account}/{name}"] = answer.json()["token"]
    return f"{account}/{name}"


@pytest.fixture(scope="module")
def acme(api: Api) -> str:
    """An account on the free plan with a manager."""
    made = api.call("POST", "/accounts", {"id": "acme", "name": "Acme"}).json()
    assert (made["plan"], made["quota"]["gpus"], made["quota_gpus"]) == ("free", 1, 1)
    return member_of(api, "acme", "mia", "manager")


def test_an_account_has_its_plan_until_it_has_something_of_its_own(api: Api, acme: str) -> None:
    team = {"weight": 2, "quota": {"gpus": 4, "cpu_millis": 8000}}
    assert api.call("PUT", "/plans/team", team).json()["quota"]["cpu_millis"] == 8000
    assert api.call("PUT", "/accounts/acme", {"plan": "team"}).json()["quota"]["gpus"] == 4
    assert api.call("DELETE", "/plans/team").code == "conflict"
    shown = api.call("PUT", "/quota/acme", {"gpus": 9, "waiting": None}).json()
    assert (shown["gpus"], shown["cpu_millis"], shown["waiting"]) == (9, 8000, None)
    assert api.get("/accounts/acme", token=acme)["own"] == {"gpus": 9, "waiting": None}
    assert api.call("PUT", "/quota/acme", {"plan": ["gpus"]}).json()["gpus"] == 4
    assert api.call("PUT", "/accounts/acme", {"plan": "gold"}).code == "not_found"
    assert api.call("PUT", "/accounts/acme", {"plan": "free"}).json()["plan"] == "free"
    assert api.call("DELETE", "/plans/team").status == 204


def test_who_waits_beyond_the_quota_is_refused_as_a_whole(api: Api, acme: str, machine: Machine) -> None:
    api.call("PUT", "/quota/acme", {"waiting": 2})
    runs = api.submit(token=acme)
    answer = api.call("POST", "/training-runs", _sweep(2), token=acme)
    assert (answer.status, answer.code) == (409, "quota_waiting")
    runs += api.submit(token=acme)
    assert len(api.get("/training-runs", token=acme)["items"]) == 2
    api.call("POST", "/training-runs/cancel", {"runs": runs}, token=acme)
    api.call("PUT", "/quota/acme", {"plan": ["waiting"]})


def _sweep(count: int) -> dict[str, Any]:
    return {"manifest": MANIFEST, "parameters": [{"n": n} for n in range(count)], "force": True}


def test_who_stores_beyond_the_quota_is_refused_until_something_is_removed(api: Api, acme: str) -> None:
    api.call("PUT", "/quota/acme", {"storage_bytes": 10})
    assert api.call("PUT", "/data/b/small", b"12345", token=acme).status == 201
    answer = api.call("PUT", "/data/b/large", b"1234567890", token=acme)
    assert (answer.status, answer.code) == (409, "quota_storage")
    assert "runyard data rm" in answer.json()["detail"]
    api.call("PUT", "/quota/acme", {"storage_bytes": 5})
    refused = api.call("POST", "/training-runs", _sweep(1), token=acme)
    assert (refused.status, refused.code) == (409, "quota_storage")
    assert api.get("/quota", token=acme)["used_storage_bytes"] == 5
    assert api.call("DELETE", "/data/b/small", token=acme).status == 204
    assert api.get("/quota", token=acme)["used_storage_bytes"] == 0
    api.call("PUT", "/quota/acme", {"plan": ["storage_bytes"]})


def test_nobody_gives_more_than_they_have(api: Api, acme: str) -> None:
    assert api.call("POST", "/accounts/acme/members", {"name": "x", "role": "admin"}, token=acme).status == 403
    boss = member_of(api, "acme", "boss", "admin")
    for method, path, body in (
        ("PUT", "/accounts/acme/members/boss", {"role": "viewer"}),
        ("DELETE", "/accounts/acme/members/boss", None),
        ("PUT", "/accounts/acme/members/boss/password", {"password": LONG}),
    ):
        assert api.call(method, path, body, token=acme).status == 403, path
    assert api.call("POST", "/tokens", {"scope": "admin"}, token=acme).status == 403
    assert api.call("PUT", "/accounts/acme/members/boss", {"role": "user"}, token=boss).status == 409, "oneself"
    assert api.call("DELETE", "/accounts/acme/members/boss").status == 204
    assert api.call("GET", "/status", token=boss).status == 401


def test_a_role_is_what_it_is_now_with_every_token(api: Api, acme: str) -> None:
    ben = member_of(api, "acme", "ben", "user", by=acme)
    assert api.call("PUT", "/data/b/x", b"1", token=ben).status == 201
    assert api.call("PUT", "/accounts/acme/members/ben", {"role": "viewer"}, token=acme).json()["role"] == "viewer"
    assert api.call("PUT", "/data/b/x", b"1", token=ben).status == 403
    assert api.get("/status", token=ben)["role"] == "viewer"
    assert [each["member"] for each in api.get("/tokens", token=ben)["items"]] == ["ben"]
    assert {each["member"] for each in api.get("/tokens", token=acme)["items"]} >= {"ben", "mia"}


def test_when_a_token_was_last_used_is_noted(api: Api, acme: str) -> None:
    def used() -> Any:
        mine = [each for each in api.get("/tokens", token=acme)["items"] if each["member"] == "mia"]
        return mine[0]["used_at"]

    wait_until(lambda: used() is not None, "the token's use is noted")


def test_signing_in(api: Api, acme: str) -> None:
    api.context.gate.throttle = Throttle()
    body = {"account": "acme", "member": "mia", "password": LONG}
    assert api.call("POST", "/login", body, token=None).status == 401, "no password yet"
    assert api.call("PUT", "/accounts/acme/members/mia/password", {"password": "short"}, token=acme).status == 422
    assert api.call("PUT", "/accounts/acme/members/mia/password", {"password": LONG}, token=acme).status == 204
    answer = api.call("POST", "/login", body, token=None).json()
    assert (answer["account"], answer["member"], answer["role"]) == ("acme", "mia", "manager")
    assert api.get("/status", token=answer["token"])["scope"] == "member"
    assert api.call("POST", "/login", body | {"scope": "admin"}, token=None).status == 403
    again = {"password": LONG + "!", "current": "wrong"}
    assert api.call("PUT", "/accounts/acme/members/mia/password", again, token=acme).status == 403
    again["current"] = LONG
    assert api.call("PUT", "/accounts/acme/members/mia/password", again, token=acme).status == 204
    assert api.call("POST", "/login", body, token=None).code == "login_failed"
    stored = api.context.world.store.password("acme", "mia")
    assert stored is not None
    assert (stored[1] or "").startswith("$argon2id$")


def test_who_guesses_waits(api: Api, acme: str) -> None:
    api.context.gate.throttle = Throttle()
    guess = {"account": "acme", "member": "mia", "password": "guess"}
    answers = [api.call("POST", "/login", guess, token=None) for _ in range(FREE_TRIES + 1)]
    assert [each.status for each in answers] == [401] * FREE_TRIES + [429]
    assert answers[-1].code == "too_many_tries"
    assert int(answers[-1].headers["retry-after"]) > 0
    nobody = {"account": "nowhere", "member": "nobody", "password": "guess"}
    assert api.call("POST", "/login", nobody, token=None).status == 429, "the address waits, too"
    api.context.gate.throttle = Throttle()
    told = [api.call("POST", "/login", each, token=None) for each in (guess, nobody)]
    assert told[0].body == told[1].body


def test_the_memory_of_failures_is_bounded() -> None:
    throttle = Throttle(kept=10)
    for number in range(1000):
        throttle.failed((f"member {number}", "address a"), 1000)
    assert len(throttle._failures) == 10
    assert throttle.wait_ms(("address a",), 1000) > 0, "the one that tries all the time is not forgotten"
    assert throttle.wait_ms(("member 0",), 1000) == 0
    assert throttle.wait_ms(("address a",), 1000 + 2 * 15 * 60_000 + 1) == 0
    throttle.succeeded(("address a",))
    assert throttle.wait_ms(("address a",), 1000) == 0


def test_who_did_what_is_kept_without_secrets(api: Api, acme: str) -> None:
    secret, key = "s3cr3t-of-the-audit", "very-secret-key-of-the-audit"
    since = "2020-01-01"
    api.call("PUT", "/secrets/MINE", {"value": secret}, token=acme)
    connection = {"name": "kept", "access_key_id": "AKIAKEPT0000", "secret_access_key": key}
    api.call("POST", "/connections", connection, token=acme)
    made = api.call("POST", "/tokens", {"name": "t"}, token=acme).json()
    api.call("DELETE", "/tokens/no-such", token=acme)
    ben = member_of(api, "acme", "zoe", "viewer", by=acme)
    api.call("PUT", "/data/b/x", b"1", token=ben)
    run = api.submit(token=acme)[0]
    api.call("POST", f"/training-runs/{run}/cancel", token=acme)

    def kept() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = api.get(f"/audit?since={since}&limit=1000", token=acme)["items"]
        return items

    wait_until(
        lambda: any(each["object"] == run and each["action"] == "runs.cancel" for each in kept()), "it is written"
    )
    seen = [(each["member"], each["action"], each["object"], each["outcome"]) for each in kept()]
    for wanted in (
        ("mia", "secrets.put", "MINE", "done"),
        ("mia", "connections.add", "kept", "done"),
        ("mia", "tokens.add", made["id"], "done"),
        ("mia", "tokens.revoke", "no-such", "refused"),
        ("mia", "members.add", "acme/zoe", "done"),
        ("zoe", "data.put", "b/x", "denied"),
        ("mia", "runs.submit", run, "done"),
    ):
        assert wanted in seen, (wanted, seen)
    assert {each["account"] for each in kept()} == {"acme"}
    assert all(each["address"] == "127.0.0.1" for each in kept())
    everything = api.call("GET", "/audit?limit=1000").body.decode()
    for word in (secret, key, made["token"], "AKIAKEPT0000", LONG):
        assert word not in everything
    assert api.call("GET", "/audit", token=ben).status == 403
    page = api.get("/audit?limit=2", token=acme)
    more = api.get(f"/audit?limit=2&cursor={page['next']}", token=acme)
    assert [each["seq"] for each in page["items"] + more["items"]] == sorted(
        (each["seq"] for each in page["items"] + more["items"]), reverse=True
    )


def test_secrets_are_masked_wherever_something_is_told(api: Api, acme: str, machine: Machine) -> None:
    """Every GET without a parameter, a run's own pages, and the database's file."""
    secret, key = "s3cr3t-of-the-masks", "very-secret-key-of-the-masks"
    api.call("PUT", "/secrets/MASKED", {"value": secret}, token=acme)
    connection = {"name": "masked", "type": "s3", "access_key_id": "AKIAMASKED00", "secret_access_key": key}
    api.call("POST", "/connections", connection | {"endpoint_url": "http://127.0.0.1:1"}, token=acme)
    manifest = _sweep(1)["manifest"].replace("type: local\n", "type: s3\n  connection: {name: masked}\n")
    run = api.submit(token=acme, manifest=manifest + "runyard: {secrets: [MASKED]}\n", force=True)[0]
    paths = [path for path, item in api.app.openapi()["paths"].items() if "get" in item and "{" not in path]
    pages = [path.removeprefix("/api/v1") if path != "/healthz" else "//healthz" for path in paths]
    pages += [f"/training-runs/{run}{each}" for each in ("", "/events", "/explain", "/metrics", "/logs")]
    for page in pages:
        text = api.call("GET", page, token=acme).body.decode(errors="replace")
        assert not [word for word in (secret, key, "AKIAMASKED00") if word in text], page
    kept = b"".join(path.read_bytes() for path in api.home.glob("runyard.db*"))
    assert not [word for word in (secret, key, "AKIAMASKED00") if word.encode() in kept]
    api.call("POST", f"/training-runs/{run}/cancel", token=acme)


def test_a_closed_account_is_gone(api: Api) -> None:
    api.call("POST", "/accounts", {"id": "gone"})
    token = member_of(api, "gone", "mia", "manager")
    assert api.call("DELETE", "/accounts/gone").status == 204
    assert api.call("GET", "/status", token=token).status == 401
    assert api.call("GET", "/accounts/gone").code == "not_found"
    assert api.call("POST", "/accounts", {"id": "gone"}).code == "conflict"
    assert api.call("DELETE", "/accounts/default").code == "refused"


def test_another_key_seals_everything_again_and_the_old_one_goes(tmp_path: Path) -> None:
    with serving(tmp_path) as api:
        api.call("PUT", "/secrets/MINE", {"value": "v"})
        api.call("POST", "/connections", {"name": "c", "access_key_id": "AKIA1111", "secret_access_key": "s"})
        key_file = tmp_path / "key"
        first = key_file.read_text().split()
        assert api.call("POST", "/secrets/rotate-key", {}).json() == {"resealed": 2}
        assert key_file.stat().st_mode & 0o777 == 0o600
        second = key_file.read_text().split()
        assert (second[:1], len(second)) == (first, 2)
        assert api.get("/connections")["items"][0]["access_key_id"] == "AKIA****"
        api.call("PUT", "/secrets/LATER", {"value": "v"})
        assert api.call("POST", "/secrets/rotate-key", {}).json() == {"resealed": 0}, (
            "nothing is sealed with the old key"
        )
        assert key_file.read_text().split() == second
    with serving(tmp_path) as api:
        assert key_file.read_text().split() == second[1:], "the start found nothing that needs the old key"
        assert api.get("/connections", token="owner")["items"][0]["access_key_id"] == "AKIA****"


def test_a_rotation_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path) as api:
        api.call("PUT", "/secrets/MINE", {"value": "v"})
        api.context.world.vault.renew()  # and the server is gone
    with serving(tmp_path) as api:
        assert len((tmp_path / "key").read_text().split()) == 2, "the old key is still needed"
        assert api.call("POST", "/secrets/rotate-key", {}).json() == {"resealed": 1}


def test_no_start_without_the_key_that_sealed(tmp_path: Path) -> None:
    with serving(tmp_path) as api:
        api.call("PUT", "/secrets/MINE", {"value": "v"})
    kept = (tmp_path / "key").read_bytes()
    (tmp_path / "key").unlink()
    with pytest.raises(KeyFileError, match="from a backup"):
        build(tmp_path, Settings(), None, "http://127.0.0.1:1")
    assert not (tmp_path / "key").exists()
    fd = os.open(tmp_path / "key", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, kept)
    os.close(fd)
    build(tmp_path, Settings(), None, "http://127.0.0.1:1")[1].world.store.close()
