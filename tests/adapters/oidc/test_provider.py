"""An issuer as it should be, and as it should not: over real HTTP on loopback."""

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runyard.adapters.oidc import Fetching, Provider
from runyard.adapters.oidc.fetching import MOST_BYTES
from runyard.core.errors import AccessDenied, IssuerAway
from runyard.core.oidc import Oidc, Rule
from runyard.ports.issuer import Device, Pending
from tests.support.issuer import CLIENT, FakeIssuer, a_key, an_issuer, plain, signed

ONE, TWO = a_key("one"), a_key("two")
WELL_KNOWN = "/.well-known/openid-configuration"


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    with an_issuer([ONE]) as running:
        yield running


def provider(issuer: FakeIssuer, patience_s: float = 5.0, **more: Any) -> Provider:
    return Provider(Oidc(issuer.url, CLIENT, (Rule("default"),), **more), Fetching(patience_s=patience_s))


def redeem(one: Provider, issuer: FakeIssuer, nonce: str = "nonce-1") -> Any:
    """The whole of the code grant, with a verifier whose challenge was sent."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).decode().rstrip("=")
    back = issuer.visit(one.authorization_url("http://127.0.0.1:5/callback", "state", nonce, challenge))
    return one.redeem_code(back["code"], back["redirect_uri"], "v" * 43, nonce, int(time.time() * 1000))


def test_both_grants(issuer: FakeIssuer) -> None:
    one = provider(issuer)
    assert redeem(one, issuer)["preferred_username"] == "mia"
    began = one.begin_device()
    assert isinstance(began, Device)
    assert (began.user_code, began.interval_s, began.expires_s) == ("WDJB-MJHT", 0.05, 300)
    assert "d-1" not in repr(began)
    issuer.answers = ["authorization_pending", "slow_down"]
    now = int(time.time() * 1000)
    assert one.redeem_device("d-1", now) == Pending()
    assert one.redeem_device("d-1", now) == Pending(slower=True)
    claims = one.redeem_device("d-1", now)
    assert not isinstance(claims, Pending)
    assert claims["sub"] == "u-1"
    assert (issuer.count(WELL_KNOWN), issuer.count("/keys")) == (1, 1), "kept"


def test_an_issuer_without_the_device_grant(issuer: FakeIssuer) -> None:
    issuer.device = False
    assert provider(issuer).begin_device() is None
    issuer.device = True
    issuer.pages["/device"] = lambda: (401, {}, b'{"error": "unauthorized_client"}')
    assert provider(issuer).begin_device() is None


@pytest.mark.parametrize("ways", [None, ["client_secret_basic"], ["client_secret_post"]])
def test_the_secret_is_read_when_it_is_needed(issuer: FakeIssuer, tmp_path: Path, ways: list[str] | None) -> None:
    file = tmp_path / "secret"
    issuer.secret = "first:secret"
    issuer.discovery = {"token_endpoint_auth_methods_supported": ways}
    one = provider(issuer, client_secret_file=str(file))
    with pytest.raises(IssuerAway, match="holds no secret"):
        redeem(one, issuer)
    for issuer.secret in ("first-secret", "second-secret"):
        file.write_text(issuer.secret + "\n")
        assert redeem(one, issuer)["sub"] == "u-1"
    file.write_text("wrong")
    with pytest.raises(AccessDenied, match="invalid_client") as told:
        redeem(one, issuer)
    assert "wrong" not in told.value.message


def test_rotated_keys_are_looked_for_once(issuer: FakeIssuer) -> None:
    one = provider(issuer)
    redeem(one, issuer)
    issuer.keys = [TWO]
    redeem(one, issuer)
    redeem(one, issuer)
    assert issuer.count("/keys") == 2
    issuer.published = [ONE]
    issuer.keys = [a_key("nobody's")]
    with pytest.raises(AccessDenied, match="a key that the issuer does not publish"):
        redeem(one, issuer)
    assert issuer.count("/keys") == 3
    issuer.keys, issuer.published = [ONE], []
    fresh = provider(issuer)
    issuer.keys, issuer.published = [TWO], [ONE]
    before = issuer.count("/keys")
    with pytest.raises(AccessDenied, match="does not publish"):
        redeem(fresh, issuer)
    assert issuer.count("/keys") == before + 1, "keys that were just fetched are not fetched again"


def hostile(alg: str, signature: bytes) -> Callable[[dict[str, Any]], str]:
    return lambda claims: f"{plain({'alg': alg, 'kid': 'one'})}.{plain(claims)}.{plain(signature)}"


@pytest.mark.parametrize(
    ("claims", "mint", "why"),
    [
        ({"iss": "https://elsewhere.example"}, None, "another issuer"),
        ({"aud": "another-client"}, None, "another client"),
        ({"aud": [CLIENT, "another-client"]}, None, "azp"),
        ({"azp": "another-client"}, None, "azp"),
        ({"exp": 1}, None, "expired"),
        ({"nbf": 9_999_999_999}, None, "does not hold yet"),
        ({"iat": 9_999_999_999}, None, "in the future"),
        ({"nonce": "another"}, None, "another question"),
        ({"nonce": None}, None, "another question"),
        ({}, hostile("none", b"x"), "in a way that is not taken"),
        ({}, hostile("HS256", b"x" * 32), "in a way that is not taken"),
        ({}, hostile("RS256", b"x" * 256), "signature is wrong"),
        ({}, lambda claims: signed(claims, TWO, kid="one"), "signature is wrong"),
        ({}, lambda _: "not.a-token", "no signed token"),
        ({}, lambda _: "x" * 100_000, "no signed token"),
    ],
)
def test_a_token_that_is_not_good(
    issuer: FakeIssuer, claims: dict[str, Any], mint: Callable[[dict[str, Any]], str] | None, why: str
) -> None:
    issuer.claims, issuer.mint = claims, mint
    with pytest.raises(AccessDenied, match=why) as told:
        redeem(provider(issuer), issuer)
    assert told.value.code == "login_failed"


def test_without_a_token_and_with_a_code_of_another(issuer: FakeIssuer) -> None:
    issuer.pages["/token"] = lambda: (200, {}, b'{"access_token": "a"}')
    with pytest.raises(AccessDenied, match="there is none"):
        redeem(provider(issuer), issuer)
    del issuer.pages["/token"]
    one = provider(issuer)
    url = one.authorization_url("http://127.0.0.1:5/callback", "state", "n", "another-challenge")
    with pytest.raises(AccessDenied, match="invalid_grant"):
        one.redeem_code(issuer.visit(url)["code"], "http://127.0.0.1:5/callback", "v" * 43, "n", 0)


@pytest.mark.parametrize(
    ("path", "answer", "why"),
    [
        (WELL_KNOWN, (200, {}, b"<html>"), "no JSON object"),
        (WELL_KNOWN, (200, {}, b"[]"), "no JSON object"),
        (WELL_KNOWN, (200, {}, b"[" * 100_000), "no JSON object"),
        (WELL_KNOWN, (404, {}, b"{}"), "answered 404"),
        (WELL_KNOWN, (302, {"Location": "http://127.0.0.1:1/"}, b""), "no JSON object|answered 302"),
        (WELL_KNOWN, (200, {}, b'{"issuer": "https://elsewhere.example"}'), "another issuer"),
        (WELL_KNOWN, (200, {}, b" " * (MOST_BYTES + 1)), "larger than 256 KiB"),
        ("/keys", (200, {}, b'{"keys": "' + b"x" * MOST_BYTES + b'"}'), "larger than 256 KiB"),
        ("/keys", (200, {}, json.dumps({"keys": [{"kty": "RSA"}] * 101}).encode()), "more than 100 keys"),
        ("/keys", (500, {}, b"{}"), "answered 500"),
        ("/token", (503, {}, b"sorry"), "answered 503"),
        ("/token", (307, {"Location": "http://127.0.0.1:1/"}, b""), "no JSON object"),
    ],
)
def test_an_issuer_that_answers_as_none_should(
    issuer: FakeIssuer, path: str, answer: tuple[int, dict[str, str], bytes], why: str
) -> None:
    issuer.pages[path] = lambda: answer
    with pytest.raises(IssuerAway, match=why):
        redeem(provider(issuer), issuer)


@pytest.mark.parametrize(
    "name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "device_authorization_endpoint"]
)
@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "file:///etc/passwd", "https://me@lab.example/", "https://", "", 5, "ftp://x",
            "http://lab.example/", "https://lab.example/\r\nHost: x", "https://[::1", "https://lab.example\\@x/"]
)  # fmt: skip
def test_addresses_that_are_not_gone_to(issuer: FakeIssuer, name: str, url: object) -> None:
    issuer.discovery = {name: url}
    with pytest.raises(IssuerAway, match=f"The {name} of the issuer"):
        provider(issuer).begin_device()


def test_an_issuer_elsewhere_leads_to_no_address_of_this_machine(issuer: FakeIssuer) -> None:
    elsewhere = Provider(replace(Oidc(issuer.url, CLIENT, (Rule("default"),)), issuer="https://id.example"), Fetching())
    with pytest.raises(IssuerAway, match="is not https"):
        elsewhere._safe({"token_endpoint": f"{issuer.url}/token"}, "token_endpoint")


def test_an_issuer_that_is_away_or_slow(issuer: FakeIssuer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    nobody = Provider(Oidc(f"http://127.0.0.1:{port}", CLIENT, (Rule("default"),)), Fetching())
    with pytest.raises(IssuerAway, match="cannot be asked"):
        nobody.begin_device()
    issuer.pages[WELL_KNOWN] = lambda: (issuer.release.wait(30), (200, {}, b"{}"))[1]
    before = time.monotonic()
    with pytest.raises(IssuerAway, match=r"did not answer within 0\.3 seconds"):
        provider(issuer, 0.3).begin_device()
    assert time.monotonic() - before < 15


def test_an_issuer_that_drips(tmp_path: Path) -> None:
    """A byte now and then keeps no socket's time limit from passing, but ours counts the whole."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            sock, _ = listening.accept()
            with sock:
                while not stop.wait(0.02):
                    try:
                        sock.send(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        one = Provider(
            Oidc(f"http://127.0.0.1:{listening.getsockname()[1]}", CLIENT, (Rule("default"),)), Fetching(patience_s=0.5)
        )
        with pytest.raises(IssuerAway):
            one.begin_device()
        stop.set()
        thread.join()


def test_no_descriptor_stays_open(issuer: FakeIssuer) -> None:
    one = provider(issuer)
    redeem(one, issuer)
    before = len(list(Path("/proc/self/fd").iterdir()))
    threads = threading.active_count()
    for _ in range(20):
        redeem(one, issuer)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 15, "of 20 exchanges and more"
    assert threading.active_count() <= threads + 15
