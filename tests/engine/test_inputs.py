"""What a run was trained on can be told: each data reference as it was listed when it was staged."""

import hashlib
from dataclasses import replace

from runyard.core.spec import StoreKind
from runyard.engine import inputs, queries, stage
from runyard.ports.objects import ObjectEntry
from runyard.ports.store import RunQuery
from runyard.testing.builders import a_location
from tests.engine.yard import ACME, Yard, manifest


def test_a_digest_over_names_sizes_and_etags_in_the_order_of_names() -> None:
    text = b"a/1\t5\tx\nb\t7\t\n"
    entries = [ObjectEntry("b", 7), ObjectEntry("a/1", 5, "x")]
    assert inputs.digest(entries) == hashlib.sha256(text).hexdigest()
    assert inputs.digest([]) == hashlib.sha256(b"").hexdigest()
    for other in (ObjectEntry("b", 8), ObjectEntry("c", 7), ObjectEntry("b", 7, "y")):
        assert inputs.digest([other, entries[1]]) != inputs.digest(entries)


def test_what_was_listed_is_kept_and_shown(yard: Yard) -> None:
    yard.join()
    yard.fakes.objects.put("acme", "data", a=b"1", b=b"22")
    run = yard.submit(manifest(data="data"))[0]
    assert queries.show(yard.world, yard.run(run)).inputs == (), "nothing was listed yet"
    stage.stage(yard.world, yard.run(run).spec_id)
    assert queries.show(yard.world, yard.run(yard.finished())).inputs == ()
    yard.restart()
    shown = queries.show(yard.world, yard.run(run)).inputs
    entries = yard.world.objects.list(
        yard.world.specs.get(yard.run(run).spec_id).spec.data[0], None, account_id="acme"
    ).entries
    assert shown == (
        {
            "name": "data",
            "kind": "local",
            "bucket": "data",
            "prefix": "",
            "objects": 2,
            "bytes": 3,
            "digest": inputs.digest(entries),
        },
    )


def test_a_host_path_was_listed_by_nobody() -> None:
    location = replace(a_location(), kind=StoreKind.volume, bucket="faces", name="f")
    assert inputs.held(location, ()) == {
        "name": "f", "kind": "volume", "bucket": "faces", "prefix": location.prefix,
        "objects": None, "bytes": None, "digest": None,
    }  # fmt: skip


def test_a_diff_is_in_show_and_not_in_lists(yard: Yard) -> None:
    provenance = {"git_commit": "abc", "git_dirty": True, "git_diff": "-1\n+2\n"}
    run = yard.submit(provenance=provenance)[0]
    assert queries.show(yard.world, yard.run(run)).provenance == provenance
    listed, _ = queries.listing(yard.world, RunQuery(ACME.account_id))
    assert [dict(each.provenance) for each in listed] == [{"git_commit": "abc", "git_dirty": True}]
