"""Calls about accounts, members, plans, quotas, tokens, and who did what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from runyard.client.calls import Calls
from runyard.client.decode import children, integer, number, text, text_or_none
from runyard.client.later import Later
from runyard.client.transport import path_of

if TYPE_CHECKING:
    from runyard.client import access_records
    from runyard.client.access_records import (
        Account,
        AuditEntry,
        Login,
        Member,
        NewMember,
        NewToken,
        Plan,
        Quota,
        SignInBegun,
        Token,
    )
else:
    access_records = Later("runyard.client.access_records")


class AccessCalls(Calls):
    """Who pays, who acts, and by which token."""

    def accounts(self) -> tuple[Account, ...]:
        """The accounts that this token may see."""
        return tuple(access_records.Account.of(each) for each in children(self._get("/accounts"), "items"))

    def account(self, account: str) -> Account:
        """One account."""
        return access_records.Account.of(self._get(path_of("accounts", account)))

    def add_account(self, account: str, *, name: str | None = None, plan: str | None = None) -> Account:
        """Make an account, on the free plan unless told. For an admin."""
        document = {"id": account} | _given(name=name, plan=plan)
        return access_records.Account.of(self._send("POST", "/accounts", document))

    def set_account(self, account: str, *, name: str | None = None, plan: str | None = None) -> Account:
        """Give an account another name or plan. For an admin."""
        return access_records.Account.of(self._send("PUT", path_of("accounts", account), _given(name=name, plan=plan)))

    def remove_account(self, account: str) -> None:
        """Close an account. For an admin."""
        self._send("DELETE", path_of("accounts", account))

    def members(self, account: str) -> tuple[Member, ...]:
        """Who is in an account."""
        return tuple(
            access_records.Member.of(each)
            for each in children(self._get(path_of("accounts", account, "members")), "items")
        )

    def add_member(self, account: str, name: str, role: str = "user") -> NewMember:
        """Take somebody in; tells a token for them this once. For a manager."""
        document = {"name": name, "role": role}
        return access_records.NewMember.of(self._send("POST", path_of("accounts", account, "members"), document))

    def set_role(self, account: str, member: str, role: str) -> Member:
        """Give a member another role. For a manager."""
        return access_records.Member.of(
            self._send("PUT", path_of("accounts", account, "members", member), {"role": role})
        )

    def remove_member(self, account: str, member: str) -> None:
        """Remove a member and revoke their tokens. For a manager."""
        self._send("DELETE", path_of("accounts", account, "members", member))

    def set_password(self, account: str, member: str, password: str, current: str | None = None) -> None:
        """Set a password; ``current``: the one that is replaced, where it is one's own."""
        document = {"password": password} | _given(current=current)
        self._send("PUT", path_of("accounts", account, "members", member, "password"), document)

    def login(self, account: str, member: str, password: str, scope: str = "member") -> Login:
        """Sign in with a password."""
        document = {"account": account, "member": member, "password": password, "scope": scope}
        return access_records.Login.of(self._send("POST", "/login", document))

    def begin_login(self, redirect_port: int | None = None, scope: str = "member") -> SignInBegun:
        """Begin to sign in by OpenID Connect. ``redirect_port``: where a browser may come back to, on 127.0.0.1."""
        return access_records.SignInBegun.of(
            self._send("POST", "/login/oidc", {"scope": scope} | _given(redirect_port=redirect_port))
        )

    def finish_login(self, login: str, code: str | None = None, state: str | None = None) -> Login | float:
        """The token; or, while the person has not signed in at the issuer, the seconds after which to ask again.
        ``code`` and ``state``: what the browser brought back."""
        answer = self._send("POST", "/login/oidc/finish", {"login": login} | _given(code=code, state=state))
        return access_records.Login.of(answer) if "token" in answer else number(answer, "interval_s")

    def plans(self) -> tuple[Plan, ...]:
        """What accounts may be given."""
        return tuple(access_records.Plan.of(each) for each in children(self._get("/plans"), "items"))

    def set_plan(self, plan: str, quota: Mapping[str, int | None], weight: float = 1.0) -> Plan:
        """Make or change a plan; what is not in ``quota`` has no limit. For an admin."""
        return access_records.Plan.of(
            self._send("PUT", path_of("plans", plan), {"quota": dict(quota), "weight": weight})
        )

    def remove_plan(self, plan: str) -> None:
        """Remove a plan. For an admin."""
        self._send("DELETE", path_of("plans", plan))

    def quota(self, account: str | None = None) -> Quota:
        """What an account (one's own, without a name) may have at once."""
        return access_records.Quota.of(self._get("/quota" if account is None else path_of("quota", account)))

    def set_quota(self, account: str, own: Mapping[str, int | None], plan: Sequence[str] = ()) -> Quota:
        """Change some parts of it (None: no limit), and give the parts in ``plan`` back to the plan. For an admin."""
        return access_records.Quota.of(self._send("PUT", path_of("quota", account), {**own, "plan": list(plan)}))

    def audit(
        self, *, account: str | None = None, since: str | None = None, limit: int | None = None
    ) -> Iterator[AuditEntry]:
        """Who did what, the newest first; ``limit``: at most so many. For a manager."""
        cursor, left = None, limit
        while left is None or left > 0:
            page = 1000 if left is None else min(left, 1000)
            about = {"account": account, "since": since, "limit": page, "cursor": cursor}
            raw = self._get("/audit", about)
            found = children(raw, "items")
            yield from (access_records.AuditEntry.of(each) for each in found)
            left = None if left is None else left - len(found)
            cursor = text_or_none(raw, "next")
            if cursor is None:
                return

    def rotate_key(self) -> int:
        """Seal all that is kept sealed with a new key; how much that was. For an admin."""
        return integer(self._send("POST", "/secrets/rotate-key", {}, repeatable=True), "resealed")

    def tokens(self) -> tuple[Token, ...]:
        """One's own tokens, for a manager the account's, without their texts."""
        return tuple(access_records.Token.of(each) for each in children(self._get("/tokens"), "items"))

    def add_token(self, name: str, *, scope: str | None = None, expires_in_days: float | None = None) -> NewToken:
        """Make a token; its text is told this once. ``scope``: read, submit, member (the default) or admin."""
        document = {"name": name} | _given(scope=scope, expires_in_days=expires_in_days)
        raw = self._send("POST", "/tokens", document)
        return access_records.NewToken(text(raw, "id"), text(raw, "token"))

    def remove_token(self, token_id: str) -> None:
        """Revoke a token."""
        self._send("DELETE", path_of("tokens", token_id))


def _given(**document: object) -> dict[str, object]:
    """Without what was not said."""
    return {key: value for key, value in document.items() if value is not None}
