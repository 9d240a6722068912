"""The port of object stores over S3."""

# ruff: noqa: ARG002 # the port gives each kind of store what any of them needs

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from runyard.adapters.objects.verdicts import OK, checked, entry, left_out, within
from runyard.core.errors import StoreUnavailable
from runyard.core.spec import Credentials, Location
from runyard.ports.objects import Checked, Listing, Verdict
from runyard.stores.errors import StoreError
from runyard.stores.keys import is_key, join
from runyard.stores.s3 import S3Place
from runyard.stores.s3_requests import S3Requests
from runyard.wire.orders import Place, Secret

PROBE = ".runyard-write-check"
"""Reserved name: an empty object that a write check puts and removes."""

_CHECK_S = 5.0
_REQUEST_S = 2.0


class S3Objects:
    """An :class:`runyard.ports.objects.ObjectStores` for locations of kind ``s3``."""

    def __init__(self, ca_bundle: Path | None = None) -> None:
        self._ca_bundle = ca_bundle

    def check(self, location: Location, credentials: Credentials | None, *, write: bool, account_id: str) -> Checked:
        """See :class:`runyard.ports.objects.ObjectStores`. Takes at most 5 seconds.

        To read: the bucket is listed and its first object asked for. To write: an empty object under a reserved name
        is put and removed.
        """
        place = place_of(location, credentials)

        def ask() -> Checked:
            try:
                requests = S3Requests(place, self._ca_bundle)
                return _check_write(requests, location) if write else _check_read(requests, location)
            except StoreError as error:
                return checked(error)

        where = place.endpoint_url or "the default S3 end-point"
        return within(_CHECK_S, ask, f"The store at {where} did not answer within {_CHECK_S:g} seconds.")

    def list(self, location: Location, credentials: Credentials | None, *, account_id: str) -> Listing:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        odd: list[str] = []
        try:
            store = S3Place(place_of(location, credentials), self._ca_bundle)
            items = store.list(left_out=odd.append)
        except StoreError as error:
            return Listing(checked(error))
        return Listing(Checked(Verdict.ok, left_out(odd)), [entry(item) for item in items])

    def read(
        self, location: Location, credentials: Credentials | None, key: str, *, account_id: str
    ) -> tuple[int, Iterator[bytes]] | None:
        """See :class:`runyard.ports.objects.ObjectStores`."""
        try:
            return S3Place(place_of(location, credentials), self._ca_bundle).stream(key)
        except StoreError as error:
            if error.kind == "not_found":
                return None
            raise unavailable(error) from None

    def delete_prefix(
        self, location: Location, credentials: Credentials | None, prefix: str, *, account_id: str
    ) -> int:
        """See :class:`runyard.ports.objects.ObjectStores`. A bucket that is not there holds nothing."""
        place = replace(place_of(location, credentials), prefix="")
        try:
            requests = S3Requests(place, self._ca_bundle)
            keys = [item.key for item in requests.list_all(join(location.prefix, prefix))]
            S3Place(place, self._ca_bundle).delete([key for key in keys if is_key(key)])
            for key in keys:
                if not is_key(key):  # a marker of a folder and the like
                    requests.delete(key)
        except StoreError as error:
            if error.kind == "not_found":
                return 0
            raise unavailable(error) from None
        return len(keys)


def unavailable(error: StoreError) -> StoreUnavailable:
    """The error that users are told."""
    return StoreUnavailable(error.message, code=f"store_{checked(error).verdict.value}")


def place_of(location: Location, credentials: Credentials | None) -> Place:
    """A location with its credentials, as the stores take it."""
    secret = None
    if credentials is not None:
        secret = Secret(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    return Place(
        kind=location.kind.value,
        bucket=location.bucket,
        prefix=location.prefix,
        name=location.name,
        endpoint_url=location.connection.endpoint_url,
        region=location.connection.region,
        path=location.connection.path,
        secret=secret,
    )


def _check_read(requests: S3Requests, location: Location) -> Checked:
    page = requests.list_page(join(location.prefix, ""), limit=1, timeout_s=_REQUEST_S, tries=2)
    for item in page.items:
        requests.head(item.key, timeout_s=_REQUEST_S, tries=2)
    return OK


def _check_write(requests: S3Requests, location: Location) -> Checked:
    try:
        # Some servers make a bucket of the first object that is put into it: ask for it first.
        requests.list_page(join(location.prefix, ""), limit=1, timeout_s=_REQUEST_S, tries=2)
    except StoreError as error:
        if error.kind != "denied":
            raise  # who may write need not be allowed to list
    key = join(location.prefix, PROBE)
    requests.put(key, b"", timeout_s=_REQUEST_S)
    try:
        requests.delete(key, timeout_s=_REQUEST_S)
    except StoreError as error:
        if error.kind != "denied":
            raise
        return Checked(Verdict.ok, f"The empty object {key!r} stays behind: the credentials may write but not delete.")
    return OK
