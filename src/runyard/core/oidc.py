"""Who may enter by OpenID Connect: the operator's settings, and what follows from a person's claims."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, cast
from urllib.parse import urlsplit

from runyard.core.account import Member, Role, Scope, may_grant, rights
from runyard.core.errors import AccessDenied

Claims = Mapping[str, object]
"""What an issuer says of a person (OpenID Connect Core 1.0, section 2)."""
WAYS: Final = ("auto", "device", "code")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TEXTS: Final = ("issuer", "client_id", "client_secret_file", "member_claim", "groups_claim", "way")
_KEYS: Final = (*_TEXTS, "scopes", "create_members", "token_hours", "rules")
_RULE_KEYS: Final = ("group", "email_domain", "account", "role")
_MOST_HOURS: Final = 24 * 366


@dataclass(frozen=True, slots=True)
class Rule:
    """Whom it is about (members of the issuer's ``group``, with a verified address of ``email_domain``; all that is
    named must hold, nothing named is everybody), and where they enter. ``role``: what they may do from now on; None
    leaves that to the account's managers, and new members are users."""

    account: str
    group: str | None = None
    email_domain: str | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Oidc:
    """Whom the installation trusts, and for what. The first of ``rules`` that fits a person decides; where none does,
    they do not enter.

    ``way``: ``device`` (a code to type on another device), ``code`` (a browser on the person's machine), ``auto``: the
    first where the issuer has it. ``member_claim``: the claim with the name of the member, of an address the part
    before ``@``; ``groups_claim``: the one with the groups; both may be paths (``realm_access.roles``).
    ``create_members``: take in those that are not known. ``token_hours``: how long a token lasts.
    """

    issuer: str
    client_id: str
    rules: tuple[Rule, ...]
    client_secret_file: str | None = None
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    member_claim: str = "preferred_username"
    groups_claim: str = "groups"
    create_members: bool = False
    token_hours: float = 12.0
    way: str = "auto"

    @property
    def token_ms(self) -> int:
        """How long a token lasts."""
        return round(self.token_hours * 3_600_000)


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who wants to enter where. ``subject``: SHA-256 (hex) of issuer and subject, which are a person for ever, where
    names change hands."""

    subject: str
    account: str
    name: str
    role: Role | None


def entrant(oidc: Oidc, claims: Claims) -> Entrant:
    """Who that is, by claims that were verified. Raises :class:`AccessDenied`."""
    domain = _email_domain(claims)
    groups = _groups(found_at(claims, oidc.groups_claim))
    rule = next((each for each in oidc.rules if _fits(each, domain, groups)), None)
    if rule is None:
        raise AccessDenied(
            "You are known to the issuer, but nothing in this service's settings lets you in: ask an administrator to "
            "add a rule for your group or address.",
            code="login_failed",
        )
    name = found_at(claims, oidc.member_claim)
    if oidc.member_claim == "email" and domain is None:
        name = None  # an address that nobody has verified is anybody's word
    plain = name.partition("@")[0] if isinstance(name, str) else ""
    if not _NAME.fullmatch(plain):
        raise AccessDenied(
            f"The issuer's claim {oidc.member_claim} holds no name for a member (letters, digits, `.`, `_`, `-`): ask "
            "an administrator to set `member_claim` to another one, or to ask the issuer for the scope that has it.",
            code="login_failed",
        )
    subject = hashlib.sha256(f"{oidc.issuer}\n{claims['sub']}".encode("utf-8", "surrogatepass")).hexdigest()
    return Entrant(subject, rule.account, plain, rule.role)


def refuse_foreign(member: Member, role: Role | None) -> None:
    """That a member who was added by hand may become this person's by name alone: only where they may do no more than
    the rule gives, else who takes a manager's name at the issuer would be that manager. Raises
    :class:`AccessDenied`."""
    if not may_grant(rights(Scope.admin, role or Role.user), member.role):
        raise AccessDenied(
            f"{member.name} was added to {member.account_id} by hand with the role {member.role.value}, which no rule "
            "of the settings gives: ask an administrator for a rule with this role, or for another name.",
            code="login_failed",
        )


def _fits(rule: Rule, domain: str | None, groups: frozenset[str]) -> bool:
    if rule.group is not None and rule.group not in groups:
        return False
    return rule.email_domain is None or rule.email_domain == domain


def found_at(claims: Claims, path: str) -> object:
    """A claim by its name, or by the path to it; None where there is none."""
    if path in claims:
        return claims[path]
    here: object = claims
    for part in path.split("."):
        here = _part(here, part)
    return here


def _part(here: object, name: str) -> object:
    return cast("dict[str, object]", here).get(name) if isinstance(here, dict) else None


def _groups(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset({value})
    if not isinstance(value, list):
        return frozenset()
    return frozenset(each for each in cast("list[object]", value) if isinstance(each, str))


def _email_domain(claims: Claims) -> str | None:
    """The domain of the address, where the issuer has verified it."""
    email = claims.get("email")
    verified = claims.get("email_verified")
    if not isinstance(email, str) or not (verified is True or verified == "true"):
        return None
    return email.rpartition("@")[2].lower() or None


# ------------------------------------------------------------------------------------------------------- the settings
def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name alone."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def insist_on_safe(url: str, *, loopback: bool) -> None:
    """That an address is https, or http on this machine where ``loopback`` allows it, without a password in it. Raises
    ``ValueError`` in words that follow the address's name."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    if not plain or not host or parts.username is not None or parts.fragment:
        raise ValueError("is no address of the form https://HOST/PATH")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback and is_loopback(host)):
        raise ValueError("is not https, and only an issuer on this machine may do without")


