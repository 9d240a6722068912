"""Where the service is: arguments, environment, home; and a token goes only where it was meant for."""

from pathlib import Path

import pytest

from runyard.client.address import Address, find_address
from runyard.client.errors import Unreachable


def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "url").write_text("http://127.0.0.1:8642\n")
    (tmp_path / "token").write_text("local-token\n")
    return {"RUNYARD_HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("url", "token", "environment", "expected"),
    [
        (None, None, {}, ("http://127.0.0.1:8642", "Bearer local-token")),
        ("http://127.0.0.1:8642/", None, {}, ("http://127.0.0.1:8642", "Bearer local-token")),
        ("http://elsewhere:1", None, {}, ("http://elsewhere:1", None)),
        (None, None, {"RUNYARD_URL": "http://elsewhere:1"}, ("http://elsewhere:1", None)),
        (None, None, {"RUNYARD_URL": "https://h/", "RUNYARD_TOKEN": "t"}, ("https://h:443", "Bearer t")),
        ("http://h", "mine", {"RUNYARD_TOKEN": "t"}, ("http://h:80", "Bearer mine")),
        (None, None, {"RUNYARD_TOKEN": "t"}, ("http://127.0.0.1:8642", "Bearer t")),
        (
            None,
            None,
            {"ML_ENV": "https://old", "ML_USERNAME": "u", "ML_PASSWORD": "p"},
            ("https://old:443", "Basic dTpw"),
        ),
        (
            None,
            None,
            {"RUNYARD_URL": "http://new", "ML_ENV": "https://old", "ML_PASSWORD": "p"},
            ("http://new:80", None),
        ),
        ("http://h/prefix/api/v1/", "t", {}, ("http://h:80/prefix", "Bearer t")),
        ("http://u:secret@h", None, {}, ("http://h:80", "Bearer secret")),
        ("h:99", "t", {}, ("http://h:99", "Bearer t")),
        ("http://[::1]:8642", "t", {}, ("http://[::1]:8642", "Bearer t")),
    ],
)
def test_the_address_is_found(
    tmp_path: Path,
    url: str | None,
    token: str | None,
    environment: dict[str, str],
    expected: tuple[str, str | None],
) -> None:
    found = find_address(url, token, home(tmp_path) | environment)
    assert (found.url, found.authorization) == expected


def test_no_address_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="runyard up"):
        find_address(environment={"RUNYARD_HOME": str(tmp_path)})


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h:notaport", "http://h:0"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Unreachable, match="no URL"):
        find_address(url, environment={"RUNYARD_HOME": "/nonexistent"})


def test_a_secret_is_never_shown() -> None:
    assert "secret" not in repr(find_address("http://u:secret@h", environment={}))
    assert "secret" not in repr(Address("http", "h", 1, "", "Bearer secret"))
