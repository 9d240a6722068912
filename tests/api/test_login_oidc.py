"""Signing in by OpenID Connect at the real server, with an issuer that the tests lead."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from runyard.adapters.oidc import Provider
from runyard.api.sign_ins import MOST, MOST_OF_ONE, SignIn, SignIns
from runyard.api.throttle import FREE_TRIES, Throttle
from runyard.core.account import Account, Role, Scope
from runyard.core.errors import AccessDenied
from runyard.core.oidc import read_oidc
from runyard.settings import Settings
from tests.api.serving import Answer, Api, serving
from tests.support.issuer import CLIENT, FakeIssuer, a_key, an_issuer
from tests.support.waiting import wait_until

RULES = [
    {"group": "bosses", "account": "lab", "role": "manager"},
    {"group": "readers", "account": "lab", "role": "viewer"},
    {"group": "lost", "account": "no-such-account"},
    {"email_domain": "lab.example", "account": "lab"},
]
PORT = 5000


@dataclass
class Yard:
    """A server and its issuer; ``people`` counts those that there were."""

    api: Api
    issuer: FakeIssuer
    people: list[str] = field(default_factory=list)

    def person(self, name: str = "", **claims: Any) -> str:
        """The next person at the issuer, somebody new."""
        chosen = name or f"p{len(self.people)}"
        self.people.append(chosen)
        self.issuer.claims = {"sub": f"sub-{chosen}", "preferred_username": chosen} | claims
        return chosen

    def begin(self, **body: Any) -> Any:
        answer = self.api.call("POST", "/login/oidc", body, token=None)
        assert answer.status == 200, answer.body
        return answer.json()

    def finish(self, login: str, **body: Any) -> Answer:
        return self.api.call("POST", "/login/oidc/finish", {"login": login} | body, token=None)

    def answered(self, login: str, *but: int) -> Answer:
        """The first answer of another status than these, of which some may come before it."""
        told: list[Answer] = []

        def there() -> bool:
            told.append(self.finish(login))
            return told[-1].status not in but

        wait_until(there, "an answer")
        return told[-1]

    def sign_in(self, **body: Any) -> Answer:
        """The whole way of the code grant."""
        self.issuer.device = False
        begun = self.begin(redirect_port=PORT, **body)
        back = self.issuer.visit(begun["authorization_url"])
        return self.finish(begun["login"], code=back["code"], state=back["state"])


@pytest.fixture(scope="module")
def module_yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with an_issuer([a_key("one")]) as issuer:
        table = {"issuer": issuer.url, "client_id": CLIENT, "rules": RULES, "create_members": True, "token_hours": 0.5}
        with serving(tmp_path_factory.mktemp("server"), Settings(oidc=read_oidc(table))) as api:
            api.context.world.store.add_account(Account("lab", "lab"))
            yield Yard(api, issuer)


@pytest.fixture
def yard(module_yard: Yard) -> Yard:
    """The same for each test; of what one leaves behind the next finds nothing."""
    entrance = module_yard.api.context.entrance
    assert entrance is not None
    provider = entrance.issuer
    assert isinstance(provider, Provider)
    provider._found, provider._keys = None, (0.0, ())
    entrance.sign_ins._begun.clear()
    module_yard.api.context.gate.throttle = Throttle()
    issuer = module_yard.issuer
    issuer.pages.clear()
    issuer.answers.clear()
    issuer.claims, issuer.device, issuer.mint, issuer.interval = {}, True, None, 0.05
    return module_yard


def test_by_a_code_that_is_typed_elsewhere(yard: Yard) -> None:
    name = yard.person()
    begun = yard.begin()
    assert (begun["way"], begun["user_code"], begun["authorization_url"]) == ("device", "WDJB-MJHT", None)
    assert "d-1" not in json.dumps(begun), "the device's code is the server's alone"
    yard.issuer.answers = ["authorization_pending"]
    answer = yard.answered(begun["login"], 202).json()
    assert not yard.issuer.answers, "the issuer was asked until the person was there"
    assert (answer["account"], answer["member"], answer["role"]) == ("lab", name, "user")
    status = yard.api.get("/status", token=answer["token"])
    assert (status["account"], status["member"], status["scope"]) == ("lab", name, "member")
    again = yard.finish(begun["login"])
    assert (again.status, again.code) == (401, "login_failed"), "each sign-in is good once"


def test_the_issuer_is_asked_no_more_often_than_it_wants(yard: Yard) -> None:
    yard.issuer.interval = 1800.0
    begun, before = yard.begin(), yard.issuer.count("/token")
    for _ in range(3):
        answer = yard.finish(begun["login"])
        assert (answer.status, answer.json()) == (202, {"interval_s": 1800.0})
    assert yard.issuer.count("/token") == before


def test_by_a_browser(yard: Yard) -> None:
    name = yard.person()
    answer = yard.sign_in(scope="read")
    assert answer.status == 200, answer.body
    token = answer.json()["token"]
    status = yard.api.get("/status", token=token)
    assert (status["member"], status["scope"]) == (name, "read")
    store, now = yard.api.context.world.store, yard.api.context.world.clock.now_ms()
    kept = next(
        each for each in store.tokens("lab") if each.id in {one.id for one in store.tokens("lab", f"lab/{name}")}
    )
    assert kept.expires_ms is not None
    assert 0 < kept.expires_ms - now <= 1_800_000
    asked = next(each for each in yard.issuer.seen[::-1] if each.path == "/token")
    assert asked.form["redirect_uri"] == f"http://127.0.0.1:{PORT}/callback"


def test_a_token_is_revoked_as_any_other(yard: Yard) -> None:
    yard.person()
    token = yard.sign_in().json()["token"]
    mine = yard.api.get("/tokens", token=token)["items"]
    assert [each["name"] for each in mine] == ["login by OpenID Connect"]
    assert yard.api.call("DELETE", f"/tokens/{mine[0]['id']}", token=token).status == 204
    assert yard.api.call("GET", "/status", token=token).status == 401


def test_it_is_in_the_audit_log(yard: Yard) -> None:
    name = yard.person()
    yard.sign_in()
    yard.person(name, sub="somebody else")
    assert yard.sign_in().status == 401
    yard.person(name)
    assert yard.sign_in(scope="admin").status == 403
    found = [each for each in yard.api.get("/audit?account=lab&limit=50")["items"] if each["object"] == name]
    assert [(each["action"], each["outcome"]) for each in found] == [("login.oidc", "denied"), ("login.oidc", "done")]


# --------------------------------------------------------------------------------------------------------- who enters
def test_the_rule_gives_account_and_role_and_takes_it_back(yard: Yard) -> None:
    name = yard.person(groups=["bosses"])
    boss = yard.sign_in().json()
    assert boss["role"] == "manager"
    assert yard.api.call("GET", "/accounts/lab/members", token=boss["token"]).status == 200
    yard.issuer.claims["groups"] = ["readers"]
    assert yard.sign_in().json()["role"] == "viewer"
    refused = yard.api.call("PUT", "/secrets/X", {"value": "x"}, token=boss["token"])
    assert refused.status == 403, "the older token may do no more"
    yard.issuer.claims["groups"] = []
    assert yard.sign_in().json()["role"] == "viewer", "a rule without a role leaves it"
    yard.issuer.claims["preferred_username"] = "another-name"
    assert yard.sign_in().json()["member"] == name, "the person is the subject"


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"email": "mia@elsewhere.example"}, "nothing in this service's settings lets you in"),
        ({"email_verified": False}, "nothing in this service's settings lets you in"),
        ({"groups": ["lost"]}, "no-such-account, which is not there"),
        ({"preferred_username": "../../x"}, "holds no name for a member"),
        ({"preferred_username": None}, "holds no name for a member"),
    ],
)
def test_who_does_not_enter(yard: Yard, claims: dict[str, Any], sentence: str) -> None:
    yard.person(**claims)
    answer = yard.sign_in()
    assert (answer.status, answer.code) == (401, "login_failed")
    assert sentence in answer.json()["detail"]


def test_a_name_is_not_a_person(yard: Yard) -> None:
    store = yard.api.context.world.store
    store.add_member("lab", "by-hand", Role.user)
    store.add_member("lab", "hand-boss", Role.manager)
    yard.person("by-hand", sub="s-1")
    assert yard.sign_in().status == 200, "who was added by hand, by the name at the first time"
    yard.person("by-hand", sub="s-2")
    assert "is somebody else at the issuer" in yard.sign_in().json()["detail"]
    yard.person("hand-boss")
    assert "by hand with the role manager" in yard.sign_in().json()["detail"]
    yard.issuer.claims["groups"] = ["bosses"]
    assert yard.sign_in().status == 200


def test_who_was_removed_stays_out_under_any_name(yard: Yard) -> None:
    name = yard.person()
    token = yard.sign_in().json()["token"]
    store, now = yard.api.context.world.store, yard.api.context.world.clock.now_ms()
    assert store.remove_member("lab", name, now)
    for username in (name, "quite-another"):
        yard.issuer.claims["preferred_username"] = username
        assert "was removed" in yard.sign_in().json()["detail"]
    yard.person(name, sub="a new person of that name")
    assert "was removed" in yard.sign_in().json()["detail"]
    store.add_member("lab", name, Role.user)
    assert yard.sign_in().status == 200
    yard.api.context.doorkeeper.forget()
    assert yard.api.call("GET", "/status", token=token).status == 401


def test_only_known_ones_where_the_settings_say_so(tmp_path: Any) -> None:
    with an_issuer([a_key("one")], device=False) as issuer:
        table = {"issuer": issuer.url, "client_id": CLIENT, "rules": [{"account": "default"}], "way": "code"}
        with serving(tmp_path, Settings(oidc=read_oidc(table))) as api:
            yard = Yard(api, issuer)
            yard.person("mia")
            assert "none is made by signing in" in yard.sign_in().json()["detail"]
            api.context.world.store.add_member("default", "mia", Role.user)
            assert yard.sign_in().status == 200
            yard.person("owner")
            assert "by hand with the role admin" in yard.sign_in().json()["detail"], "a name is no way to the owner"


# ----------------------------------------------------------------------------------------------------- what is hostile
def test_what_a_browser_brings_is_good_once_and_for_its_sign_in(yard: Yard) -> None:
    yard.person()
    yard.issuer.device = False
    one, other = yard.begin(redirect_port=PORT), yard.begin(redirect_port=PORT)
    back = yard.issuer.visit(one["authorization_url"])
    code, state = back["code"], back["state"]
    crossed = yard.finish(other["login"], code=code, state=state)
    assert (crossed.status, crossed.code) == (401, "login_failed"), "the state is another sign-in's"
    for login in (other["login"], "unknown", one["login"][:-1]):
        assert yard.finish(login, code=code, state=state).status == 401
    yard.api.context.gate.throttle = Throttle()
    assert yard.finish(one["login"], code=code, state=state).status == 200
    assert yard.finish(one["login"], code=code, state=state).status == 401
    third = yard.begin(redirect_port=PORT)
    assert yard.finish(third["login"], state="x").status == 401
    assert yard.finish(third["login"], code=code, state=state).status == 401, "one try, whatever it was"


def test_a_code_of_another_sign_in_is_refused_by_the_issuer(yard: Yard) -> None:
    """Somebody else's code, injected: the challenge is not ours."""
    yard.person()
    yard.issuer.device = False
    one, other = yard.begin(redirect_port=PORT), yard.begin(redirect_port=PORT)
    stolen = yard.issuer.visit(one["authorization_url"])["code"]
    state = yard.issuer.visit(other["authorization_url"])["state"]
    answer = yard.finish(other["login"], code=stolen, state=state)
    assert (answer.status, answer.json()["detail"][:38]) == (401, "The issuer did not let you in (invalid")


