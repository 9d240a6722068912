"""The store of record, as far as accounts, plans, members and tokens go. All methods commit before they return."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runyard.core.account import Account, AccountPlan, Member, OwnQuota, Principal, Quota, Role, Scope


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as it is kept: only the SHA-256 digest (hex) of its text. ``hint``: its first characters, for lists.
    ``used_ms``: when it was last used, to about a minute."""

    id: str
    digest: str
    hint: str
    scope: Scope
    account_id: str
    member_id: str
    name: str
    created_ms: int
    node_id: str | None = None
    expires_ms: int | None = None
    revoked_ms: int | None = None
    used_ms: int | None = None


class Accounts(Protocol):
    """Who pays, who acts, and how they prove it. Closed accounts and removed members are as if they were not there,
    but their ids stay in use, and :meth:`member` still tells the name of one."""

    # accounts and plans
    def ensure_account(self, account: Account) -> Account:
        """Create the account unless one of that id is there; returns what is there."""
        ...

    def add_account(self, account: Account) -> None:
        """Create an account. Raises ``Conflict`` when its id is or was in use, ``NotFound`` for an unknown plan."""
        ...

    def account(self, account_id: str) -> Account | None:
        """The account of that id."""
        ...

    def accounts(self) -> Sequence[Account]:
        """All accounts, by id."""
        ...

    def change_account(self, account_id: str, *, name: str | None = None, plan: str | None = None) -> bool:
        """Give it another name or plan; False when there is none. Raises ``NotFound`` for an unknown plan."""
        ...

    def close_account(self, account_id: str, now_ms: int) -> bool:
        """Revoke its tokens, forget its connections, secrets and passwords, and list it no more; runs, events and
        ledger stay. False when there is no such account. Raises ``Conflict`` while it has runs that are not final."""
        ...

    def set_own_quota(self, account_id: str, own: OwnQuota, dropped: Collection[str] = ()) -> bool:
        """Set some fields of the quota of an account in the place of its plan's, and give ``dropped`` ones back to the
        plan; False when there is no such account."""
        ...

    def quota_of(self, account_id: str) -> Quota:
        """What the account may have at once: its plan's quota with its own laid over it. No limits for none."""
        ...

    def quotas(self) -> Mapping[str, Quota]:
        """The same of all accounts, by their ids."""
        ...

    def plans(self) -> Sequence[AccountPlan]:
        """All plans, by name: those that come with the code, and what the operator made or changed."""
        ...

    def put_plan(self, plan: AccountPlan) -> None:
        """Create or change a plan."""
        ...

    def delete_plan(self, name: str) -> bool:
        """Remove a plan (one that comes with the code is as it came again); False when there was nothing to remove.
        Raises ``Conflict`` when accounts are on it and it would be gone."""
        ...

    def set_paused(self, account_id: str | None, paused: bool) -> bool:
        """Hold or resume an account's queue, or the whole queue (None); False when there is no such account."""
        ...

    def queue_paused(self) -> bool:
        """Whether the whole queue is held."""
        ...

    # members
    def ensure_member(self, member_id: str, account_id: str, name: str, role: Role = Role.user) -> Member:
        """Create the member, with the next free number, unless one of that id is there; returns what is there.

        Raises ``NotFound`` when there is no such account.
        """
        ...

    def add_member(self, account_id: str, name: str, role: Role) -> Member:
        """Create a member, or take one that was removed in again. Raises ``Conflict`` when the name is in use in the
        account, ``NotFound`` when there is no such account."""
        ...

    def member(self, member_id: str) -> Member | None:
        """The member of that id, a removed one too."""
        ...

    def members(self, account_id: str) -> Sequence[Member]:
        """The members of an account, by name."""
        ...

    def set_role(self, account_id: str, name: str, role: Role) -> bool:
        """Change what a member may do; False when there is none of that name."""
        ...

    def remove_member(self, account_id: str, name: str, now_ms: int) -> bool:
        """Remove a member and revoke their tokens; False when there is none of that name."""
        ...

    def set_password(self, account_id: str, name: str, hashed: str | None) -> bool:
        """Keep the hash of a member's password, or none; False when there is no such member."""
        ...

    def password(self, account_id: str, name: str) -> tuple[Member, str | None] | None:
        """A member and the hash of their password; None when there is no such member."""
        ...

    def by_subject(self, account_id: str, subject: str) -> tuple[Member, bool] | None:
        """The member of an account that a person of an OpenID Connect issuer is, by the digest of both, and whether
        they still are a member; None when nobody is, or there is no such account."""
        ...

    def bind_subject(self, account_id: str, name: str, subject: str) -> bool:
        """From now on this person is that member, until they are removed and taken in again. False when there is no
        such member, when they are another person, or when the person is another member of the account."""
        ...

    # tokens
    def principal(self, digest: str, now_ms: int) -> Principal | None:
        """Who a token (by its digest) speaks for; None when unknown, expired (from ``expires_ms`` on) or revoked,
        or when its account or member is gone. A node's token needs no member."""
        ...

    def add_token(self, token: TokenRecord) -> None:
        """Keep a new token; raises ``Conflict`` when its id or digest is in use."""
        ...

    def tokens(self, account_id: str, member_id: str | None = None) -> Sequence[TokenRecord]:
        """All tokens of an account (of one member), the oldest first, revoked ones too."""
        ...

    def revoke_token(self, account_id: str, token_id: str, now_ms: int) -> bool:
        """Revoke a token of the account; False when there is none, or it was revoked before."""
        ...

    def note_used(self, used: Mapping[str, int]) -> None:
        """Note when tokens (by id) were last used; an earlier time than the one that is known changes nothing."""
        ...
