"""What machines have at hand, over HTTP: who may see what, who may change it, machines that do not answer."""

import threading

from runyard.wire import facts, orders
from tests.api.serving import Answer, Api, Machine


def listing(account: str, bucket: str) -> facts.CachedListing:
    return facts.CachedListing("local", "", bucket, "set", account, 3, 300, 200, 1_700_000_000_000, True, False)


def answered(api: Api, machine: Machine, ask: tuple[str, str, object, str]) -> tuple[Answer, orders.CacheCommand]:
    """Ask the service while the machine answers, and what it was ordered to do."""
    method, path, body, token = ask
    found: list[Answer] = []
    thread = threading.Thread(target=lambda: found.append(api.call(method, path, body, token=token)))
    thread.start()
    order = machine.order(orders.CacheCommand)
    items = (listing("default", "mine"), listing("other", "theirs"))
    assert machine.tell(facts.CacheState(order.number, 500, 1000, items, ("mine",), 2)) == [True]
    thread.join(20)
    return found[0], order


def test_an_administrator_sees_all_and_a_member_what_is_the_accounts_own(api: Api, machine: Machine) -> None:
    answer, order = answered(api, machine, ("GET", "/cache", None, "owner"))
    assert (order.action, order.bucket) == ("tell", "")
    (node,) = answer.json()["nodes"]
    assert (node["answered"], node["bytes"], node["limit_bytes"], node["pins"]) == (True, 500, 1000, ["mine"])
    assert [item["bucket"] for item in node["items"]] == ["mine", "theirs"]
    assert node["items"][0] == {
        "kind": "local", "address": "", "bucket": "mine", "prefix": "set", "objects": 3, "bytes": 300, "own_bytes": 200,
        "last_used_at": "2023-11-14T22:13:20.000Z", "pinned": True, "in_use": False,
    }  # fmt: skip
    answer, _ = answered(api, machine, ("GET", "/cache", None, "other"))
    (node,) = answer.json()["nodes"]
    assert [item["bucket"] for item in node["items"]] == ["theirs"]
    assert node["pins"] == []


def test_an_administrator_alone_changes_it(api: Api, machine: Machine) -> None:
    answer, order = answered(api, machine, ("POST", "/cache", {"action": "pin", "bucket": "mine"}, "owner"))
    assert (answer.status, order.action, order.bucket) == (200, "pin", "mine")
    answer, order = answered(api, machine, ("POST", "/cache", {"action": "clear"}, "owner"))
    assert (answer.json()["nodes"][0]["removed"], order.action, order.bucket) == (2, "clear", "")
    assert api.call("POST", "/cache", {"action": "clear"}, token="member").status == 403


def test_what_makes_no_sense_is_refused_before_a_machine_is_asked(api: Api) -> None:
    for body in ({"action": "pin"}, {"action": "pin", "bucket": "../x"}):
        assert api.call("POST", "/cache", body).code == "invalid_request"
    assert api.call("POST", "/cache", {"action": "burn"}).status in (400, 422)
