"""Where data and results are: connections, buckets and references, for both dialects."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from runyard.core.spec import Connection, Credentials, Location, StoreKind
from runyard.manifest.findings import Place
from runyard.manifest.kinds import ONE_LINE, Choice, Json, Text, scalar
from runyard.manifest.nodes import Node
from runyard.manifest.tables import Key, Opened, Table

DEFAULT_RESULTS: Final = Location(StoreKind.local, Connection(), "results", name="results")
"""Where results go that the manifest sends nowhere: the bucket ``results`` of the embedded store."""

_STORED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+(?:/[A-Za-z0-9._~%/-]*)?")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_SEGMENT = re.compile(r"[^/\\\x00-\x1f\x7f]+")
_HIDDEN: Final = Text(ONE_LINE, "This must be text, and not empty.")


@dataclass(frozen=True, slots=True)
class Access:
    """A connection and the secret half that was split from it."""

    connection: Connection
    credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A location that a manifest names, and the credentials to reach it."""

    location: Location
    credentials: Credentials | None = None


NAME: Final = Key[str](
    "name",
    Text(_STORED_NAME, "This must be the name of a stored connection: letters, digits, `.`, `_` and `-`."),
    "",
    "Name of a stored connection. With `path`: a label.",
)
KIND: Final = Key[str](
    "type",
    Text(_STORED_NAME, "This must be a word."),
    "",
    "Kind of the connection, as FfDL wrote it; `type` beside it counts.",
)
ENDPOINT: Final = Key[str](
    "endpoint_url",
    Text(
        _URL,
        "This must be an address such as https://s3.example.com, with its http:// or https://, and without user, "
        "password or query in it.",
    ),
    "",
    "Address of the object store.",
    aliases=("auth_url",),
)
REGION: Final = Key[str]("region", Text(), "", "Region of the object store.")
ACCESS_KEY: Final = Key[str](
    "access_key_id", _HIDDEN, "", "First half of the credentials.", aliases=("aws_access_key_id", "user_name")
)
SECRET_KEY: Final = Key[str](
    "secret_access_key", _HIDDEN, "", "Second half of the credentials.", aliases=("aws_secret_access_key", "password")
)
TOKEN: Final = Key[str](
    "session_token", _HIDDEN, "", "Third part of temporary credentials.", aliases=("aws_session_token",)
)
PATH: Final = Key[str](
    "path",
    Text(re.compile(r"/[^\x00-\x1f\x7f]*"), "This must be an absolute path."),
    "",
    "Folder of the machine that a `mount_volume` is.",
)
CONNECTION_TABLE: Final = Table((NAME, KIND, ENDPOINT, REGION, ACCESS_KEY, SECRET_KEY, TOKEN, PATH), short="name")
CONNECTION: Final = Key[Opened | None](
    "connection",
    CONNECTION_TABLE,
    None,
    "How to reach the store: a table, or the name of a stored connection.",
    private=True,
)

_TYPES: Final = Choice(
    (
        ("s3", StoreKind.s3),
        ("local", StoreKind.local),
        ("mount_volume", StoreKind.volume),
        ("mount_cos", StoreKind.s3),
        ("s3_datastore", StoreKind.s3),
    )
)
TYPE: Final = Key[str](
    "type", _TYPES, "", "s3, local (the embedded store) or mount_volume. Without it: s3 with a connection, else local."
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and perhaps a folder in it, ``bucket/prefix``, read into the two."""

    def read(self, node: Node, place: Place) -> tuple[str, str] | None:
        if (found := scalar(node, place, "a bucket, or bucket/prefix")) is None:
            return None
        bucket, _, prefix = found.text.strip().partition("/")
        prefix = prefix.rstrip("/")
        segments = prefix.split("/") if prefix else []
        if not _BUCKET.fullmatch(bucket):
            place.say("A bucket has letters, digits, `.`, `_` and `-`, and begins with a letter or a digit.")
        elif len(prefix) > 1024 or not all(_SEGMENT.fullmatch(part) and part not in (".", "..") for part in segments):
            place.say("What follows the bucket must be folders, such as data/train, without empty ones, `.` and `..`.")
        else:
            return bucket, prefix
        return None

    def schema(self) -> Json:
        shape = rf"^{_BUCKET.pattern}(/[^/\\]+)*/?$"
        return {"type": ["string", "number"], "pattern": shape, "examples": ["mnist", "mnist/train"]}


def access(opened: Opened, kind: StoreKind) -> Access:
    """Check a connection as a whole and split the secrets from it."""
    if kind == StoreKind.volume:
        return _volume(opened)
    described = [key for key in (ENDPOINT, REGION, ACCESS_KEY, SECRET_KEY, TOKEN, PATH) if key in opened]
    if kind == StoreKind.local:
        opened.place.say("The embedded store (`type: local`) takes no connection: remove it, or change the type.")
    elif NAME in opened and described:
        opened.place.say("Either name a stored connection or describe one, not both.")
    elif PATH in opened:
        opened.at(PATH).say("Only `type: mount_volume` has a path.")
    elif NAME not in opened and ENDPOINT not in opened and REGION not in opened:
        opened.at(ENDPOINT).say("This key is missing (for Amazon's own store, `region` will do).")
    for one, other in ((ACCESS_KEY, SECRET_KEY), (SECRET_KEY, ACCESS_KEY), (TOKEN, SECRET_KEY)):
        if one in opened and other not in opened:
            opened.at(other).say("This key is missing: credentials have both halves.")
    credentials = Credentials(opened[ACCESS_KEY], opened[SECRET_KEY], opened[TOKEN] or None)
    connection = Connection(opened[ENDPOINT] or None, opened[REGION] or None, opened[NAME] or None)
    return Access(connection, credentials if SECRET_KEY in opened else None)


def _volume(opened: Opened) -> Access:
    if PATH not in opened and NAME not in opened:
        opened.at(PATH).say("This key is missing: which folder of the machine?")
    for key in (ENDPOINT, REGION, ACCESS_KEY, SECRET_KEY, TOKEN):
        if key in opened:
            opened.at(key).say("A `mount_volume` has a path, and no credentials.")
    named = opened[NAME] if PATH not in opened else ""
    return Access(Connection(named=named or None, path=opened[PATH] or None))


def store_kind(word: str, connection: Opened | None) -> StoreKind:
    """What kind of store ``type`` names; where it is left out, what the connection is of."""
    if word:
        return StoreKind(word)
    if connection is None:
        return StoreKind.local
    return StoreKind.volume if PATH in connection else StoreKind.s3


def refer(kind: StoreKind, connection: Opened | None, place: Place, bucket: tuple[str, str], name: str) -> Reference:
    """Put a reference together. ``place`` is where a missing connection would stand."""
    found = Access(Connection())
    if connection is not None:
        found = access(connection, kind)
    elif kind != StoreKind.local:
        place.say("This key is missing: only the embedded store (`type: local`) needs none.")
    return Reference(Location(kind, found.connection, bucket[0], bucket[1], name), found.credentials)


def keyed(reference: Reference, key: str) -> tuple[Location, dict[str, Credentials]]:
    """Put the credentials of ``reference`` under ``key``, and the key into its connection."""
    if reference.credentials is None:
        return reference.location, {}
    location = replace(reference.location, connection=replace(reference.location.connection, secret=key))
    return location, {key: reference.credentials}
