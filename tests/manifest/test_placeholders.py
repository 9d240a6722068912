"""Connections that an example leaves open."""

import pytest

from runyard.core.resources import DEFAULT_CONFIGURATIONS
from runyard.core.spec import StoreKind
from runyard.manifest import Parsed, parse
from runyard.manifest.converting import modernise

SERVICE = """
model_definition:
  name: n
  framework: {{name: tensorflow, version: "1.5"}}
  execution: {{command: python3 a.py ..., compute_configuration: {{name: k80, nodes: 1}}}}
training_data_reference:
  name: d
  connection: {data}
  source: {{bucket: images, type: s3}}
training_results_reference:
  name: ...
  connection: {results}
  target: {{bucket: models}}
  type: s3
"""
FFDL = """
name: n
framework: {name: tensorflow, version: "1.5.0-py3", command: python3 a.py}
data_stores:
  - id: my-store
    type: mount_cos
    training_data: {container: images}
    training_results: {container: models}
    connection: {auth_url: ..., user_name: ..., password: ..., region: ...}
"""


def read(text: str) -> Parsed:
    return parse(text, configurations=DEFAULT_CONFIGURATIONS)


@pytest.mark.parametrize(
    "text",
    [
        SERVICE.format(data="{endpoint_url: ..., access_key_id: ..., secret_access_key: ...}", results="{...}"),
        SERVICE.format(data="...", results='{"...": null}'),
        FFDL,
    ],
)
def test_the_embedded_store_stands_in_and_a_note_says_so(text: str) -> None:
    parsed = read(text)
    locations = (*parsed.spec.data, parsed.spec.results)
    assert [(each.kind, each.bucket) for each in locations] == [
        (StoreKind.local, "images"),
        (StoreKind.local, "models"),
    ]
    assert not parsed.secrets
    told = [note for note in parsed.notes if "the embedded store is taken" in note]
    assert len(told) == (1 if text == FFDL else 2)
    converted = modernise(text)
    assert [note for note in converted.notes if note in told] == told
    assert read(converted.body).spec.results.bucket == "models"


def test_a_connection_that_says_anything_stays() -> None:
    text = SERVICE.format(
        data="{endpoint_url: 'https://s3.example.com', access_key_id: k, secret_access_key: ...}",
        results="{endpoint_url: 'https://s3.example.com', access_key_id: k, secret_access_key: s}",
    )
    parsed = read(text)
    assert {each.kind for each in (*parsed.spec.data, parsed.spec.results)} == {StoreKind.s3}
    assert not [note for note in parsed.notes if "embedded" in note]
