"""The store's contract: accounts, members, tokens, connections, model definitions, nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runyard.core.account import Account, Member, Principal, Scope
from runyard.core.errors import Conflict, NotFound
from runyard.core.resources import Resources
from runyard.core.spec import Connection, StoreKind
from runyard.ports.store import ConnectionRecord, Definition, Store, TokenRecord
from runyard.testing.builders import NOW, a_node

ACME = Account("acme", "Acme", quota_gpus=2)
TOKEN = TokenRecord("t1", "d" * 64, "ry_abc", Scope.member, "acme", "mia", "laptop", NOW)


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
        assert store.set_quota("acme", 7)
        assert store.account("acme") == replace(ACME, quota_gpus=7)
        assert store.set_quota("acme", None)
        assert store.account("acme") == replace(ACME, quota_gpus=None)
        assert not store.set_quota("nobody", 1)

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

    def test_a_token_speaks_for_its_member(self, store: Store) -> None:
        store.add_token(TOKEN)
        assert store.principal(TOKEN.digest, NOW) == Principal("t1", Scope.member, "acme", "mia")
        assert store.principal("e" * 64, NOW) is None

    def test_a_token_of_a_node_names_it(self, store: Store) -> None:
        store.add_token(replace(TOKEN, scope=Scope.node, node_id="n1"))
        assert store.principal(TOKEN.digest, NOW) == Principal("t1", Scope.node, "acme", "mia", "n1")

    def test_a_token_expires(self, store: Store) -> None:
        store.add_token(replace(TOKEN, expires_ms=NOW + 10))
        assert store.principal(TOKEN.digest, NOW + 9) is not None
        assert store.principal(TOKEN.digest, NOW + 10) is None

    def test_a_token_is_revoked_once_by_its_own_account(self, store: Store) -> None:
        store.add_token(TOKEN)
        assert not store.revoke_token("beta", "t1", NOW + 1)
        assert store.principal(TOKEN.digest, NOW + 2) is not None
        assert store.revoke_token("acme", "t1", NOW + 3)
        assert store.principal(TOKEN.digest, NOW + 3) is None
        assert not store.revoke_token("acme", "t1", NOW + 4)
        assert not store.revoke_token("acme", "t2", NOW + 4)
        assert list(store.tokens("acme")) == [replace(TOKEN, revoked_ms=NOW + 3)]

    def test_tokens_are_listed_by_age(self, store: Store) -> None:
        young = replace(TOKEN, id="a", digest="a" * 64, created_ms=NOW + 5)
        theirs = replace(TOKEN, id="x", digest="b" * 64, account_id="beta")
        for token in (young, TOKEN, theirs):
            store.add_token(token)
        assert list(store.tokens("acme")) == [TOKEN, young]
        assert list(store.tokens("nobody")) == []

    @pytest.mark.parametrize("other", [replace(TOKEN, digest="x" * 64), replace(TOKEN, id="t2")])
    def test_a_token_id_or_digest_is_used_once(self, store: Store, other: TokenRecord) -> None:
        store.add_token(TOKEN)
        with pytest.raises(Conflict):
            store.add_token(other)
        assert list(store.tokens("acme")) == [TOKEN]

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
