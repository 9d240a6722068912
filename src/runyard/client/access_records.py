"""What the service tells of accounts, members, plans, tokens and who did what; ``raw`` is the whole JSON object."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from runyard.client.decode import Json, child, integer, integer_or_none, moment, number, text, truth


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """What may be had at once; None: no limit. CPUs in thousandths, memory in MiB, storage in bytes."""

    gpus: int | None
    cpu_millis: int | None
    memory_mib: int | None
    waiting: int | None
    storage_bytes: int | None

    @staticmethod
    def of(raw: Json) -> QuotaLimits:
        """Read some."""
        return QuotaLimits(
            integer_or_none(raw, "gpus"),
            integer_or_none(raw, "cpu_millis"),
            integer_or_none(raw, "memory_mib"),
            integer_or_none(raw, "waiting"),
            integer_or_none(raw, "storage_bytes"),
        )


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may have at once, and has; ``gpus`` None: as much as there is. ``used_storage_bytes``: None where
    storage is not limited."""

    account: str
    plan: str
    gpus: int | None
    used_gpus: int
    slots: int | None
    limits: QuotaLimits
    used_cpu_millis: int
    used_memory_mib: int
    used_waiting: int
    used_storage_bytes: int | None
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Quota:
        """Read one."""
        return Quota(
            text(raw, "account"),
            text(raw, "plan"),
            integer_or_none(raw, "gpus"),
            integer(raw, "used_gpus"),
            integer_or_none(raw, "slots"),
            QuotaLimits.of(raw),
            integer(raw, "used_cpu_millis"),
            integer(raw, "used_memory_mib"),
            integer(raw, "used_waiting"),
            integer_or_none(raw, "used_storage_bytes"),
            raw,
        )


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is listed: never its text. ``used_at``: to about a minute."""

    id: str
    name: str
    scope: str
    member: str
    created_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Token:
        """Read one."""
        return Token(
            text(raw, "id"),
            text(raw, "name"),
            text(raw, "scope"),
            text(raw, "member"),
            moment(raw, "created_at"),
            moment(raw, "expires_at"),
            moment(raw, "revoked_at"),
            moment(raw, "used_at"),
            raw,
        )


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made; ``token`` is shown this once."""

    id: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """What signing in gives: a token for some hours."""

    token: str = field(repr=False)
    expires_at: datetime | None
    account: str
    member: str
    role: str

    @staticmethod
    def of(raw: Json) -> Login:
        """Read one."""
        return Login(
            text(raw, "token"), moment(raw, "expires_at"), text(raw, "account"), text(raw, "member"), text(raw, "role")
        )


@dataclass(frozen=True, slots=True)
class SignInBegun:
    """A sign-in by OpenID Connect that has begun. ``login``: the word that it is finished with. ``way`` is ``device``
    (the person types ``user_code`` at ``verification_uri``) or ``code`` (a browser goes to ``authorization_url`` and
    comes back to the port that was given)."""

    way: str
    login: str = field(repr=False)
    expires_at: datetime | None
    authorization_url: str
    verification_uri: str
    verification_uri_complete: str
    user_code: str
    interval_s: float

    @staticmethod
    def of(raw: Json) -> SignInBegun:
        """Read one."""
        return SignInBegun(
            way=text(raw, "way"),
            login=text(raw, "login"),
            expires_at=moment(raw, "expires_at"),
            authorization_url=text(raw, "authorization_url"),
            verification_uri=text(raw, "verification_uri"),
            verification_uri_complete=text(raw, "verification_uri_complete"),
            user_code=text(raw, "user_code"),
            interval_s=number(raw, "interval_s"),
        )


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays; ``quota_gpus`` None: no limit. ``limits``: all that it may have at once."""

    id: str
    name: str
    plan: str
    quota_gpus: int | None
    paused: bool
    limits: QuotaLimits
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Account:
        """Read one."""
        return Account(
            text(raw, "id"),
            text(raw, "name"),
            text(raw, "plan"),
            integer_or_none(raw, "quota_gpus"),
            truth(raw, "paused"),
            QuotaLimits.of(child(raw, "quota")),
            raw,
        )


@dataclass(frozen=True, slots=True)
class Member:
    """Who is in an account: viewer, user, manager or admin."""

    name: str
    role: str
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Member:
        """Read one."""
        return Member(text(raw, "name"), text(raw, "role"), raw)


@dataclass(frozen=True, slots=True)
class NewMember:
    """A member just taken in, and a token for them, shown this once."""

    name: str
    role: str
    token_id: str
    token: str = field(repr=False)

    @staticmethod
    def of(raw: Json) -> NewMember:
        """Read one."""
        return NewMember(text(raw, "name"), text(raw, "role"), text(raw, "id"), text(raw, "token"))


@dataclass(frozen=True, slots=True)
class Plan:
    """What accounts may be given. ``weight``: of the fair share of each."""

    name: str
    weight: float
    limits: QuotaLimits
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> Plan:
        """Read one."""
        return Plan(text(raw, "name"), number(raw, "weight"), QuotaLimits.of(child(raw, "quota")), raw)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that somebody did or tried."""

    seq: int
    at: datetime | None
    account: str
    member: str
    token: str
    address: str
    action: str
    object: str
    outcome: str
    status: int
    raw: Json = field(repr=False)

    @staticmethod
    def of(raw: Json) -> AuditEntry:
        """Read one."""
        return AuditEntry(
            integer(raw, "seq"),
            moment(raw, "at"),
            text(raw, "account"),
            text(raw, "member"),
            text(raw, "token"),
            text(raw, "address"),
            text(raw, "action"),
            text(raw, "object"),
            text(raw, "outcome"),
            integer(raw, "status"),
            raw,
        )
