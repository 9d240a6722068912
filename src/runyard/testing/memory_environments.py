"""Frameworks, and what is known of specs, of the store in memory."""

from __future__ import annotations

from collections.abc import Sequence

from runyard.ports.environments import FrameworkRecord, SpecFacts


class MemoryEnvironments:
    """See :class:`runyard.ports.environments.Environments`."""

    def __init__(self) -> None:
        super().__init__()
        self._frameworks: dict[tuple[str, str, str], FrameworkRecord] = {}
        self._facts: dict[int, SpecFacts] = {}

    def put_framework(self, record: FrameworkRecord) -> None:
        self._frameworks[record.account_id, record.name, record.version] = record

    def frameworks(self, account_id: str) -> Sequence[FrameworkRecord]:
        return [record for key, record in sorted(self._frameworks.copy().items()) if key[0] == account_id]

    def delete_framework(self, account_id: str, name: str, version: str) -> bool:
        return self._frameworks.pop((account_id, name, version), None) is not None

    def put_spec_facts(self, spec_id: int, facts: SpecFacts) -> None:
        before = self.spec_facts(spec_id)
        told = SpecFacts(facts.environment or before.environment, facts.inputs or before.inputs)
        self._facts[spec_id] = told

    def spec_facts(self, spec_id: int) -> SpecFacts:
        return self._facts.get(spec_id, SpecFacts())