@pytest.mark.parametrize(
    "claims", [{"nonce": "another"}, {"aud": "another"}, {"iss": "https://elsewhere.example"}, {"exp": 1}]
)
def test_a_token_that_is_not_good_lets_nobody_in(yard: Yard, claims: dict[str, Any]) -> None:
    name = yard.person(**claims)
    answer = yard.sign_in()
    assert (answer.status, answer.code) == (401, "login_failed")
    assert name not in {each.name for each in yard.api.context.world.store.members("lab")}


def test_an_issuer_that_says_no_ends_a_sign_in(yard: Yard) -> None:
    for word in ("access_denied", "expired_token"):
        begun = yard.begin()
        yard.issuer.answers = [word]
        told = yard.answered(begun["login"], 202)
        assert (told.status, word in told.json()["detail"]) == (401, True)
        assert yard.finish(begun["login"]).status == 401


def test_an_issuer_that_is_away_for_a_while(yard: Yard) -> None:
    yard.person()
    begun = yard.begin()
    yard.issuer.pages["/token"] = lambda: (502, {}, b"bad gateway")
    away = yard.answered(begun["login"], 202)
    assert (away.status, away.code) == (503, "issuer_away")
    del yard.issuer.pages["/token"]
    assert yard.answered(begun["login"], 202, 503).status == 200
    yard.issuer.pages["/.well-known/openid-configuration"] = lambda: (500, {}, b"")
    assert yard.api.context.entrance is not None
    yard.api.context.entrance.issuer._found = None  # type: ignore[attr-defined]
    answer = yard.api.call("POST", "/login/oidc", {"redirect_port": PORT}, token=None)
    assert (answer.status, answer.code) == (503, "issuer_away")


