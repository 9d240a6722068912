"""Signing in by OpenID Connect as people do: the command line, a real provider's process, a browser of the test's."""

import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runyard.client import by_issuer
from runyard.client.errors import NotSignedIn
from runyard.core.account import Role
from runyard.core.oidc import read_oidc
from runyard.settings import Settings
from tests.api.serving import serving
from tests.cli.calling import Cli
from tests.support.issuer import CLIENT, a_key, an_issuer

BROWSER = """
import sys, urllib.parse, urllib.request
# The provider's page is a form that comes back to its own address; the redirect leads to whoever waits on loopback.
chosen = urllib.parse.urlencode({"sub": "u-mia"}).encode()
with urllib.request.urlopen(sys.argv[1], chosen, timeout=30) as page:
    open(sys.argv[2], "wb").write(page.read())
"""
MIA = {"sub": "u-mia", "preferred_username": "mia", "email": "mia@lab.example", "email_verified": True,
       "groups": ["ml-leads"]}  # fmt: skip
SETTINGS = """
[oidc]
issuer = "{issuer}"
client_id = "runyard"
client_secret_file = "{secret}"
scopes = ["openid", "profile", "email"]
create_members = true

[[oidc.rules]]
group = "ml-leads"
account = "default"
role = "manager"
"""


@contextmanager
def a_provider() -> Iterator[str]:
    """The address of a provider in a process of its own."""
    words = [sys.executable, "-W", "ignore", "-u", "-m", "oidc_provider_mock", "--port", "0", "--require-nonce", "true"]
    process = subprocess.Popen(
        [*words, "--user-claims", json.dumps(MIA)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    drained = None
    try:
        told = ""
        for line in process.stdout:
            told += line
            found = re.search(r"http://(?:localhost|127\.0\.0\.1):([1-9][0-9]*)", line)
            if found is not None:
                drained = threading.Thread(target=process.stdout.read)
                drained.start()
                yield f"http://127.0.0.1:{found[1]}"
                return
        raise AssertionError(told)
    finally:
        process.kill()
        process.wait()
        if drained is not None:
            drained.join()
        process.stdout.close()


@pytest.mark.story
def test_by_a_browser_at_a_real_provider(tmp_path: Path) -> None:
    here, there = Cli(tmp_path / "here"), Cli(tmp_path / "there")
    for each in (here, there):
        (each.folder / "home").mkdir(parents=True)
    (tmp_path / "secret").write_text("shh-a-secret\n")
    (tmp_path / "browser.py").write_text(BROWSER)
    page = tmp_path / "page.html"
    there.environment |= {"RUNYARD_HOME": "", "BROWSER": f"{sys.executable} {tmp_path / 'browser.py'} %s {page}"}
    with a_provider() as issuer:
        text = SETTINGS.format(issuer=issuer, secret=tmp_path / "secret")
        (here.folder / "home" / "settings.toml").write_text(text)
        up = here("up", "--port", "0", "--fake-gpus", "1", "--detach")
        try:
            assert up.returncode == 0, up.stderr
            done = there("login", "--oidc", up.stdout.strip(), "--name", "lab", "--json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["member"] == "mia"
            assert "go back to the terminal" in page.read_text()
            assert json.loads(there("status", "--json").stdout)["member"] == "mia"
            members = json.loads(here("members", "list", "--json").stdout)
            assert {each["name"]: each["role"] for each in members} == {"owner": "admin", "mia": "manager"}
            assert any(each["action"] == "login.oidc" for each in json.loads(here("audit", "--json").stdout))
            tokens = json.loads(there("tokens", "list", "--json").stdout)
            mine = next(each for each in tokens if each["name"] == "login by OpenID Connect")
            assert there("tokens", "rm", mine["id"]).returncode == 0
            assert there("status").returncode == 5
        finally:
            down = here("down", "--cancel-runs")
        assert down.returncode == 0
        logs = b"".join(each.read_bytes() for each in (here.folder / "home" / "log").iterdir() if each.is_file())
        assert b"shh-a-secret" not in logs


def test_on_another_device(tmp_path: Path) -> None:
    """A terminal without a browser: the code is told, and the command waits for the person."""
    cli = Cli(tmp_path / "there", {"RUNYARD_HOME": ""})
    cli.folder.mkdir()
    with an_issuer([a_key("one")]) as issuer:
        table = {"issuer": issuer.url, "client_id": CLIENT, "rules": [{"account": "default"}]}
        with serving(tmp_path / "server", Settings(oidc=read_oidc(table))) as api:
            api.context.world.store.add_member("default", "mia", Role.user)
            issuer.answers = ["authorization_pending", "authorization_pending"]
            done = cli("login", "--oidc", api.url, "--name", "lab")
            assert done.returncode == 0, done.stderr
            assert "WDJB-MJHT" in done.stderr
            assert f"{issuer.url}/activate" in done.stderr
            assert "as mia of account default" in done.stderr
            assert not issuer.answers
            issuer.answers = ["access_denied"]
            refused = cli("login", "--oidc", api.url, "--name", "other")
            assert refused.returncode == 5
            assert "The issuer did not let you in (access_denied)" in refused.stderr
            kept = json.loads(cli("context", "list", "--json").stdout)
            assert [each["name"] for each in kept] == ["lab"]
            assert cli("login", "--oidc", api.url, "--member", "a/b").returncode == 2


def test_where_it_is_off(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "there", {"RUNYARD_HOME": ""})
    cli.folder.mkdir()
    with serving(tmp_path / "server") as api:
        refused = cli("login", "--oidc", api.url)
    assert refused.returncode == 4
    assert "[oidc] in settings.toml" in refused.stderr


def test_a_service_that_is_not_what_it_seems_opens_nothing() -> None:
    safe = by_issuer._safe
    for url in ("https://id.example/a?b=c", "http://127.0.0.1:9/x", "http://localhost/x"):
        assert safe(url) == url
    for url in (
        "file:///etc/passwd",
        "http://id.example/",
        "https://a\x1b[2J/",
        "javascript:alert(1)",
        "",
        "https:///x",
    ):
        with pytest.raises(NotSignedIn, match="not https"):
            safe(url)


def test_only_the_browser_of_this_sign_in_is_heard() -> None:
    with by_issuer._Return() as server:
        server.back.state = "right"
        told: list[int] = []

        def visit() -> None:
            for path in ("/callback?code=evil&state=wrong", "/callback?code=evil", "/other?code=x&state=right",
                         "/callback?code=good&state=right"):  # fmt: skip
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as page:
                        told.append(page.status)
                except urllib.error.HTTPError as error:
                    told.append(error.code)

        thread = threading.Thread(target=visit)
        thread.start()
        while server.back.code is None:
            server.handle_request()
        thread.join()
    assert told == [404, 404, 404, 200]
    assert server.back.code == "good"
    assert "good" not in repr(server.back)
