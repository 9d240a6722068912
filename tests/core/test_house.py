"""What the operator lends: folders with a mode, users of the machine."""

import json

import pytest

from runyard.core.house import Root, User, Users, read_root, read_users, root_of, users_words


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("/data", Root("/data")),
        ("/data/:ro", Root("/data")),
        ("/scratch:rw", Root("/scratch", True)),
        ("/a:b", Root("/a:b")),
        ("/:rw", Root("/", True)),
    ],
)
def test_a_root_has_a_mode(text: str, root: Root) -> None:
    assert read_root(text) == root


@pytest.mark.parametrize("text", ["", "data", "./data:rw", ":rw", "/data/../etc", "/a\0b"])
def test_a_root_is_an_absolute_path(text: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        read_root(text)


def test_the_innermost_root_counts() -> None:
    roots = [Root("/data"), Root("/data/out", True), Root("/")]
    assert root_of("/data/out/x", roots) == Root("/data/out", True)
    assert root_of("/data/outer", roots) == Root("/data")
    assert root_of("/etc", roots) == Root("/")
    assert root_of("/etc", roots[:2]) is None


def test_a_table_of_users_is_read_and_written() -> None:
    users = read_users({"mia": {"uid": 1001, "gid": 1002, "groups": [2000]}, "ben": {"uid": 1003}})
    assert users == Users({"mia": User(1001, 1002, (2000,)), "ben": User(1003, 1003)})
    assert read_users(json.loads(users_words(users))) == users
    assert read_users("system") == Users(system=True) == read_users(json.loads(users_words(Users(system=True))))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("all", '"system" or a table'),
        ({"mia": 1001}, "mia has uid"),
        ({"mia": {"gid": 1001}}, "mia has uid"),
        ({"mia": {"uid": "1001"}}, "mia has uid"),
        ({"mia": {"uid": True}}, "mia has uid"),
        ({"mia": {"uid": 1001, "groups": 5}}, "mia has uid"),
        ({"mia": {"uid": 1001, "shell": "sh"}}, "mia has uid"),
        ({"mia": {"uid": 0}}, "mia: the user id 0 is the system's"),
        ({"mia": {"uid": 999}}, "the user id 999"),
        ({"mia": {"uid": 65534}}, "the user id 65534"),
        ({"mia": {"uid": 1001, "gid": 0}}, "the group id 0"),
        ({"mia": {"uid": 1001, "groups": [998]}}, "the group id 998"),
        ({"mia": {"uid": 2**32}}, "the user id"),
    ],
)
def test_users_of_the_system_and_what_is_no_user_are_refused(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_users(value)
