"""Templates, the JSON Schema and the page about the keys: all three say what the parser reads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runyard.core.errors import NotFound
from runyard.manifest import ffdl, generate, options, schema, service
from runyard.manifest.findings import Findings, Place
from runyard.manifest.kinds import Many
from runyard.manifest.nodes import MapNode, Node, compose
from runyard.manifest.service import DATA_TABLE, RESULTS_TABLE
from runyard.manifest.tables import Table
from tests.manifest.reading import ours, read, spec

PAGE = Path(__file__).resolve().parents[2] / "docs" / "manifest.md"


def test_a_training_run_can_be_read() -> None:
    parsed = read(generate("training-runs"))
    assert parsed.spec.options.hyper_parameters == (("learning_rate", 0.1),)
    assert [each.bucket for each in (*parsed.spec.data, parsed.spec.results)] == ["my-data", "results"]
    assert parsed.notes == ()


def test_it_can_be_read_with_its_commented_keys() -> None:
    keys = [key.name for key in options.TABLE.keys]
    text = re.sub(rf"^  # ({'|'.join(keys)}): ", r"  \1: ", generate("training-runs"), flags=re.M)
    assert text.count("\n  # ") == len(keys) - 1
    found = spec(text).options
    assert (found.python, found.tags, found.shm_mib) == ("/opt/envs/torch/bin/python", ("baseline",), 1908)


@pytest.mark.parametrize("key", options.TABLE.keys, ids=lambda key: key.name)
def test_the_sample_of_a_key_can_be_read(key: object) -> None:
    assert hasattr(key, "name")
    (name, sample) = (getattr(key, "name", ""), getattr(key, "sample", ""))
    assert sample
    assert spec(ours(f"{name}: {sample}"))


def entries(text: str) -> dict[str, Node]:
    root = compose(text)
    assert isinstance(root, MapNode)
    return {entry.key: entry.value for entry in root.entries}


def test_the_data_reference_of_a_training_definition_can_be_read() -> None:
    found = entries(generate("training-definitions"))
    assert list(found) == ["name", "description", "author", "framework", "training_data_reference"]
    findings = Findings()
    place = Place(findings)
    assert Many(DATA_TABLE).read(found["training_data_reference"], place)
    assert service.FRAMEWORK.kind.read(found["framework"], place)
    assert service.AUTHOR.kind.read(found["author"], place)
    findings.check()


def test_the_results_reference_of_an_experiment_can_be_read() -> None:
    found = entries(generate("experiments"))
    assert list(found) == ["settings", "training_references", "training_results_reference"]
    findings = Findings()
    assert RESULTS_TABLE.read(found["training_results_reference"], Place(findings))
    findings.check()


def test_kinds_of_templates() -> None:
    assert generate() == generate("training-runs") == generate("training-run")
    with pytest.raises(NotFound, match="did you mean `experiments`"):
        generate("experimnts")


def tables(table: Table) -> list[Table]:
    """A table and those below it."""
    found = [table]
    for key in table.keys:
        kind: object = key.kind
        while not isinstance(kind, Table) and (hasattr(kind, "kind") or hasattr(kind, "value")):
            kind = getattr(kind, "kind", None) or getattr(kind, "value", None)
        if isinstance(kind, Table):
            found += tables(kind)
    return found


def test_the_page_tells_every_key() -> None:
    page = PAGE.read_text(encoding="utf-8")
    told = set(re.findall(r"`([a-z_A-Z]+)`", page))
    keys = {spelling for root in (service.TABLE, ffdl.TABLE) for each in tables(root) for spelling in each.spellings}
    assert keys - told == set()


def test_the_schema_has_every_key_of_ours() -> None:
    definitions = schema()["$defs"]
    assert isinstance(definitions, dict)
    table = definitions["runyard"]
    assert set(table["properties"]) == {key.name for key in options.TABLE.keys}
    assert table["additionalProperties"] is False
    assert all(each["description"] for each in table["properties"].values())
    assert table["properties"]["priority"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 100,
        "default": 50,
        "description": options.PRIORITY.about,
    }
    for dialect, root in (("service", service.TABLE), ("ffdl", ffdl.TABLE)):
        assert set(definitions[dialect]["properties"]) == set(root.spellings)
        assert definitions[dialect]["properties"]["runyard"]["$ref"] == "#/$defs/runyard"


def test_the_schema_is_plain_json() -> None:
    assert json.loads(json.dumps(schema())) == schema()