def read_oidc(value: object) -> Oidc:
    """The table ``[oidc]``. Raises ``ValueError`` in words that follow the setting's name."""
    table = _table(value, "has issuer, client_id and rules", _KEYS)
    for key in _TEXTS:
        if key in table and not (isinstance(table[key], str) and table[key]):
            raise ValueError(f"{key} is a text")
    for key in ("issuer", "client_id"):
        if key not in table:
            raise ValueError(f"needs {key}")
    try:
        insist_on_safe(str(table["issuer"]), loopback=True)
    except ValueError as error:
        raise ValueError(f"issuer {error}") from None
    if table.get("way", "auto") not in WAYS:
        raise ValueError(f"way is one of {', '.join(WAYS)}")
    scopes = table.get("scopes", list(Oidc.__dataclass_fields__["scopes"].default))
    words = cast("list[object]", scopes) if isinstance(scopes, list) else []
    if "openid" not in words or not all(isinstance(each, str) and each.split() == [each] for each in words):
        raise ValueError('scopes is a list of words with "openid" among them')
    hours = table.get("token_hours", 12.0)
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours <= _MOST_HOURS:
        raise ValueError("token_hours is a number above 0, of at most a year")
    if not isinstance(table.get("create_members", False), bool):
        raise ValueError("create_members is true or false")
    rules = {"rules": _rules(table.get("rules")), "scopes": tuple(cast("list[str]", words))}
    return Oidc(**(table | rules))  # pyright: ignore[reportArgumentType]  # each was checked above


def _table(value: object, words: str, keys: tuple[str, ...]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(words)
    table = cast("dict[str, object]", value)
    unknown = sorted(set(table) - set(keys))
    if unknown:
        raise ValueError(f"knows no {unknown[0]}; there are {', '.join(keys)}")
    return table


def _rules(value: object) -> tuple[Rule, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("needs [[oidc.rules]]: who may enter, and where; without one nobody could")
    return tuple(_rule(each) for each in cast("list[object]", value))


def _rule(value: object) -> Rule:
    table = _table(value, "rules are tables: [[oidc.rules]] with account", _RULE_KEYS)
    if not all(isinstance(each, str) and each for each in table.values()) or "account" not in table:
        raise ValueError("rules have account, and if you like group, email_domain and role, each a text")
    fields = cast("dict[str, str]", table)
    if "role" in fields and fields["role"] not in list(Role):
        raise ValueError(f"rules: role is one of {', '.join(Role)}")
    role = Role(fields["role"]) if "role" in fields else None
    domain = fields.get("email_domain")
    return Rule(fields["account"], fields.get("group"), None if domain is None else domain.lower(), role)
