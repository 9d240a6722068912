"""A server that can be reached: TLS with an authority of its own, refusal without, signing in, a proxy."""

import datetime
import json
import shutil
import ssl
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from runyard.cli.options import ServiceOptions
from runyard.settings import Settings
from runyard.up import authority, tls
from runyard.up.reach import is_loopback, names
from runyard.up.service import quoted, unit
from tests.cli.calling import Cli

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


# ------------------------------------------------------------------------------------------------------- certificates


def names_in(certificate: Path) -> list[str]:
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    general = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in general]


def test_certificates_are_kept_until_names_change_or_time_runs_out(tmp_path: Path) -> None:
    first = authority.ensure(tmp_path, ["localhost", "10.0.0.1"], NOW)
    assert names_in(first.certificate) == ["localhost", "10.0.0.1"]
    assert first.authority is not None
    pinned, certificate = first.authority.read_bytes(), first.certificate.read_bytes()
    for secret in ("ca.key", "server.key"):
        assert stat.S_IMODE((tmp_path / secret).stat().st_mode) == 0o600
    authority.ensure(tmp_path, ["localhost", "10.0.0.1"], NOW + datetime.timedelta(days=600))
    assert first.certificate.read_bytes() == certificate
    for wanted, later in ((["localhost", "lab"], NOW), (["localhost", "lab"], NOW + datetime.timedelta(days=700))):
        authority.ensure(tmp_path, wanted, later)
        assert first.certificate.read_bytes() != certificate
        certificate = first.certificate.read_bytes()
    assert names_in(first.certificate) == ["localhost", "lab"]
    assert first.authority.read_bytes() == pinned, "whoever pinned it goes on trusting"


