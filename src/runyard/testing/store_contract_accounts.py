"""The store's contract: accounts, members, tokens, connections, model definitions, nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runyard.core.account import Account, Member
from runyard.core.errors import NotFound
from runyard.core.resources import Resources
from runyard.core.spec import Connection, StoreKind
from runyard.ports.store import ConnectionRecord, Definition, Store
from runyard.testing.builders import NOW, a_node

ACME = Account("acme", "Acme", quota_gpus=2, own={"gpus": 2})


class AccountContract:
    """Who pays, who acts, what they have stored, and the machines."""

    def test_an_account_is_created_once(self, store: Store) -> None:
        assert store.account("acme") is None
        assert store.ensure_account(ACME) == ACME
        assert store.ensure_account(Account("acme", "Other", quota_gpus=9)) == ACME
        assert store.account("acme") == ACME

    def test_accounts_are_listed_by_id(self, store: Store) -> None:
        others = [Account("zeta", "Z"), Account("Beta", "B"), Account("alpha", "A")]
        for account in others:
            store.ensure_account(account)
        assert [account.id for account in store.accounts()] == ["Beta", "alpha", "zeta"]

    def test_a_quota_is_set_and_lifted(self, store: Store) -> None:
        store.ensure_account(ACME)
        assert store.set_own_quota("acme", {"gpus": 7})
        assert store.account("acme") == replace(ACME, quota_gpus=7, own={"gpus": 7})
        assert store.set_own_quota("acme", {"gpus": None})
        assert store.account("acme") == replace(ACME, quota_gpus=None, own={"gpus": None})
        assert not store.set_own_quota("nobody", {"gpus": 1})

    def test_the_whole_queue_and_each_account_are_paused_apart(self, store: Store) -> None:
        store.ensure_account(ACME)
        store.ensure_account(Account("beta", "Beta"))
        assert not store.queue_paused()
        assert store.set_paused("acme", True)
        assert (store.account("acme"), store.queue_paused()) == (replace(ACME, paused=True), False)
        assert store.account("beta") == Account("beta", "Beta")
        assert store.set_paused(None, True)
        assert store.queue_paused()
        assert store.set_paused("acme", False)
        assert (store.account("acme"), store.queue_paused()) == (ACME, True)
        assert store.set_paused(None, False)
        assert not store.queue_paused()
        assert not store.set_paused("nobody", True)

    def test_members_are_numbered_across_accounts(self, store: Store) -> None:
        store.ensure_account(ACME)
        store.ensure_account(Account("beta", "Beta"))
        assert store.ensure_member("mia", "acme", "Mia") == Member("mia", "acme", "Mia", 1)
        assert store.ensure_member("ben", "beta", "Ben") == Member("ben", "beta", "Ben", 2)
        assert store.ensure_member("mia", "beta", "Other") == Member("mia", "acme", "Mia", 1)
        assert store.ensure_member("zoe", "acme", "Zoe").number == 3
        assert store.member("ben") == Member("ben", "beta", "Ben", 2)
        assert store.member("nobody") is None

    def test_a_member_needs_an_account(self, store: Store) -> None:
        with pytest.raises(NotFound, match="nobody"):
            store.ensure_member("mia", "nobody", "Mia")
        assert store.member("mia") is None

    def test_connections_are_kept_per_account(self, store: Store) -> None:
        here = Connection(endpoint_url="http://127.0.0.1:1", region="eu", secret="k")
        mine = ConnectionRecord("acme", "minio", StoreKind.s3, here, NOW, b"\x00sealed\xff")
        theirs = ConnectionRecord("beta", "minio", StoreKind.volume, Connection(path="/data"), NOW)
        store.put_connection(mine)
        store.put_connection(theirs)
        assert store.connection("acme", "minio") == mine
        assert store.connection("beta", "minio") == theirs
        assert store.connection("acme", "other") is None
        changed = replace(mine, connection=replace(here, region="us"), sealed=None, created_ms=NOW + 1)
        store.put_connection(changed)
        first = replace(mine, name="aws")
        store.put_connection(first)
        assert list(store.connections("acme")) == [first, changed]
        assert store.delete_connection("acme", "minio")
        assert not store.delete_connection("acme", "minio")
        assert (list(store.connections("acme")), list(store.connections("beta"))) == ([first], [theirs])

    def test_a_definition_is_recorded_once(self, store: Store) -> None:
        first = Definition("acme", "a" * 64, 123, NOW)
        store.add_definition(first)
        store.add_definition(replace(first, size=5, created_ms=NOW + 1))
        assert store.definition("acme", "a" * 64) == first
        store.add_definition(replace(first, mentions_config=True))
        assert store.definition("acme", "a" * 64) == replace(first, mentions_config=True)
        store.add_definition(replace(first, mentions_config=False))
        assert store.definition("acme", "a" * 64) == replace(first, mentions_config=True)

    def test_a_definition_is_an_accounts_own(self, store: Store) -> None:
        store.add_definition(Definition("acme", "a" * 64, 123, NOW))
        assert store.definition("beta", "a" * 64) is None
        assert store.definition_known("a" * 64)
        assert not store.definition_known("b" * 64)

    def test_a_note_is_kept_replaced_and_forgotten(self, store: Store) -> None:
        assert store.note("restored") is None
        store.put_note("restored", "{}")
        store.put_note("other", "é")
        store.put_note("restored", "later")
        assert (store.note("restored"), store.note("other")) == ("later", "é")
        store.put_note("restored", None)
        store.put_note("restored", None)
        assert (store.note("restored"), store.note("other")) == (None, "é")
        assert not store.queue_paused()

    def test_nodes_are_created_and_replaced(self, store: Store) -> None:
        second = a_node("n2", gpus=0, logical=False)
        first = a_node("n1", closed="draining", notes=("slow disk", "old"))
        store.put_node(second)
        store.put_node(first)
        assert list(store.nodes()) == [first, second]
        moved = replace(
            second, connected=False, boot_id="b2", total=Resources(1, 2, 3), gpu_names=("A",), seen_ms=NOW + 9
        )
        store.put_node(moved)
        assert list(store.nodes()) == [first, moved]
