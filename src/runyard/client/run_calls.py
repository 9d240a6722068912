"""Calls about training runs and model definitions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

from runyard.client.calls import UPLOAD_LIMIT, Calls, Progress, Watched
from runyard.client.decode import Json, children
from runyard.client.errors import Misuse
from runyard.client.records import Canceled, Checked, Converted, Event, Explanation, Results, Run, Submitted
from runyard.client.transport import Body, Request, Stream, path_of
from runyard.core.ids import RUN_PREFIX, is_run_id

RUNS = "/training-runs"


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a submission lays over its manifest; None and empty change nothing. ``max_runtime`` is text such as ``2h``,
    ``framework`` NAME or NAME:VERSION, ``data`` buckets (or BUCKET/PREFIX) of the embedded store, ``paths`` a dotted
    path of the manifest each."""

    name: str | None = None
    tags: tuple[str, ...] = ()
    priority: int | None = None
    max_runtime: str | None = None
    gpus: int | None = None
    framework: str | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    after: tuple[str, ...] = ()
    python: str | None = None
    data: tuple[str, ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def document(self) -> dict[str, object]:
        """As the service reads it."""
        return {
            "name": self.name,
            "tags": list(self.tags),
            "priority": self.priority,
            "max_runtime": self.max_runtime,
            "gpus": self.gpus,
            "framework": self.framework,
            "env": dict(self.env),
            "after": list(self.after),
            "python": self.python,
            "data": list(self.data),
            "paths": dict(self.paths),
        }


@dataclass(frozen=True, slots=True)
class Submission:
    """What is asked for. ``definition``: SHA-256 (hex) of an uploaded zip; ``parameters``: the hyper-parameters of
    each run, none for a single run with the manifest's own."""

    manifest: str = field(repr=False)
    definition: str | None = None
    parameters: Sequence[Mapping[str, object]] = ()
    append_args: bool = False
    force: bool = False
    overrides: Overrides = Overrides()
    provenance: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)

    def document(self) -> dict[str, object]:
        """As the service reads it."""
        return {
            "manifest": self.manifest,
            "definition": self.definition,
            "parameters": [dict(each) for each in self.parameters],
            "append_args": self.append_args,
            "force": self.force,
            "overrides": self.overrides.document(),
            "provenance": dict(self.provenance),
        }


@dataclass(frozen=True, slots=True)
class WhichLog:
    """Which log of a run, and from where. ``attempt``: None for the latest (followed: from the first on); ``stream``:
    training-log, load-data or load-model; ``offset`` in bytes; ``tail``: its last lines only; ``since``: an ISO time,
    or seconds ago."""

    attempt: int | None = None
    learner: int = 1
    stream: str = "training-log"
    offset: int = 0
    tail: int | None = None
    since: str | None = None

    def query(self) -> dict[str, object]:
        """As the service reads it."""
        return {
            "attempt": self.attempt,
            "learner": self.learner,
            "stream": self.stream,
            "offset": self.offset or None,
            "tail": self.tail,
            "since": self.since,
        }


def full_id(run: str | Run) -> str:
    """What to ask the service for: an id, ``last``, ``last-3``, or a beginning of an id, with or without its
    ``training-``."""
    name = run.id if isinstance(run, Run) else run.strip()
    if not name or name.startswith("tag:"):
        raise Misuse(f"{name!r} does not name one run: give an id, the beginning of one, or `last`.")
    if name == "last" or (name.startswith("last-") and name[5:].isdigit()) or name.startswith(RUN_PREFIX):
        return name
    return RUN_PREFIX + name


def _selector(text: str) -> str:
    return text if text.startswith("tag:") else full_id(text)


