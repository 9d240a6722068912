"""Who may enter by OpenID Connect, and where: settings, rules, claims."""

from typing import Any

import pytest

from runyard.core.account import Member, Role
from runyard.core.errors import AccessDenied
from runyard.core.id_tokens import LEEWAY_S, insist_on
from runyard.core.oidc import Oidc, Rule, entrant, read_oidc, refuse_foreign

LEAST = {"issuer": "https://id.example", "client_id": "runyard", "rules": [{"account": "lab"}]}
MIA = {"sub": "u-1", "preferred_username": "mia", "email": "mia@Lab.Example", "email_verified": True,
       "groups": ["/ml"], "realm_access": {"roles": ["gpu", 5]}, "https://lab.example/name": "m.curie"}  # fmt: skip
NOW_S = 1_800_000_000
GOOD = {"iss": "https://id.example", "aud": "runyard", "sub": "u-1", "exp": NOW_S + 60, "iat": NOW_S, "nonce": "n"}


def test_the_least_and_the_most() -> None:
    least = read_oidc(LEAST)
    assert least == Oidc("https://id.example", "runyard", (Rule("lab"),))
    assert (least.way, least.create_members, least.token_ms) == ("auto", False, 12 * 3_600_000)
    more = read_oidc(
        LEAST | {"scopes": ["openid", "groups"], "token_hours": 1, "create_members": True, "way": "device",
                 "client_secret_file": "/x", "member_claim": "email", "groups_claim": "a.b",
                 "rules": [{"account": "lab", "group": "ml", "email_domain": "Lab.example", "role": "manager"}]}
    )  # fmt: skip
    assert more.rules == (Rule("lab", "ml", "lab.example", Role.manager),)
    assert (more.scopes, more.token_ms, more.create_members) == (("openid", "groups"), 3_600_000, True)
    assert read_oidc(LEAST | {"issuer": "http://127.0.0.1:9400"}).issuer == "http://127.0.0.1:9400"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"isuer": "x"}, "knows no isuer"),
        ({"issuer": None}, "issuer is a text"),
        ({"issuer": "http://id.example"}, "issuer is not https"),
        ({"issuer": "id.example"}, "issuer is no address"),
        ({"issuer": "https://a b"}, "issuer is no address"),
        ({"issuer": "https://id.example:x"}, "issuer is no address"),
        ({"client_id": ""}, "client_id is a text"),
        ({"way": "both"}, "way is one of auto, device, code"),
        ({"scopes": ["profile"]}, '"openid" among them'),
        ({"scopes": "openid"}, "scopes is a list"),
        ({"scopes": ["openid", "a b"]}, "scopes is a list"),
        ({"token_hours": 0}, "token_hours"),
        ({"token_hours": True}, "token_hours"),
        ({"token_hours": float("nan")}, "token_hours"),
        ({"create_members": "yes"}, "create_members is true or false"),
        ({"rules": []}, "needs [[oidc.rules]]"),
        ({"rules": [3]}, "rules are tables"),
        ({"rules": [{}]}, "rules have account"),
        ({"rules": [{"account": 3}]}, "rules have account"),
        ({"rules": [{"account": "lab", "role": "boss"}]}, "role is one of viewer,"),
        ({"rules": [{"account": "lab", "domain": "x"}]}, "knows no domain"),
    ],
)
def test_a_slip_in_the_settings_is_told(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as told:
        read_oidc(LEAST | change)
    assert sentence in str(told.value)


@pytest.mark.parametrize("missing", ["issuer", "client_id", "rules"])
def test_what_is_needed(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        read_oidc({key: value for key, value in LEAST.items() if key != missing})
    with pytest.raises(ValueError, match="has issuer, client_id and rules"):
        read_oidc([])


@pytest.mark.parametrize(
    ("rules", "claims", "more", "account", "role"),
    [
        ((Rule("lab"),), {}, {}, "lab", None),
        ((Rule("a", "/other"), Rule("b", "/ml", role=Role.viewer), Rule("c")), {}, {}, "b", Role.viewer),
        ((Rule("a", email_domain="lab.example"),), {}, {}, "a", None),
        ((Rule("a", email_domain="lab.example"),), {"email_verified": "true"}, {}, "a", None),
        ((Rule("a", email_domain="lab.example"),), {"email_verified": False}, {}, None, None),
        ((Rule("a", email_domain="lab.example"),), {"email_verified": 1}, {}, None, None),
        ((Rule("a", email_domain="lab.example"),), {"email": "mia@lab.example.evil"}, {}, None, None),
        ((Rule("a", email_domain="lab.example"),), {"email": "mia@evil@lab.example"}, {}, "a", None),
        ((Rule("a", "/ml", "other.example"),), {}, {}, None, None),
        ((Rule("a", "gpu"),), {}, {"groups_claim": "realm_access.roles"}, "a", None),
        ((Rule("a", "gpu"),), {"groups": "gpu"}, {}, "a", None),
        ((Rule("a", "gpu"),), {"groups": {"gpu": 1}}, {}, None, None),
        ((Rule("a", "gpu"),), {}, {"groups_claim": "sub.roles"}, None, None),
    ],
)
def test_the_first_rule_that_fits(
    rules: tuple[Rule, ...], claims: dict[str, Any], more: dict[str, str], account: str | None, role: Role | None
) -> None:
    oidc = Oidc("https://id.example", "runyard", rules, **more)  # type: ignore[arg-type]  # names of claims
    if account is None:
        with pytest.raises(AccessDenied, match="nothing in this service's settings lets you in"):
            entrant(oidc, MIA | claims)
    else:
        found = entrant(oidc, MIA | claims)
        assert (found.account, found.role, found.name) == (account, role, "mia")


@pytest.mark.parametrize(
    ("claim", "claims", "name"),
    [
        ("email", {}, "mia"),
        ("email", {"email_verified": False}, None),
        ("preferred_username", {"preferred_username": "ben@lab.example"}, "ben"),
        ("https://lab.example/name", {}, "m.curie"),
        ("preferred_username", {"preferred_username": "../x"}, None),
        ("preferred_username", {"preferred_username": "a/b"}, None),
        ("preferred_username", {"preferred_username": ""}, None),
        ("preferred_username", {"preferred_username": "mia\n"}, None),
        ("preferred_username", {"preferred_username": ["mia"]}, None),
        ("absent", {}, None),
    ],
)
def test_the_name_of_a_member(claim: str, claims: dict[str, Any], name: str | None) -> None:
    oidc = Oidc("https://id.example", "runyard", (Rule("lab"),), member_claim=claim)
    if name is None:
        with pytest.raises(AccessDenied, match="holds no name for a member"):
            entrant(oidc, MIA | claims)
    else:
        assert entrant(oidc, MIA | claims).name == name


def test_a_person_is_issuer_and_subject() -> None:
    one = Oidc("https://id.example", "runyard", (Rule("lab"),))
    other = Oidc("https://id2.example", "runyard", (Rule("lab"),))
    subjects = [entrant(each, MIA | {"sub": sub}).subject for each in (one, other) for sub in ("u-1", "u-2", "\ud800")]
    assert len(set(subjects)) == 6
    assert entrant(one, MIA | {"preferred_username": "maria"}).subject == subjects[0], "names may change"


def test_a_name_alone_gives_nobody_more_than_the_rule() -> None:
    for role in (Role.viewer, Role.user):
        refuse_foreign(Member("lab/mia", "lab", "mia", 1, role), None)
    refuse_foreign(Member("lab/mia", "lab", "mia", 1, Role.manager), Role.manager)
    for role, given in ((Role.manager, None), (Role.admin, Role.manager), (Role.user, Role.viewer)):
        with pytest.raises(AccessDenied, match="by hand"):
            refuse_foreign(Member("lab/mia", "lab", "mia", 1, role), given)


def check(claims: dict[str, Any], nonce: str | None = "n") -> None:
    insist_on(claims, issuer="https://id.example", client_id="runyard", nonce=nonce, now_ms=NOW_S * 1000)


@pytest.mark.parametrize(
    "change",
    [{}, {"aud": ["runyard"]}, {"aud": ["runyard", "x"], "azp": "runyard"}, {"azp": "runyard"},
     {"exp": NOW_S - LEEWAY_S + 1}, {"iat": NOW_S + LEEWAY_S}, {"nbf": NOW_S + LEEWAY_S}, {"exp": NOW_S + 0.5}],
)  # fmt: skip
def test_claims_that_hold(change: dict[str, Any]) -> None:
    check(GOOD | change)
    check({key: value for key, value in (GOOD | change).items() if key != "nonce"}, nonce=None)


@pytest.mark.parametrize(
    "change",
    [{"iss": "https://id.example/"}, {"iss": None}, {"aud": "x"}, {"aud": []}, {"aud": None}, {"aud": {"runyard": 1}},
     {"aud": "runyard2"}, {"aud": ["runyard", "x"]}, {"azp": "x"}, {"azp": ""}, {"sub": ""}, {"sub": 5},
     {"sub": "x" * 256},
     {"exp": NOW_S - LEEWAY_S}, {"exp": None}, {"exp": True}, {"exp": "9999999999"}, {"iat": NOW_S + LEEWAY_S + 1},
     {"iat": None}, {"nbf": NOW_S + LEEWAY_S + 1}, {"nbf": None}, {"nonce": "m"}, {"nonce": None}, {"nonce": 5},
     {"nonce": "\ud800"}],
)  # fmt: skip
def test_claims_that_do_not(change: dict[str, Any]) -> None:
    with pytest.raises(AccessDenied, match="ID token is not good") as told:
        check(GOOD | change)
    assert told.value.code == "login_failed"