def test_a_lost_half_is_made_anew(tmp_path: Path) -> None:
    first = authority.ensure(tmp_path, ["localhost"], NOW)
    first.key.unlink()
    authority.ensure(tmp_path, ["localhost"], NOW)
    tls.brought(first.certificate, first.key)
    before = first.fingerprint
    (tmp_path / "ca.key").unlink()
    assert authority.ensure(tmp_path, ["localhost"], NOW).fingerprint != before


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one, other = (authority.ensure(tmp_path / name, ["localhost"], NOW) for name in ("one", "other"))
    with pytest.raises(tls.TlsError, match="cannot be used"):
        tls.brought(one.certificate, other.key)
    with pytest.raises(tls.TlsError, match="cannot be used"):
        tls.brought(tmp_path / "absent.pem", one.key)


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("lab", False)],
)
def test_what_only_this_machine_reaches(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here


def test_the_names_of_a_certificate() -> None:
    found = names("0.0.0.0", Settings(tls_names=("lab.example", "10.1.2.3")))
    assert {"localhost", "127.0.0.1", "::1", "lab.example", "10.1.2.3"} <= set(found)
    assert "0.0.0.0" not in found
    assert len(found) == len(set(found))
    assert "10.9.9.9" in names("10.9.9.9", Settings())


# ------------------------------------------------------------------------------------------------------ the whole way


@dataclass
class Served:
    """An installation that listens on all addresses, and a person elsewhere."""

    here: Cli
    elsewhere: Cli
    home: Path
    url: str
    fingerprint: str

    def login(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.elsewhere("login", self.url, "--token-file", str(self.home / "token"), *words)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    here = Cli(tmp_path / "here")
    up = here("up", "--host", "0.0.0.0", "--port", "0", "--fake-gpus", "1", "--detach", "--tls")
    try:
        assert up.returncode == 0, up.stderr
        url = up.stdout.strip()
        assert url.startswith("https://127.0.0.1:")
        fingerprint = up.stderr.rpartition("--fingerprint ")[2].strip()
        elsewhere = Cli(tmp_path / "elsewhere")
        elsewhere.environment["RUNYARD_HOME"] = ""
        yield Served(here, elsewhere, tmp_path / "here" / "home", url.replace("127.0.0.1", "localhost"), fingerprint)
    finally:
        down = here("down", "--cancel-runs")
    assert down.returncode == 0
    assert "does not answer" not in down.stderr


def test_without_tls_nobody_listens_beyond_loopback(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    refused = cli("up", "--host", "0.0.0.0", "--port", "0", "--fake-gpus", "1", "--detach")
    assert refused.returncode == 4
    assert "--tls" in refused.stderr
    assert "--insecure" in refused.stderr
    assert not (tmp_path / "home" / "url").exists()
    try:
        meant = cli("up", "--host", "0.0.0.0", "--port", "0", "--fake-gpus", "1", "--detach", "--insecure")
        assert meant.returncode == 0, meant.stderr
        assert meant.stdout.startswith("http://127.0.0.1:")
    finally:
        cli("down")


@pytest.mark.story
def test_signing_in_from_elsewhere(served: Served) -> None:
    unknown = served.login("--name", "lab")
    assert unknown.returncode == 5
    assert served.fingerprint in unknown.stderr
    wrong = served.login("--name", "lab", "--fingerprint", "0" * 64)
    assert wrong.returncode == 5
    assert "not the one that you gave" in wrong.stderr
    assert served.login("--fingerprint", "12").returncode == 2
    assert "No address" in served.elsewhere("status").stderr, "nothing was kept of what failed"
    pretty = ":".join(served.fingerprint[i : i + 2].upper() for i in range(0, 64, 2))
    done = served.login("--name", "lab", "--fingerprint", "SHA256:" + pretty, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"context": "lab", "url": served.url, "account": "default", "member": "owner"}
    kept = served.elsewhere.folder / ".config" / "runyard" / "contexts.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    run = served.elsewhere("run", "--force", "--wait", "--json", "--", "echo", "from elsewhere")
    assert run.returncode == 0, run.stderr
    assert "from elsewhere" in served.elsewhere("logs", "last").stdout
    assert json.loads(served.here("status", "--json").stdout)["counts"]["completed"] == 1
    assert served.elsewhere("logout").returncode == 0
    assert (served.home / "token").read_text().strip() not in kept.read_text()


@pytest.mark.story
def test_signing_in_with_a_password(served: Served) -> None:
    """The password of an account's member, set by its owner: the token that is kept is another thing."""
    password = "correct horse battery staple"
    assert served.here("accounts", "add", "acme").returncode == 0
    assert served.here("members", "add", "mia", "--account", "acme").returncode == 0
    done = served.here("members", "password", "mia", "--account", "acme", stdin=password + "\n")
    assert done.returncode == 0, done.stderr
    words = ("login", served.url, "--fingerprint", served.fingerprint, "--password-file", "-", "--member")
    assert served.elsewhere(*words, "mia", stdin=password).returncode == 2
    wrong = served.elsewhere(*words, "acme/mia", stdin="something else\n")
    assert wrong.returncode == 5, wrong.stderr
    right = served.elsewhere(*words, "acme/mia", "--json", stdin=password + "\n")
    assert right.returncode == 0, right.stderr
    assert json.loads(right.stdout)["member"] == "mia"
    assert json.loads(served.elsewhere("status", "--json").stdout)["account"] == "acme"
    assert password not in (served.elsewhere.folder / ".config" / "runyard" / "contexts.json").read_text()


@pytest.mark.story
def test_a_token_that_is_not_known_is_not_kept(served: Served) -> None:
    done = served.elsewhere(
        "login", served.url, "--fingerprint", served.fingerprint, "--token-file", "-", stdin="ryd_no-such-token\n"
    )
    assert done.returncode == 5
    assert served.elsewhere("context", "list", "--json").stdout.strip() == "[]"


def test_contexts_are_chosen_by_name(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.environment["RUNYARD_HOME"] = ""
    kept = {
        "current": "lab",
        "contexts": {name: {"url": f"http://127.0.0.1:{port}", "token": name} for name, port in (("lab", 1), ("x", 2))},
    }
    path = tmp_path / ".config" / "runyard" / "contexts.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(kept))
    assert "127.0.0.1:1" in cli("status").stderr
    cli.environment["RUNYARD_CONTEXT"] = "x"
    assert "127.0.0.1:2" in cli("status").stderr
    del cli.environment["RUNYARD_CONTEXT"]
    assert cli("context", "use", "x").returncode == 0
    assert "127.0.0.1:2" in cli("status").stderr
    assert cli("context", "use", "nowhere").returncode == 2
    assert "No address" in (cli("context", "use", "local"), cli("status"))[1].stderr
    assert [each["name"] for each in json.loads(cli("context", "list", "--json").stdout)] == ["lab", "x"]
    assert cli("context", "rm", "lab").returncode == 0
    assert cli("logout").returncode == 2
    path.write_text("{")
    assert "damaged" in cli("status").stderr


@pytest.mark.story
def test_a_certificate_of_the_operators_and_a_path_of_the_proxys(tmp_path: Path) -> None:
    """The service's own node reaches it although the certificate has not its address in it."""
    own = authority.ensure(tmp_path / "pki", ["lab.example"], datetime.datetime.now(datetime.UTC))
    cli = Cli(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "settings.toml").write_text(
        f'tls_certificate = "{own.certificate}"\ntls_key = "{own.key}"\npublic_url = "https://lab.example/runyard"\n'
    )
    try:
        up = cli("up", "--port", "0", "--fake-gpus", "1", "--detach")
        assert up.returncode == 0, up.stderr
        assert "fingerprint" not in up.stderr
        trusting = ssl.create_default_context(cafile=own.authority)
        trusting.check_hostname = False
        token = (tmp_path / "home" / "token").read_text().strip()
        for prefix in ("", "/runyard"):  # a proxy may pass it on, or not
            request = urllib.request.Request(
                f"{up.stdout.strip()}{prefix}/api/v1/status", headers={"Authorization": f"Bearer {token}"}
            )
            with urllib.request.urlopen(request, timeout=30, context=trusting) as answer:
                assert json.load(answer)["url"] == "https://lab.example/runyard"
    finally:
        cli("down")


# ------------------------------------------------------------------------------------------------------------- systemd


def test_the_unit_of_systemd(tmp_path: Path) -> None:
    text = unit(ServiceOptions("install", "/srv/100% yard", system=True, words=("--tls",)))
    assert 'up --home "/srv/100%% yard" --tls' in text
    assert "WantedBy=multi-user.target" in text
    assert "WantedBy=default.target" in unit(ServiceOptions("install", "/h", system=False))
    if shutil.which("systemd-analyze") is not None:
        path = tmp_path / "runyard.service"
        path.write_text(text)
        verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
        assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize(
    ("word", "expected"), [("up", "up"), ("", '""'), ("a b", '"a b"'), ('q"$', '"q\\"$$"'), ("50%", '"50%%"')]
)
def test_words_as_systemd_reads_them(word: str, expected: str) -> None:
    assert quoted(word) == expected


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here, and would be changed")
def test_where_systemd_does_not_run_the_unit_is_only_printed(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    refused = cli("service", "install")
    assert refused.returncode == 4
    assert "systemd does not run" in refused.stderr
    printed = cli("service", "install", "--print", "--user", "--", "--gpus", "none")
    assert printed.returncode == 0
    assert "--gpus none" in printed.stdout
