"""What the tests' HTTP service knows, and how tests move it: it decides nothing by itself."""

import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from runyard.core.ids import run_id

FINAL = ("completed", "failed", "canceled")


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class State:
    """All that the service knows; shared by its threads under ``changed``."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, list[bytearray]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    definitions: dict[str, bytes] = field(default_factory=dict)
    mentions: dict[str, str] = field(default_factory=dict)
    objects: dict[str, dict[str, bytes]] = field(default_factory=dict)
    results: dict[str, dict[str, bytes]] = field(default_factory=dict)
    replays: dict[str, list[str]] = field(default_factory=dict)
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    frameworks: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    quota: dict[str, int | None] = field(default_factory=lambda: {"default": 1})
    part: dict[str, Any] = field(default_factory=dict[str, Any])
    drained: list[tuple[str, str, Any]] = field(default_factory=list[tuple[str, str, Any]])
    paused: bool = False
    moved: list[tuple[str, int]] = field(default_factory=list)
    submissions: list[dict[str, Any]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)


class World:
    """The service but for its socket. ``on_submit`` is called with each new id, in a thread of its own, once it was
    answered."""

    def __init__(self) -> None:
        self.state = State()
        self.on_submit: Callable[[str], None] | None = None
        self.drop = 0
        """So many requests more are read and then cut off without an answer, after they took effect."""
        self.unavailable = 0
        """So many requests more are answered with 503."""
        self.refusal: tuple[int, dict[str, Any]] | None = None
        """What to answer to every submission instead."""
        self.short_by = 0
        """So many bytes are missing at the end of each result."""
        self.connections: set[socket.socket] = set()
        """Those that are open now."""
        self._counter = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        raise NotImplementedError

    def add_run(self, **values: Any) -> str:
        """A run, waiting unless told otherwise; its id."""
        with self.state.changed:
            self._counter += 1
            run = run_id((self._counter * 0x9E3779B97F4A7C15) % 2**64)
            now = time.time() + self._counter / 1000
            self.state.runs[run] = blank_run(run, now) | values
            self.state.logs[run] = []
            self._event("accepted", run)
        return run

    def move(self, run: str, state: str, **values: Any) -> None:
        """Bring a run into another state, with its event."""
        with self.state.changed:
            record = self.state.runs[run]
            record.update(values, state=state)
            now = iso(time.time())
            if state == "starting":
                number = len(record["attempts"]) + 1
                record["attempts"].append({"number": number, "node": "n1", "slots": [0], "assigned_at": now})
                self.state.logs[run].append(bytearray())
                self._event("assigned", run, number, node="n1", slots=[0])
            elif state == "running":
                record["started_at"] = now
                self._event("running", run, len(record["attempts"]))
            elif state in FINAL:
                record.update(finished_at=now, stored_at=now, sentence=record["sentence"] or f"It is {state}.")
                ending = {"completed": "finished", "failed": "nonzero_exit", "canceled": "canceled"}[state]
                record["reason"] = values.get("reason", ending)
                self._event("finished", run, state=state, reason=record["reason"])
            else:
                self._event("requeued" if state == "waiting" else state, run, len(record["attempts"]))

    def print_log(self, run: str, text: str) -> None:
        with self.state.changed:
            self.state.logs[run][-1] += text.encode()
            self.state.changed.notify_all()

    def live(self, run: str, ending: str = "completed", log: str = "hello\n") -> None:
        """A whole life."""
        self.move(run, "starting")
        self.move(run, "running")
        self.print_log(run, log)
        self.move(run, "storing")
        self.move(run, ending)

    def forget(self, run: str) -> None:
        with self.state.changed:
            del self.state.runs[run]
            self._event("deleted", run)

    def _event(self, kind: str, run: str, attempt: int | None = None, **body: Any) -> None:
        seq = len(self.state.events) + 1
        head = {"seq": seq, "at": iso(time.time()), "kind": kind, "run": run, "attempt": attempt}
        self.state.events.append(body | head)
        self.state.changed.notify_all()

    def asked(self, method: str, pattern: str) -> list[Seen]:
        """The requests so far whose path matches."""
        return [each for each in self.state.seen if each.method == method and re.fullmatch(pattern, each.path)]


def blank_run(run: str, now: float) -> dict[str, Any]:
    """A waiting run with every field of docs/api.md."""
    nothing = dict.fromkeys(
        ("fault", "estimate", "staged_at", "started_at", "finished_at", "stored_at", "exit_code", "definition",
         "staging", "max_runtime_seconds")
    )  # fmt: skip
    return nothing | {
        "id": run, "name": "demo", "account": "default", "member": "owner", "state": "waiting", "readiness": "quota",
        "reason": "quota", "sentence": "", "position": 1, "attempts": [], "created_at": iso(now),
        "gpu_seconds": 1.5, "cpu_seconds": 6.0, "gb_seconds": 18.0, "cost": "0.001200",
        "results": {"type": "local", "bucket": "results", "prefix": "", "endpoint_url": None},
        "hyper_parameters": {}, "command": "python3 train.py", "framework": "pytorch 2",
        "resources": {"gpus": 1, "cpus": 4.0, "memory_mib": 8192}, "learners": 1, "priority": 50, "tags": [],
        "notes": [], "description": "", "provenance": {}, "data": [],
    }  # fmt: skip
