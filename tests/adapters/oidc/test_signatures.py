"""Signed tokens: what one library signs ours believes, and nothing else."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import RSAKey

from runyard.adapters.oidc.signatures import NotGood, UnknownKey, verified
from tests.support.issuer import Key, a_key, plain, signed

CLAIMS = {"sub": "u-1", "n": 1}
RSA, OTHER = a_key("one"), a_key("two")
P256, P384, ED = a_key("p256", "EC", "P-256"), a_key("p384", "EC", "P-384"), a_key("ed", "OKP", "Ed25519")


def public(*keys: Key) -> list[dict[str, Any]]:
    return [dict(key.as_dict(private=False)) for key in keys]


ALL = public(RSA, OTHER, P256, P384, ED)


@pytest.mark.parametrize(
    ("alg", "key"),
    [("RS256", RSA), ("RS384", RSA), ("RS512", OTHER), ("PS256", OTHER), ("ES256", P256), ("ES384", P384),
     ("Ed25519", ED)],
)  # fmt: skip
def test_what_another_library_has_signed_holds(alg: str, key: Key) -> None:
    token = signed(CLAIMS, key, alg)
    assert verified(token, ALL) == CLAIMS
    with pytest.raises(UnknownKey):
        verified(token, [each for each in ALL if each["kid"] != key.kid])
    head, body, signature = token.split(".")
    with pytest.raises(NotGood, match="signature is wrong"):
        verified(f"{head}.{plain(CLAIMS | {'n': 2})}.{signature}", ALL)
    with pytest.raises(NotGood):
        verified(f"{head}.{body}.", ALL)


def hs256(secret: bytes) -> str:
    text = f"{plain({'alg': 'HS256', 'kid': 'one'})}.{plain(CLAIMS)}"
    return f"{text}.{plain(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def test_what_is_not_signed_with_a_private_key_does_not_hold() -> None:
    for alg in ("none", "None", "NONE", "", None, 1, ["RS256"]):
        with pytest.raises(NotGood, match="in a way that is not taken"):
            verified(f"{plain({'alg': alg, 'kid': 'one'})}.{plain(CLAIMS)}.{plain(b'x')}", ALL)
    with pytest.raises(NotGood, match="no signed token"):
        verified(f"{plain({'alg': 'none'})}.{plain(CLAIMS)}.", ALL)
    assert isinstance(RSA, RSAKey)
    for secret in (RSA.as_pem(private=False), json.dumps(ALL[0]).encode(), ALL[0]["n"].encode()):
        with pytest.raises(NotGood, match="in a way that is not taken"):
            verified(hs256(secret), ALL)
        with pytest.raises(NotGood, match="in a way that is not taken"):
            verified(hs256(secret), [*ALL, {"kty": "oct", "kid": "one", "k": plain(secret)}])


def test_the_key_decides_what_it_is_for() -> None:
    token = signed(CLAIMS, RSA)
    for wrong in ({"use": "enc"}, {"alg": "PS256"}, {"kty": "EC"}):
        with pytest.raises(UnknownKey):
            verified(token, [public(RSA)[0] | wrong])
    with pytest.raises(UnknownKey):
        verified(token, public(RSA, RSA))
    with pytest.raises(NotGood, match="signature is wrong"):
        verified(token, [public(OTHER)[0] | {"kid": "one"}])
    with pytest.raises(NotGood, match="not taken"):
        verified(signed(CLAIMS, RSA, crit=["b64"], b64=True), ALL)


def test_a_token_without_a_name_of_its_key_needs_just_one_that_fits() -> None:
    token = signed(CLAIMS, RSA, kid=None)
    assert verified(token, public(RSA, P256)) == CLAIMS
    with pytest.raises(UnknownKey):
        verified(token, public(RSA, OTHER))


@pytest.mark.parametrize(
    "broken",
    [{"n": plain(b"\x01" * 64)}, {"n": plain(b"\xff" * 2048)}, {"e": plain(b"\x01" * 9)}, {"n": None}, {"n": 5},
     {"e": "AQAB="}, {"n": "!!"}, {"e": plain(b"\x00")}, {"e": plain(b"\x02")}],
)  # fmt: skip
def test_a_key_that_is_none_verifies_nothing(broken: dict[str, Any]) -> None:
    with pytest.raises(NotGood, match="signature is wrong"):
        verified(signed(CLAIMS, RSA), [public(RSA)[0] | broken])


@pytest.mark.parametrize(("x", "y"), [(b"\x01" * 32, b"\x01" * 32), (b"\x00", b"\x00"), (b"\xff" * 99, b"\x01")])
def test_a_point_that_is_on_no_curve_verifies_nothing(x: bytes, y: bytes) -> None:
    with pytest.raises(NotGood, match="signature is wrong"):
        verified(signed(CLAIMS, P256, "ES256"), [public(P256)[0] | {"x": plain(x), "y": plain(y)}])


@pytest.mark.parametrize(
    "body",
    [b"[]", b"1", b'{"exp": NaN}', b"{", b"\xff", b"[" * 20_000, b'{"a":' * 9_000, b'{"n": ' + b"9" * 9000 + b"}"]
)  # fmt: skip
def test_what_is_signed_has_to_be_an_object(body: bytes) -> None:
    token = jws.serialize_compact({"alg": "RS256", "kid": "one"}, body, RSA)
    with pytest.raises(NotGood, match="no JSON object"):
        verified(token, ALL)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2000), st.characters(codec="ascii"))
def test_no_other_text_holds_but_the_same_words(position: int, letter: str) -> None:
    token = TOKEN
    at = position % len(token)
    other = token[:at] + letter + token[at + 1 :]
    try:
        assert verified(other, ALL) == CLAIMS
    except NotGood:
        return
    # The last letter of base64 has bits that say nothing.
    assert other == token or at == len(token) - 1


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(NotGood):
        verified(text, ALL)


TOKEN = signed(CLAIMS, P256, "ES256")
