"""Secrets and dependencies of the store in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from runyard.core.lifecycle import is_blocked
from runyard.core.run import Run
from runyard.ports.sealed import SealedKind, SealedText
from runyard.ports.secrets import SecretRecord
from runyard.ports.store import ConnectionRecord, StoredSpec


class MemorySecrets:
    """See :class:`runyard.ports.secrets.Secrets`."""

    def __init__(self) -> None:
        super().__init__()
        self._secrets: dict[tuple[str, str], SecretRecord] = {}

    def put_secret(self, record: SecretRecord) -> None:
        self._secrets[record.account_id, record.name] = record

    def secret(self, account_id: str, name: str) -> SecretRecord | None:
        return self._secrets.get((account_id, name))

    def secrets(self, account_id: str) -> Sequence[SecretRecord]:
        return [record for key, record in sorted(self._secrets.items()) if key[0] == account_id]

    def delete_secret(self, account_id: str, name: str) -> bool:
        return self._secrets.pop((account_id, name), None) is not None


class MemorySealed:
    """See :class:`runyard.ports.sealed.SealedTexts`."""

    _lock: threading.RLock
    _connections: dict[tuple[str, str], ConnectionRecord]
    _secrets: dict[tuple[str, str], SecretRecord]
    _specs: dict[int, StoredSpec]

    def _sealed(self) -> list[SealedText]:
        with self._lock:
            named = [(SealedKind.connection, key, each.sealed) for key, each in self._connections.items()]
            named += [(SealedKind.secret, key, each.sealed) for key, each in self._secrets.items()]
            named += [(SealedKind.spec, (each.account_id, str(each.id)), each.sealed) for each in self._specs.values()]
        return [SealedText(kind, *key, sealed) for kind, key, sealed in named if sealed is not None]

    def sealed_texts(self, kind: SealedKind, key: bytes, limit: int) -> Sequence[SealedText]:
        found = [each for each in self._sealed() if each.kind is kind and not each.sealed.startswith(key)]
        return found[:limit]

    def reseal(self, old: SealedText, sealed: bytes) -> bool:
        with self._lock:
            if old not in self._sealed():
                return False
            key = (old.account_id, old.name)
            if old.kind is SealedKind.connection:
                self._connections[key] = replace(self._connections[key], sealed=sealed)
            elif old.kind is SealedKind.secret:
                self._secrets[key] = replace(self._secrets[key], sealed=sealed)
            else:
                self._specs[int(old.name)] = replace(self._specs[int(old.name)], sealed=sealed)
            return True

    def any_sealed(self) -> bool:
        return bool(self._sealed())


class MemoryDependencies:
    """See :class:`runyard.ports.dependencies.Dependencies`."""

    _lock: threading.RLock

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, Run] = {}
        self._after: dict[str, tuple[str, ...]] = {}

    def runs_of(self, run_ids: Sequence[str]) -> Sequence[Run]:
        with self._lock:
            return [self._runs[run_id] for run_id in run_ids if run_id in self._runs]

    def dependencies(self, run_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        with self._lock:
            return {each: self._after[each] for each in run_ids if each in self._runs and self._after[each]}

    def dependents(self, run_ids: Sequence[str], limit: int) -> Sequence[str]:
        wanted = set(run_ids)
        return [run.id for run in self._blocked() if wanted & set(self._after.get(run.id, ()))][:limit]

    def blocked(self, after_seq: int, limit: int) -> Sequence[tuple[int, str]]:
        return [(run.seq, run.id) for run in self._blocked() if run.seq > after_seq][:limit]

    def _blocked(self) -> list[Run]:
        with self._lock:
            return sorted((run for run in self._runs.values() if is_blocked(run)), key=lambda run: run.seq)
