"""What each data reference held when a spec was staged, so that it can be told later what a run was trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from runyard.core.spec import Location, StoreKind
from runyard.ports.environments import NO_FACTS, SpecFacts
from runyard.ports.executor import DataPart
from runyard.ports.objects import ObjectEntry


def facts_of(parts: Sequence[DataPart]) -> SpecFacts:
    """What is kept of what was listed for a spec, until it is staged anew after a change of its data."""
    if not parts:
        return NO_FACTS
    facts = [held(part.location, part.entries) for part in parts]
    return SpecFacts(inputs=json.dumps(facts, separators=(",", ":")))


def held(location: Location, entries: Sequence[ObjectEntry]) -> dict[str, object]:
    """One data reference and what it held. A host path is read in place: nobody has listed it, and its counts and its
    digest are None."""
    listed = location.kind is not StoreKind.volume
    return {
        "name": location.name,
        "kind": location.kind.value,
        "bucket": location.bucket,
        "prefix": location.prefix,
        "objects": len(entries) if listed else None,
        "bytes": sum(entry.size for entry in entries) if listed else None,
        "digest": digest(entries) if listed else None,
    }


def digest(entries: Sequence[ObjectEntry]) -> str:
    """SHA-256 (hex) over a line ``key TAB size TAB etag`` an object, sorted by key: equal for equal data in a store
    whose etags tell of the content. Where an object has no etag, its name and size alone count."""
    lines = (f"{entry.key}\t{entry.size}\t{entry.etag}\n" for entry in sorted(entries, key=lambda entry: entry.key))
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode())
    return found.hexdigest()


def inputs_of(facts: SpecFacts) -> tuple[Mapping[str, object], ...]:
    """What is kept of a spec's data; nothing before it was staged, or without data."""
    return tuple(json.loads(facts.inputs)) if facts.inputs else ()
