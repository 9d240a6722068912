"""A secret is in no specification, no message and no representation, however the manifest is mistyped."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runyard.core.errors import ManifestError
from runyard.core.spec import Connection
from runyard.manifest.findings import Findings, Place
from runyard.manifest.nodes import compose
from tests.manifest.reading import FFDL, SERVICE, SHORT, problems, read

MARK = "hUsH9x"
SECRETS = [MARK, f"{MARK}/with+signs==", f"{MARK}_word", f"!{MARK}", f"*{MARK}", f"&{MARK}", f"%{MARK}", f"@{MARK}"]
REFERENCE = SHORT + "training_data_reference:\n  source: {bucket: b}\n"

# Ways to mistype a connection; § is the secret.
MISTAKES = [
    "  connection:\n    secret_access_key:§\n",
    "  connection:\n    secret_access_key:§\n    endpoint_url: https://h\n",
    "  connection:\n    endpoint_url: https://h\n    secret_access_key=§\n",
    "  connection:\n    endpoint_url: https://h\n    §: x\n",
    "  connection: {§}\n",
    "  connection: {secret_access_key: [§]}\n",
    "  connection: {secret_access_key: {§: §}}\n",
    "  connection: {secret_acess_key: §}\n",
    "  connection: {secret_access_key§: x}\n",
    "  connection: {endpoint_url: https://h, access_key_id: '§', secret_access_key: ''}\n",
    "  connection: {endpoint_url: https://h, access_key_id: '§'}\n",
    "  connection: {endpoint_url: https://user:§@h, access_key_id: x, secret_access_key: y}\n",
    "  connection: {endpoint_url: 'https://h?key=§', access_key_id: x, secret_access_key: y}\n",
    "  connection: {endpoint_url: §}\n",
    "  connection: {type: §}\n",
    "  connection: {path: §}\n",
    "  connection: {name: '§/'}\n",
    "  connection: '§ /'\n",
    "  connection: ['§']\n",
    "  connection: {password: '§', password: '§'}\n",
    "  connection: {password: '§', secret_access_key: '§'}\n",
    "  connection: {§, §}\n",
    "  connection: {password: §, access_key_id: @x}\n",
    "  connection:\n    password: §\n\taccess_key_id: x\n",
    "  connection:\n    password: '§\n    access_key_id: x\n",
    '  connection:\n    password: "§\n',
    "  connection:\n    password: §: x\n",
    "  connection:\n    password: §\n   access_key_id: x\n",
    "  connection: {password: §\n",
    "  connection: {password: !!str §}\n",
    "  connection: {password: !§ x}\n",
    "  connection: {password: *§}\n",
    "  connection: {password: &§ &§ x}\n",
    "  connection: {? {§: §} : x}\n",
    "  connection: {<<: §}\n",
    "  connection: {<<: {§: 1}}\n",
    "  secret_access_key=§: x\n",
    "  connection: &c {password=§}\n",
    "runyard: {env: {KEY=§}}\n",
    "runyard: {env: [KEY=§]}\n",
    "runyard: {env: {'KEY §': x}}\n",
    "runyard: {env: {A: {§: §}}}\n",
    "runyard: {secrets: ['NAME=§']}\n",
    "runyard: {hyper_parameters: {'token=§': 1}}\n",
    "runyard: {hyper_parameters: {token: [§]}}\n",
    "runyard: {tags: ['token §']}\n",
    "runyard: {python: [§]}\n",
]


def told(error: ManifestError) -> str:
    """All that an error could show."""
    return f"{error} {error!r} {error.problems!r} {error.__cause__!r} {error.args!r}"


def answer(text: str) -> str:
    """All that is shown of ``text``, read or refused."""
    try:
        return repr(read(text))
    except ManifestError as error:
        return told(error)


def refusal(text: str) -> str:
    """What the slow parser says of ``text``."""
    try:
        compose(text, loader=yaml.SafeLoader)
    except ManifestError as error:
        return told(error)
    return ""


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_no_message_repeats_a_secret(mistake: str, secret: str) -> None:
    for start in (REFERENCE, SHORT + "training_results_reference:\n  target: b\n"):
        text = (SHORT if mistake.startswith("runyard") else start) + mistake.replace("§", secret)
        # What this very secret makes a sound name or value of is where it was put.
        assert MARK not in answer(text).replace(f"named='{secret}'", "").replace(f"('{secret}',)", "")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_told(mistake: str) -> None:
    text = (SHORT if mistake.startswith("runyard") else REFERENCE) + mistake.replace("§", MARK)
    with pytest.raises(ManifestError) as caught:
        read(text)
    assert MARK not in told(caught.value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_nor_does_the_slow_parser(mistake: str) -> None:
    for secret in SECRETS:
        assert MARK not in refusal((REFERENCE + mistake).replace("§", secret))


@pytest.mark.parametrize("text", [SERVICE, FFDL])
def test_a_specification_holds_no_secret(text: str) -> None:
    parsed = read(text.replace("SECRET", "hUsH9x").replace("KEYID", "aLsO7y"))
    shown = f"{parsed!r} {parsed} {parsed.spec!r} {parsed.secrets!r} {list(parsed.secrets.values())} {parsed.notes}"
    assert "hUsH9x" not in shown
    assert "aLsO7y" not in shown
    assert all(each.secret_access_key.startswith("hUsH9x") for each in parsed.secrets.values())
    keys = {each.connection.secret for each in (*parsed.spec.data, parsed.spec.results)}
    assert keys == set(parsed.secrets)


def test_stores_without_credentials_have_no_secret() -> None:
    parsed = read(REFERENCE + "  connection: {endpoint_url: https://h}\n")
    assert parsed.secrets == {}
    assert parsed.spec.data[0].connection == Connection(endpoint_url="https://h")


def test_a_place_for_secrets_repeats_nothing() -> None:
    place = Place(Findings(), "a")
    assert place.shown("word") == "`word`"
    assert place.shown("two words") == place.shown("x" * 65) == "this"
    assert place.key("b", 1, private=True).key("c", 2).shown("word", "it") == "it"


@pytest.mark.parametrize(
    ("keys", "credentials"),
    [
        ("access_key_id: a, secret_access_key: b", ("a", "b", None)),
        ("aws_access_key_id: a, aws_secret_access_key: b, aws_session_token: c", ("a", "b", "c")),
        ("user_name: a, password: b", ("a", "b", None)),
        ("access_key_id: 0123, secret_access_key: 1e5, session_token: no", ("0123", "1e5", "no")),
        ("access_key_id: < from cloud portal >, secret_access_key: 'x: y'", ("< from cloud portal >", "x: y", None)),
    ],
)
def test_spellings_of_the_keys(keys: str, credentials: tuple[str, str, str | None]) -> None:
    (found,) = read(REFERENCE + f"  connection: {{endpoint_url: https://h, {keys}}}\n").secrets.values()
    assert (found.access_key_id, found.secret_access_key, found.session_token) == credentials


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30),
    st.sampled_from(MISTAKES),
    st.integers(0, 3),
)
def test_whatever_the_secret_is_it_is_not_repeated(rest: str, mistake: str, shape: int) -> None:
    secret = [MARK + rest, rest + MARK, f"{rest}{MARK}{rest}", f"'{MARK}{rest}"][shape]
    for problem in problems((REFERENCE + mistake).replace("§", secret)):
        assert MARK not in str(problem)


@given(st.data())
def test_a_mangled_manifest_does_not_tell_its_secret(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([SERVICE, FFDL])).replace("SECRET", MARK)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        text = text[:place] + data.draw(st.text("\t\n :{}[]'\"!*&%@#,-x", max_size=2)) + text[place + cut :]
    for problem in problems(text):
        assert MARK not in str(problem)
