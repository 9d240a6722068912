"""Data that are already there: what a machine has of a bucket is told, shared, kept and cleared."""

import json
from pathlib import Path
from typing import Any

from tests.support.installation import Installation, manifest, write_code

BUCKET = "cached-words"


def held(installation: Installation) -> list[dict[str, Any]]:
    (node,) = installation.json("data", "cache")["nodes"]
    assert node["answered"]
    return sorted((item for item in node["items"] if item["bucket"] == BUCKET), key=lambda item: item["objects"])


def trained(installation: Installation, folder: Path) -> dict[str, Any]:
    (run,) = installation.json("train", str(folder), str(folder / "manifest.yml"), "--wait")["ids"]
    return installation.json("show", run)


def test_what_is_at_hand_is_shared_told_pinned_and_cleared(shared: Installation) -> None:
    words = shared.folder / BUCKET
    write_code(words, {"a.txt": "a" * 1000, "b.txt": "b" * 1000})
    model = write_code(shared.folder / "cached-model", {"main.py": "pass"})
    (model / "manifest.yml").write_text(manifest("ls $DATA_DIR > $RESULT_DIR/names", data=BUCKET))
    shared.cli("data", "push", str(words), BUCKET)
    assert trained(shared, model)["state"] == "completed"
    (words / "c.txt").write_text("c" * 10)
    shared.cli("data", "push", str(words / "c.txt"), BUCKET)
    assert trained(shared, model)["state"] == "completed"
    first, second = held(shared)
    assert (first["objects"], second["objects"], second["bytes"], second["kind"]) == (2, 3, 2010, "local")
    assert first["own_bytes"] + second["own_bytes"] == 2010, "what both have is counted once"
    assert first["last_used_at"] < second["last_used_at"]
    assert f" {BUCKET} " in shared.cli("data", "cache", "ls").stdout

    shared.cli("data", "cache", "pin", BUCKET)
    shared.cli("data", "cache", "clear")
    assert [item["pinned"] for item in held(shared)] == [True, True]
    assert "stays" not in shared.cli("data", "cache", "unpin", BUCKET).stderr
    (cleared,) = json.loads(shared.cli("data", "cache", "clear", BUCKET, "--json").stdout)["nodes"]
    assert cleared["removed"] == 2
    assert held(shared) == []
    assert trained(shared, model)["state"] == "completed", "it is fetched again"
    assert len(held(shared)) == 1


def test_a_name_that_no_bucket_has_is_refused(shared: Installation) -> None:
    assert "bucket name" in shared.cli("data", "cache", "pin", "../x", check=4).stderr
