"""How long accounts keep what they have, of the store in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from runyard.core.account import Account
from runyard.core.events import Event, EventKind
from runyard.core.retention import KEEP_TAG, Ended, Kept, Part
from runyard.core.run import FINAL, Run
from runyard.ports.accounts import TokenRecord
from runyard.ports.store import Definition, StoredSpec


class MemoryRetention:
    """What is kept, and for how long."""

    _lock: threading.RLock
    _accounts: dict[str, Account]
    _runs: dict[str, Run]
    _specs: dict[int, StoredSpec]
    _after: dict[str, tuple[str, ...]]
    _definitions: dict[tuple[str, str], Definition]
    _replies: dict[tuple[str, str], tuple[str, tuple[str, ...], int]]
    _tokens: dict[str, TokenRecord]

    def __init__(self) -> None:
        super().__init__()
        self._retentions: dict[str, Kept] = {}
        self._swept: dict[str, frozenset[Part]] = {}

    def _tell(self, event: Event) -> None:
        raise NotImplementedError

    def retentions(self) -> Mapping[str, Kept]:
        return dict(self._retentions)

    def set_retention(self, account_id: str, kept: Kept) -> bool:
        with self._lock:
            if account_id not in self._accounts:
                return False
            self._retentions.pop(account_id, None)
            if kept:
                self._retentions[account_id] = dict(kept)
            return True

    def ended_runs(self, after_seq: int, limit: int) -> Sequence[Ended]:
        with self._lock:
            runs = [run for run in self._runs.values() if run.seq > after_seq and run.state_name in FINAL]
            return [self._ended(run) for run in sorted(runs, key=lambda run: run.seq)[:limit]]

    def _ended(self, run: Run) -> Ended:
        ended_ms = max(run.created_ms, run.finished_ms or 0, run.stored_ms or 0)
        gone = self._swept.get(run.id, frozenset())
        return Ended(run.seq, run.id, run.account_id, run.spec_id, ended_ms, KEEP_TAG in run.tags, gone)

    def needed_runs(self) -> frozenset[str]:
        with self._lock:
            live = [run for run in self._runs.values() if run.state_name not in FINAL]
            awaited = {each for run in live for each in self._after.get(run.id, ())}
            origins = {self._specs[run.spec_id].spec.options.start_from for run in live}
            return frozenset(awaited | {each for each in origins if each is not None})

    def note_swept(self, run_id: str, parts: frozenset[Part], sentence: str, now_ms: int) -> bool:
        with self._lock:
            run = self._runs.get(run_id)
            if run is None or run.state_name not in FINAL:
                return False
            self._runs[run_id] = replace(run, notes=(*run.notes, sentence), version=run.version + 1)
            self._swept[run_id] = self._swept.get(run_id, frozenset()) | parts
            body = {"parts": sorted(part.value for part in parts)}
            self._tell(Event(EventKind.swept, run_id, run.account_id, now_ms, None, body))
            return True

    def forget_keys(self, before_ms: int) -> int:
        with self._lock:
            old = [key for key, reply in self._replies.items() if reply[2] < before_ms]
            for key in old:
                del self._replies[key]
            return len(old)

    def forget_tokens(self, before_ms: int) -> int:
        with self._lock:
            every = self._tokens.values()
            ends = {each.id: [at for at in (each.expires_ms, each.revoked_ms) if at is not None] for each in every}
            old = [token_id for token_id, at in ends.items() if at and min(at) < before_ms]
            for token_id in old:
                del self._tokens[token_id]
            return len(old)

    def unneeded_definitions(self, before_ms: int) -> Sequence[tuple[str, str, int]]:
        with self._lock:
            specs = [self._specs[run.spec_id] for run in self._runs.values()]
            needed = {(spec.account_id, spec.code_sha256) for spec in specs}
            every = self._definitions.items()
            return [(*key, each.size) for key, each in every if each.created_ms < before_ms and key not in needed]

    def drop_definition(self, account_id: str, sha256: str) -> bool:
        with self._lock:
            self._definitions.pop((account_id, sha256), None)
            return not any(key[1] == sha256 for key in self._definitions)
