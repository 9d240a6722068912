"""The contract of object stores, as tests: subclass :class:`ObjectStoresContract` and give it a ``case`` fixture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from runyard.core.spec import Credentials, Location
from runyard.ports.objects import Checked, Listing, ObjectStores, Verdict

ACCOUNT = "account-1"
CHECK_S = 5.0
"""A check answers within this, whatever happens."""


@dataclass(frozen=True, slots=True)
class ObjectsCase:
    """One kind of store: ``bucket`` is there and empty, ``missing`` is not there.

    ``location`` makes a location from a bucket and a prefix; ``put`` writes an object (bucket, key, content) by another
    way than the port's.
    """

    stores: ObjectStores
    location: Callable[[str, str], Location]
    put: Callable[[str, str, bytes], None]
    credentials: Credentials | None = field(default=None, repr=False)
    bucket: str = "bucket"
    missing: str = "missing-bucket"
    makes_buckets: bool = False
    """Whether writing makes a missing bucket, so that a check of it is good."""

    def check(self, bucket: str, prefix: str = "", *, write: bool) -> Checked:
        """Check a location, and see that it did not take long."""
        began = time.monotonic()
        location = self.location(bucket, prefix)
        checked = self.stores.check(location, self.credentials, write=write, account_id=ACCOUNT)
        assert time.monotonic() - began < CHECK_S + 2
        return checked

    def list(self, bucket: str, prefix: str = "") -> Listing:
        """List a location."""
        return self.stores.list(self.location(bucket, prefix), self.credentials, account_id=ACCOUNT)

    def read(self, bucket: str, prefix: str, key: str) -> bytes | None:
        """An object through the port."""
        opened = self.stores.read(self.location(bucket, prefix), self.credentials, key, account_id=ACCOUNT)
        if opened is None:
            return None
        content = b"".join(opened[1])
        assert len(content) == opened[0]
        return content

    def delete(self, bucket: str, prefix: str, below: str) -> int:
        """Delete through the port."""
        location = self.location(bucket, prefix)
        return self.stores.delete_prefix(location, self.credentials, below, account_id=ACCOUNT)


class ObjectStoresContract:
    """All that object stores of any kind must do."""

    @pytest.fixture
    def case(self) -> ObjectsCase:
        """A case whose bucket is empty."""
        raise NotImplementedError("a subclass says which store is tested")

    def test_a_bucket_that_is_there_may_be_read_and_written(self, case: ObjectsCase) -> None:
        """Empty or not, with a prefix or without."""
        for _ in range(2):
            for write in (False, True):
                for prefix in ("", "some/prefix", "some/prefix/"):
                    assert case.check(case.bucket, prefix, write=write) == Checked(Verdict.ok)
            case.put(case.bucket, "some/prefix/k", b"x")

    def test_a_check_leaves_nothing_behind(self, case: ObjectsCase) -> None:
        """Nor does it touch what is there."""
        case.put(case.bucket, "p/k", b"x")
        before = case.list(case.bucket)
        for prefix in ("", "p", "q"):
            case.check(case.bucket, prefix, write=True)
        assert case.list(case.bucket) == before

    def test_a_missing_bucket_is_named(self, case: ObjectsCase) -> None:
        """And not made by asking for it."""
        for _ in range(2):
            checked = case.check(case.missing, write=False)
            assert checked.verdict is Verdict.not_found
            assert case.missing in checked.message
            written = case.check(case.missing, write=True)
            assert written.verdict is (Verdict.ok if case.makes_buckets else Verdict.not_found)
        listing = case.list(case.missing)
        assert listing.checked.verdict is Verdict.not_found
        assert case.missing in listing.checked.message
        assert not listing.entries

    def test_a_listing_is_sorted_and_below_the_prefix(self, case: ObjectsCase) -> None:
        """Whole segments count: ``data2/`` is not below ``data``."""
        for key in ("data/b/2", "data/a", "data/b.txt", "data/b-1", "data2/z", "other"):
            case.put(case.bucket, key, key.encode())
        for prefix in ("data", "data/"):
            listing = case.list(case.bucket, prefix)
            assert listing.checked == Checked(Verdict.ok)
            assert [entry.key for entry in listing.entries] == ["a", "b-1", "b.txt", "b/2"]
            assert [entry.size for entry in listing.entries] == [6, 8, 10, 8]
        assert len(case.list(case.bucket).entries) == 6
        nothing = case.list(case.bucket, "dat")
        assert (nothing.checked, len(nothing.entries)) == (Checked(Verdict.ok), 0)

    def test_an_etag_tells_that_the_content_changed(self, case: ObjectsCase) -> None:
        """Also when the size is the same."""
        etags: set[str] = set()
        for content in (b"1", b"2", b"3"):
            case.put(case.bucket, "k", content)
            etags.update(entry.etag for entry in case.list(case.bucket).entries)
        assert len(etags) == 3

    def test_an_object_is_passed_on(self, case: ObjectsCase) -> None:
        """Whole, also when it is large or empty."""
        large = bytes(range(256)) * 20_000
        for key, content in (("p/k", b"content"), ("p/empty", b""), ("p/large", large)):
            case.put(case.bucket, key, content)
            assert case.read(case.bucket, "p", key.removeprefix("p/")) == content
        assert case.read(case.bucket, "p", "p/k") is None
        assert case.read(case.missing, "", "k") is None

    def test_everything_below_a_prefix_is_deleted_and_nothing_else(self, case: ObjectsCase) -> None:
        """How many there were is told."""
        for key in ("base/run/model/w", "base/run/log", "base/run2/log", "base/run", "run/log"):
            case.put(case.bucket, f"x{key}" if key == "base/run" else key, b"1")
        assert case.delete(case.bucket, "base", "run/") == 2
        assert case.delete(case.bucket, "base", "run/") == 0
        left = [entry.key for entry in case.list(case.bucket).entries]
        assert left == ["base/run2/log", "run/log", "xbase/run"]
        assert case.delete(case.missing, "base", "run/") == 0

    def test_more_than_one_page(self, case: ObjectsCase) -> None:
        """Listed and deleted as a whole."""
        for number in range(1004):
            case.put(case.bucket, f"n/{number:05d}", b"")
        assert [entry.key for entry in case.list(case.bucket, "n").entries] == [f"{n:05d}" for n in range(1004)]
        assert case.delete(case.bucket, "", "n/") == 1004
        assert not case.list(case.bucket).entries
