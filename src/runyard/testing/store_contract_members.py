"""The store's contract: plans and quotas, members, tokens, who did what, and what is sealed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runyard.core.account import FREE, UNLIMITED, Account, AccountPlan, Member, Principal, Quota, Role, Scope
from runyard.core.errors import Conflict, NotFound, Refused
from runyard.core.spec import Connection, StoreKind
from runyard.ports.accounts import TokenRecord
from runyard.ports.audit import AuditEntry
from runyard.ports.sealed import SealedKind
from runyard.ports.secrets import SecretRecord
from runyard.ports.store import ConnectionRecord, RunQuery, Store
from runyard.testing.builders import NOW, a_run_id, a_submission

TOKEN = TokenRecord("t1", "d" * 64, "ry_abc", Scope.member, "acme", "mia", "laptop", NOW)
TEAM = AccountPlan("team", Quota(gpus=4, waiting=10), 2.0)


def known(store: Store) -> None:
    """The account and the member whose token it is."""
    store.ensure_account(Account("acme", "Acme"))
    store.ensure_member("mia", "acme", "Mia", Role.manager)


class PlanContract:
    """What accounts may have at once."""

    def test_plans_come_with_the_code_and_from_the_operator(self, store: Store) -> None:
        assert list(store.plans()) == [FREE, UNLIMITED]
        store.put_plan(TEAM)
        assert list(store.plans()) == [FREE, TEAM, UNLIMITED]
        store.put_plan(replace(TEAM, weight=3.0))
        assert list(store.plans()) == [FREE, replace(TEAM, weight=3.0), UNLIMITED]
        store.put_plan(AccountPlan("free", Quota(gpus=2)))
        assert store.plans()[0].quota == Quota(gpus=2)
        assert store.delete_plan("free")
        assert store.plans()[0] == FREE
        assert not store.delete_plan("free")
        assert store.delete_plan("team")
        assert not store.delete_plan("team")

    def test_a_plan_in_use_stays(self, store: Store) -> None:
        store.put_plan(TEAM)
        store.add_account(Account("acme", "Acme", plan="team"))
        with pytest.raises(Conflict, match="1 accounts"):
            store.delete_plan("team")
        assert store.change_account("acme", plan="free")
        assert store.delete_plan("team")

    def test_own_quota_lies_over_the_plans(self, store: Store) -> None:
        store.put_plan(TEAM)
        store.add_account(Account("acme", "Acme", plan="team"))
        store.add_account(Account("beta", "Beta", plan="free"))
        assert store.quota_of("acme") == TEAM.quota
        assert store.set_own_quota("acme", {"gpus": None, "cpu_millis": 2000})
        assert store.quota_of("acme") == Quota(None, 2000, None, 10, None)
        assert store.set_own_quota("acme", {"storage_bytes": 5}, ["gpus"])
        assert store.quota_of("acme") == Quota(4, 2000, None, 10, 5)
        assert dict(store.quotas()) == {"acme": Quota(4, 2000, None, 10, 5), "beta": Quota(gpus=1)}
        account = store.account("acme")
        assert account is not None
        assert (account.quota_gpus, dict(account.own)) == (4, {"cpu_millis": 2000, "storage_bytes": 5})
        with pytest.raises(TypeError):
            store.set_own_quota("acme", {"gpu": 1})
        assert store.quota_of("nobody") == Quota()

    def test_a_plans_change_reaches_its_accounts(self, store: Store) -> None:
        store.put_plan(TEAM)
        store.add_account(Account("acme", "Acme", plan="team"))
        store.put_plan(AccountPlan("team", Quota(gpus=9)))
        assert store.quota_of("acme") == Quota(gpus=9)
        assert [account.quota_gpus for account in store.accounts()] == [9]

    def test_an_account_is_added_once_and_changed(self, store: Store) -> None:
        store.add_account(Account("acme", "Acme", plan="free"))
        with pytest.raises(Conflict):
            store.add_account(Account("acme", "Other"))
        with pytest.raises(NotFound, match="gold"):
            store.add_account(Account("beta", "Beta", plan="gold"))
        with pytest.raises(NotFound, match="gold"):
            store.change_account("acme", plan="gold")
        assert store.change_account("acme", name="Acme Ltd", plan="unlimited")
        assert store.account("acme") == Account("acme", "Acme Ltd")
        assert not store.change_account("beta", name="x")

    def test_no_more_runs_wait_than_the_quota_allows(self, store: Store) -> None:
        store.add_account(Account("acme", "Acme"))
        store.set_own_quota("acme", {"waiting": 3})
        store.submit(a_submission(2))
        with pytest.raises(Refused, match="2 runs wait already, 2 more") as refused:
            store.submit(a_submission(2, first=3))
        assert refused.value.code == "quota_waiting"
        assert len(store.runs(RunQuery("acme"))) == 2
        store.submit(a_submission(first=5))

    def test_a_closed_account_is_gone_and_its_runs_are_not(self, store: Store) -> None:
        known(store)
        store.add_token(TOKEN)
        store.set_password("acme", "Mia", "hash")
        store.put_connection(ConnectionRecord("acme", "c", StoreKind.s3, Connection(), NOW, b"s"))
        store.put_secret(SecretRecord("acme", "S", NOW, b"s"))
        store.submit(a_submission())
        with pytest.raises(Conflict, match="1 runs that are not final"):
            store.close_account("acme", NOW)
        assert list(store.cancel_waiting("acme", [a_run_id(1)], NOW)) == [a_run_id(1)]
        assert store.close_account("acme", NOW)
        assert not store.close_account("acme", NOW)
        assert (store.account("acme"), list(store.accounts())) == (None, [])
        assert store.principal(TOKEN.digest, NOW) is None
        assert store.password("acme", "Mia") is None
        assert (list(store.connections("acme")), list(store.secrets("acme"))) == ([], [])
        assert store.run(a_run_id(1)) is not None
        with pytest.raises(Conflict, match="was in use"):
            store.add_account(Account("acme", "Acme"))
        with pytest.raises(NotFound):
            store.submit(a_submission(first=2))


class MemberContract:
    """Who acts, and by which token."""

    def test_members_are_added_changed_and_removed(self, store: Store) -> None:
        store.add_account(Account("acme", "Acme"))
        store.add_account(Account("beta", "Beta"))
        assert store.add_member("acme", "mia", Role.user) == Member("acme/mia", "acme", "mia", 1, Role.user)
        assert store.add_member("beta", "mia", Role.viewer) == Member("beta/mia", "beta", "mia", 2, Role.viewer)
        with pytest.raises(Conflict, match="mia"):
            store.add_member("acme", "mia", Role.admin)
        with pytest.raises(NotFound):
            store.add_member("nobody", "mia", Role.user)
        assert store.set_role("acme", "mia", Role.manager)
        assert not store.set_role("acme", "ben", Role.manager)
        store.add_member("acme", "ben", Role.user)
        roles = [(each.name, each.role) for each in store.members("acme")]
        assert roles == [("ben", Role.user), ("mia", Role.manager)]
        assert store.remove_member("acme", "mia", NOW)
        assert not store.remove_member("acme", "mia", NOW)
        assert not store.set_role("acme", "mia", Role.user)
        assert [each.name for each in store.members("acme")] == ["ben"]
        gone = store.member("acme/mia")
        assert gone is not None
        assert gone.name == "mia"

    def test_a_removed_member_is_nobody_until_taken_in_again(self, store: Store) -> None:
        known(store)
        store.add_token(TOKEN)
        store.set_password("acme", "Mia", "hash")
        assert store.remove_member("acme", "Mia", NOW)
        assert store.principal(TOKEN.digest, NOW) is None
        assert store.password("acme", "Mia") is None
        assert store.add_member("acme", "Mia", Role.viewer) == Member("mia", "acme", "Mia", 1, Role.viewer)
        assert store.principal(TOKEN.digest, NOW) is None, "revoked for good"
        assert store.password("acme", "Mia") == (Member("mia", "acme", "Mia", 1, Role.viewer), None)

    def test_a_password_is_kept_as_it_is_given(self, store: Store) -> None:
        known(store)
        mia = Member("mia", "acme", "Mia", 1, Role.manager)
        assert store.set_password("acme", "Mia", "hash")
        assert store.password("acme", "Mia") == (mia, "hash")
        assert store.set_password("acme", "Mia", None)
        assert store.password("acme", "Mia") == (mia, None)
        assert not store.set_password("acme", "Ben", "hash")
        assert store.password("beta", "Mia") is None

    def test_a_person_of_an_issuer_is_one_member_until_taken_in_again(self, store: Store) -> None:
        known(store)
        ben = store.add_member("acme", "ben", Role.user)
        assert store.by_subject("acme", "s1") is None
        assert store.bind_subject("acme", "ben", "s1")
        assert store.bind_subject("acme", "ben", "s1"), "again is no harm"
        assert store.by_subject("acme", "s1") == (ben, True)
        assert store.by_subject("beta", "s1") is None
        assert not store.bind_subject("acme", "ben", "s2"), "another person"
        assert not store.bind_subject("acme", "Mia", "s1"), "the person is ben"
        assert not store.bind_subject("acme", "zoe", "s3"), "there is none of that name"
        store.remove_member("acme", "ben", NOW)
        assert store.by_subject("acme", "s1") == (ben, False)
        assert not store.bind_subject("acme", "ben", "s1")
        store.add_member("acme", "ben", Role.user)
        assert store.by_subject("acme", "s1") is None
        assert store.bind_subject("acme", "ben", "s2")
        store.close_account("acme", NOW)
        assert store.by_subject("acme", "s2") is None

    def test_a_token_has_the_role_that_its_member_has_now(self, store: Store) -> None:
        known(store)
        store.add_token(TOKEN)
        store.set_role("acme", "Mia", Role.viewer)
        found = store.principal(TOKEN.digest, NOW)
        assert found is not None
        assert found.role is Role.viewer

    def test_a_token_without_its_member_speaks_for_nobody(self, store: Store) -> None:
        store.ensure_account(Account("acme", "Acme"))
        store.add_token(TOKEN)
        assert store.principal(TOKEN.digest, NOW) is None

    def test_the_last_use_only_goes_forward(self, store: Store) -> None:
        known(store)
        store.add_token(TOKEN)
        store.note_used({"t1": NOW + 5, "t9": NOW})
        store.note_used({"t1": NOW + 2})
        assert list(store.tokens("acme")) == [replace(TOKEN, used_ms=NOW + 5)]
        assert list(store.tokens("acme", "mia")) == [replace(TOKEN, used_ms=NOW + 5)]
        assert list(store.tokens("acme", "ben")) == []

    def test_a_token_speaks_for_its_member(self, store: Store) -> None:
        known(store)
        store.add_token(TOKEN)
        assert store.principal(TOKEN.digest, NOW) == Principal("t1", Scope.member, "acme", "mia", role=Role.manager)
        assert store.principal("e" * 64, NOW) is None

    def test_a_token_of_a_node_names_it(self, store: Store) -> None:
        known(store)
        store.add_token(replace(TOKEN, scope=Scope.node, node_id="n1"))
        assert store.principal(TOKEN.digest, NOW) == Principal("t1", Scope.node, "acme", "mia", "n1", Role.manager)

    def test_a_token_expires(self, store: Store) -> None:
        known(store)
        store.add_token(replace(TOKEN, expires_ms=NOW + 10))
        assert store.principal(TOKEN.digest, NOW + 9) is not None
        assert store.principal(TOKEN.digest, NOW + 10) is None

    def test_a_token_is_revoked_once_by_its_own_account(self, store: Store) -> None:
        known(store)
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
        known(store)
        store.add_token(TOKEN)
        with pytest.raises(Conflict):
            store.add_token(other)
        assert list(store.tokens("acme")) == [TOKEN]


def entry(at_ms: int, account_id: str = "acme") -> AuditEntry:
    """Something that was done."""
    return AuditEntry(at_ms, account_id, "t1", "mia", "127.0.0.1", "tokens.add", "t2", "done", 201)


class AuditContract:
    """Who did what."""

    def test_entries_are_numbered_and_read_backwards(self, store: Store) -> None:
        store.add_audit([])
        store.add_audit([entry(1), entry(2, "beta")])
        store.add_audit([entry(3)])
        assert list(store.audit(None)) == [(3, entry(3)), (2, entry(2, "beta")), (1, entry(1))]
        assert list(store.audit("acme")) == [(3, entry(3)), (1, entry(1))]
        assert list(store.audit("acme", before_seq=3)) == [(1, entry(1))]
        assert list(store.audit(None, since_ms=2, limit=1)) == [(3, entry(3))]
        assert list(store.audit("nobody")) == []


class SealedContract:
    """What the vault has sealed."""

    def test_what_another_key_sealed_is_found_and_sealed_again(self, store: Store) -> None:
        known(store)
        assert not store.any_sealed()
        store.put_connection(ConnectionRecord("acme", "open", StoreKind.s3, Connection(), NOW, None))
        assert not store.any_sealed()
        store.put_connection(ConnectionRecord("acme", "c", StoreKind.s3, Connection(), NOW, b"old-c"))
        store.put_secret(SecretRecord("acme", "S", NOW, b"old-s"))
        store.put_secret(SecretRecord("acme", "T", NOW, b"new-s"))
        store.submit(replace(a_submission(), sealed=b"old-x"))
        assert store.any_sealed()
        for kind in SealedKind:
            (found,) = store.sealed_texts(kind, b"new", 10)
            assert found.account_id == "acme"
            assert found.sealed.startswith(b"old")
            assert not store.reseal(replace(found, sealed=b"other"), b"new-y")
            assert store.reseal(found, b"new-y")
            assert list(store.sealed_texts(kind, b"new", 10)) == []
        connection, secret, run = store.connection("acme", "c"), store.secret("acme", "S"), store.run(a_run_id(1))
        assert connection is not None
        assert secret is not None
        assert run is not None
        spec = store.spec(run.spec_id)
        assert spec is not None
        assert (connection.sealed, secret.sealed, spec.sealed) == (b"new-y", b"new-y", b"new-y")