class RunCalls(Calls):
    """Training runs: submit, look, change, fetch."""

    def runs(
        self,
        *,
        states: Sequence[str] = (),
        tag: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Run]:
        """Runs, newest first, fetched page by page as they are asked for."""
        query = {"state": list(states), "tag": tag, "name": name}
        return (Run.of(each) for each in self._pages(RUNS, query, limit))

    def run(self, run: str | Run) -> Run:
        """One run with all that is known: by id, the beginning of one, ``last`` or ``last-N``."""
        return Run.of(self._get(self._path(run)))

    def resolve(self, selector: str) -> tuple[str, ...]:
        """The ids that a selector names: one, or for ``tag:NAME`` all with that tag, newest first.

        Raises :class:`NotFound` for an unknown id and :class:`Misuse` for a tag that no run carries.
        """
        if selector.startswith("tag:"):
            found = tuple(run.id for run in self.runs(tag=selector[4:]))
            if not found:
                raise Misuse(f"No run carries the tag {selector[4:]!r}: `runyard list` shows tags.")
            return found
        return (selector,) if is_run_id(selector) else (self.run(selector).id,)

    def submit(self, submission: Submission, *, idempotency_key: str | None = None) -> Submitted:
        """Submit. Safe to repeat with the same key: the answer then has the ids of the first time."""
        key = idempotency_key or os.urandom(16).hex()
        document = submission.document()
        return Submitted.of(self._send("POST", RUNS, document, headers={"Idempotency-Key": key}, repeatable=True))

    def check(self, submission: Submission) -> Checked:
        """What would become of a submission; nothing is made."""
        return Checked.of(self._send("POST", "/manifests/check", submission.document(), repeatable=True))

    def cancel(self, run: str | Run) -> Run:
        """Stop a run and its whole process tree; the answer is the run on its way."""
        return Run.of(self._send("POST", self._path(run, "cancel"), repeatable=True))

    def set_priority(self, run: str | Run, priority: int) -> Run:
        """Give a waiting run another priority, 0 to 100."""
        return Run.of(self._send("PATCH", self._path(run), {"priority": priority}, repeatable=True))

    def cancel_many(self, runs: Sequence[str | Run] = (), *, states: Sequence[str] = ()) -> Canceled:
        """Stop many in one call: ids and selectors (``tag:NAME`` is every run with the tag that is not final), and
        every run of the account in one of ``states``."""
        named = [run.id if isinstance(run, Run) else _selector(run) for run in runs]
        document = {"runs": named, "states": list(states)}
        return Canceled.of(self._send("POST", RUNS + "/cancel", document, repeatable=True))

    def delete(self, run: str | Run, *, with_results: bool = False) -> None:
        """Remove a final run's record; what is in the bucket only ``with_results``."""
        request = Request("DELETE", self._path(run), {"with_results": with_results})
        self._transport.call(request)

    def history(self, run: str | Run) -> tuple[Event, ...]:
        """All that happened to a run, oldest first."""
        return tuple(Event.of(each) for each in children(self._get(self._path(run, "events")), "items"))

    def explain(self, run: str | Run) -> Explanation:
        """Why it is where it is, and what would change that."""
        return Explanation.of(self._get(self._path(run, "explain")))

    def results(self, run: str | Run) -> Results:
        """The objects that a run has stored."""
        return Results.of(self._get(self._path(run, "results")))

    def read_result(self, run: str | Run, key: str) -> AbstractContextManager[Stream]:
        """The bytes of one object, as they come: ``with client.read_result(run, key) as stream: ...``."""
        return self._transport.stream(Request("GET", self._path(run, "results") + "/" + quote(key)))

    def read_log(self, run: str | Run, which: WhichLog | None = None) -> AbstractContextManager[Stream]:
        """A log as it is now, in pieces, as they come."""
        return self._transport.stream(self._log_request(run, which or WhichLog()))

    def log(self, run: str | Run, which: WhichLog | None = None) -> bytes:
        """A whole log as it is now."""
        return self._transport.call(self._log_request(run, which or WhichLog())).body

    def _log_request(self, run: str | Run, which: WhichLog) -> Request:
        return Request("GET", self._path(run, "logs"), which.query(), {"Accept": "text/plain"})

    def has_definition(self, sha256: str) -> bool:
        """Whether this account has uploaded that zip."""
        request = Request("HEAD", path_of("definitions", sha256))
        return self._transport.call(request, accept=frozenset({404})).status != 404

    def upload_definition(
        self, zip_path: Path, sha256: str, *, mentions_config: bool | None = None, progress: Progress | None = None
    ) -> None:
        """Send a zip under its hash. ``mentions_config``: whether a file in it speaks of ``config.json``."""
        size = zip_path.stat().st_size

        def opened() -> BinaryIO:
            reader = zip_path.open("rb")
            return reader if progress is None else cast("BinaryIO", Watched(reader, size, progress))

        query = {"mentions_config": mentions_config}
        body = Body(size, opened, "application/zip")
        self._transport.call(Request("PUT", path_of("definitions", sha256), query, {}, body, read_limit=UPLOAD_LIMIT))

    def read_definition(self, sha256: str) -> AbstractContextManager[Stream]:
        """The bytes of an uploaded zip, as they come."""
        return self._transport.stream(Request("GET", path_of("definitions", sha256)))

    def manifest_template(self, kind: str = "training-runs") -> str:
        """A manifest to start from, as YAML text."""
        request = Request("GET", "/manifests/template", {"kind": kind}, {"Accept": "text/plain"})
        return self._transport.call(request).body.decode("utf-8")

    def convert_manifest(self, manifest: str) -> Converted:
        """An older manifest as this service accepts it. Nothing is kept, and its secrets stay in it."""
        return Converted.of(self._send("POST", "/manifests/convert", {"manifest": manifest}, repeatable=True))

    def manifest_schema(self) -> Json:
        """The JSON Schema of a manifest in either dialect."""
        return self._get("/manifests/schema")

    def _path(self, run: str | Run, *rest: str) -> str:
        return path_of("training-runs", full_id(run), *rest)