def test_a_slow_issuer_holds_nothing_else_and_few_wait_for_it(yard: Yard) -> None:
    yard.issuer.pages["/device"] = lambda: (yard.issuer.release.wait(60), (500, {}, b""))[1]
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(yard.api.call("POST", "/login/oidc", {}, token=None)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answers) >= 4, "those that are too many")
        assert {(each.status, each.code) for each in answers} == {(429, "too_many_tries")}
        began = time.monotonic()
        assert yard.api.call("GET", "/status").status == 200
        assert time.monotonic() - began < 5
    finally:
        yard.issuer.release.set()
        for thread in threads:
            thread.join()
        yard.issuer.release.clear()
    assert len(answers) == 20


def test_who_guesses_waits(yard: Yard) -> None:
    answers = [yard.finish("a guess") for _ in range(FREE_TRIES + 1)]
    assert [each.status for each in answers] == [401] * FREE_TRIES + [429]
    assert yard.api.call("POST", "/login/oidc", {}, token=None).code == "too_many_tries"


def test_memory_is_bounded_and_forgets() -> None:
    sign_ins = SignIns()
    for address in range(MOST // MOST_OF_ONE):
        for _ in range(MOST_OF_ONE):
            sign_ins.keep(SignIn(Scope.member, str(address), 1000), 0)
        with pytest.raises(AccessDenied, match="Too many"):
            sign_ins.keep(SignIn(Scope.member, str(address), 1000), 0)
    assert len(sign_ins) == MOST
    with pytest.raises(AccessDenied, match="Too many"):
        sign_ins.keep(SignIn(Scope.member, "new", 1000), 999)
    word = sign_ins.keep(SignIn(Scope.member, "new", 2000), 1000)
    assert len(sign_ins) == 1
    assert sign_ins.get(word, 1999) is not None
    assert sign_ins.get(word, 2000) is None, "too old"


def test_secrets_are_in_no_log_and_no_error(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    yard.person(email="mia@elsewhere.example")
    with caplog.at_level(logging.DEBUG):
        yard.issuer.device = False
        begun = yard.begin(redirect_port=PORT)
        back = yard.issuer.visit(begun["authorization_url"])
        refused = yard.finish(begun["login"], code=back["code"], state=back["state"])
        bad = yard.finish("x" * 5000, code=back["code"])
    assert (refused.status, bad.status) == (401, 422)
    verifier = next(each for each in yard.issuer.seen[::-1] if each.path == "/token").form["code_verifier"]
    assert "was refused" in caplog.text
    for secret in (begun["login"], back["code"], back["state"], verifier, "x" * 50):
        assert secret not in caplog.text + refused.body.decode() + bad.body.decode()


@pytest.mark.parametrize(
    "body",
    [{"redirect_port": 80}, {"redirect_port": 70000}, {"redirect_uri": "https://evil.example"}, {"scope": "node"}, []],
)
def test_nobody_says_where_the_browser_goes(yard: Yard, body: Any) -> None:
    assert yard.api.call("POST", "/login/oidc", body, token=None).status == 422


def test_the_way_is_told(yard: Yard) -> None:
    yard.issuer.device = False
    answer = yard.api.call("POST", "/login/oidc", {}, token=None)
    assert (answer.status, answer.code) == (409, "refused")
    assert "redirect_port" in answer.json()["detail"]


def test_it_is_off_unless_it_is_set_up(api: Api) -> None:
    for path, body in (("/login/oidc", {}), ("/login/oidc/finish", {"login": "x"})):
        answer = api.call("POST", path, body, token=None)
        assert (answer.status, answer.code) == (404, "not_found")
        assert "[oidc] in settings.toml" in answer.json()["detail"]
