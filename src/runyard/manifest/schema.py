"""JSON Schema of the manifest, for editors: made from the tables that the parser reads with."""

from __future__ import annotations

from runyard.manifest import ffdl, options, service
from runyard.manifest.kinds import Json
from runyard.manifest.tables import Table


def schema() -> Json:
    """JSON Schema (2020-12) of a manifest in either dialect; ``$defs.runyard`` is that of the keys of ours.

    It says what an editor can use. Some rules, such as those between keys, only the parser checks.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Runyard manifest",
        "anyOf": [{"$ref": "#/$defs/service"}, {"$ref": "#/$defs/ffdl"}],
        "$defs": {
            "runyard": options.TABLE.schema(),
            "service": _dialect(service.TABLE),
            "ffdl": _dialect(ffdl.TABLE),
        },
    }


def _dialect(table: Table) -> Json:
    shape = table.schema()
    properties = shape["properties"]
    reference: Json = {"$ref": "#/$defs/runyard", "description": options.RUNYARD.about}
    return {**shape, "properties": {**properties, "runyard": reference}} if isinstance(properties, dict) else shape
