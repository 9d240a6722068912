"""The store of record, as far as frameworks and environments go. All methods commit before they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class SpecFacts:
    """What became known of a spec when it was staged: JSON texts, empty before. ``environment``: an object, what the
    program runs with (interpreter, python, packages); ``inputs``: a list, what each data reference held (name, bucket,
    objects, bytes, digest over keys, sizes and etags)."""

    environment: str = ""
    inputs: str = ""


NO_FACTS: Final = SpecFacts()


@dataclass(frozen=True, slots=True)
class FrameworkRecord:
    """A framework that an account registered: for ``name`` and ``version`` (empty: any) either an existing environment
    ``python`` (path or name on the machines), or another framework to take instead, ``instead`` (``NAME:VERSION``)."""

    account_id: str
    name: str
    version: str
    created_ms: int
    python: str | None = None
    instead: str | None = None


class Environments(Protocol):
    """Registered frameworks, and what was found out about the specs that were staged."""

    def put_framework(self, record: FrameworkRecord) -> None:
        """Create or replace."""
        ...

    def frameworks(self, account_id: str) -> Sequence[FrameworkRecord]:
        """All of an account, by name and version."""
        ...

    def delete_framework(self, account_id: str, name: str, version: str) -> bool:
        """Remove one; False when there is none."""
        ...

    def put_spec_facts(self, spec_id: int, facts: SpecFacts) -> None:
        """Keep what is known of a spec; a text that is empty leaves what was there."""
        ...

    def spec_facts(self, spec_id: int) -> SpecFacts:
        """What is known of a spec, empty texts for what is not."""
        ...
