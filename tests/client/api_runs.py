"""Runs, their logs and events, as the tests' HTTP service tells them."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from tests.client.api_speaking import Connection, Problem, sse
from tests.client.api_world import FINAL, Seen, iso


class Runs(Connection):
    """What is answered about runs."""

    def account_events(self, seen: Seen) -> tuple[int, Any]:
        state = self.server_of_tests.state
        after = int(seen.headers.get("last-event-id") or seen.query.get("after", [len(state.events)])[0])

        def pieces() -> Iterator[bytes]:
            nonlocal after
            while True:
                with state.changed:
                    page = state.events[after:]
                    if not page:
                        state.changed.wait(0.2)
                if not page:
                    yield b": quiet\n\n"  # also finds out that the reader is gone
                for event in page:
                    after = event["seq"]
                    yield sse(event["kind"], event, str(after))

        if "text/event-stream" in seen.headers.get("accept", ""):
            return 200, self.event_stream(pieces())
        return 200, {"items": state.events[after:], "next": None}

    def log(self, seen: Seen, run: str) -> tuple[int, Any]:
        record = self.find(run)
        run = record["id"]
        if "text/event-stream" in seen.headers.get("accept", ""):
            return 200, self.event_stream(self.log_pieces(record, seen))
        state = self.server_of_tests.state
        attempt = int(seen.query.get("attempt", [len(state.logs[run])])[0])
        text = bytes(state.logs[run][attempt - 1]) if state.logs[run] else b""
        if "tail" in seen.query:
            lines = text.splitlines(keepends=True)
            text = b"".join(lines[len(lines) - int(seen.query["tail"][0]) :])
        offset = int(seen.query.get("offset", ["0"])[0])
        return 200, lambda: self.answer(200, text[offset:], "text/plain", Runyard_Log_Offset=str(offset))

    def log_pieces(self, record: dict[str, Any], seen: Seen) -> Iterator[bytes]:
        state = self.server_of_tests.state
        attempt, offset, shown = 1, 0, ""
        if "last-event-id" in seen.headers:
            attempt, offset = map(int, seen.headers["last-event-id"].split(":"))
        while True:
            with state.changed:
                logs = state.logs[record["id"]]
                chunk = bytes(logs[attempt - 1][offset:]) if attempt <= len(logs) else b""
                now, more = record["state"], attempt < len(logs)
                if not chunk and now == shown and not more and now not in FINAL:
                    state.changed.wait(0.2)
            if now != shown:
                shown = now
                yield sse("state", {"state": now, "reason": record["reason"]})
            if chunk:
                data = {"attempt": attempt, "offset": offset, "text": chunk.decode()}
                offset += len(chunk)
                yield sse("log", data, f"{attempt}:{offset}")
            elif more:
                attempt, offset = attempt + 1, 0
            elif now in FINAL:
                yield sse("end", {"state": now})
                return
            else:
                yield b": quiet\n\n"

    def find(self, selector: str) -> dict[str, Any]:
        runs = list(self.server_of_tests.state.runs.values())
        if selector == "last" or selector.startswith("last-"):
            number = int(selector[5:] or 0)
            if number < len(runs):
                return runs[-1 - number]
            raise Problem(404, "not_found", f"There is no training run {selector}.")
        found = [run for run in runs if run["id"].startswith(selector)]
        if len(found) > 1:
            raise Problem(409, "conflict", f"{selector} begins several ids: add to it.")
        if not found:
            raise Problem(404, "not_found", f"There is no training run {selector}.")
        return found[0]

    def submit(self, seen: Seen) -> tuple[int, Any]:
        server = self.server_of_tests
        if server.refusal is not None:
            raise Problem(server.refusal[0], **server.refusal[1])
        document = json.loads(seen.body)
        key = seen.headers.get("idempotency-key", "")
        if not key:
            raise Problem(422, "invalid_request", "Every submission of this client has a key.")
        if document["definition"] not in server.state.definitions:
            raise Problem(404, "not_found", f"There is no model definition {document['definition']}.")
        if key in server.state.replays:
            return 201, {"ids": server.state.replays[key], "replayed": True, "notes": []}
        server.state.submissions.append(document)
        name = document["overrides"]["name"] or "demo"
        shared = {"name": name, "tags": document["overrides"]["tags"], "definition": document["definition"]}
        ids = [server.add_run(hyper_parameters=each, **shared) for each in document["parameters"] or [{}]]
        server.state.replays[key] = ids
        if server.on_submit is not None:
            for each in ids:
                threading.Thread(target=server.on_submit, args=(each,), daemon=True).start()
        return 201, {"ids": ids, "replayed": False, "notes": ["CPUs are scaled to this machine."]}

    def check(self, seen: Seen) -> tuple[int, Any]:
        server = self.server_of_tests
        if server.refusal is not None:
            raise Problem(server.refusal[0], **server.refusal[1])
        count = len(json.loads(seen.body)["parameters"]) or 1
        checks = [{"what": "results", "verdict": "ok", "message": ""}]
        resources = {"gpus": 1, "cpus": 4.0, "memory_mib": 8192}
        results = {"type": "local", "bucket": "results", "prefix": ""}
        told = {"name": "demo", "command": "python3 train.py", "runs": count, "notes": []}
        return 200, told | {"resources": resources, "results": results, "checks": checks}

    def list_runs(self, seen: Seen) -> tuple[int, Any]:
        query = seen.query
        found = [
            run
            for run in reversed(list(self.server_of_tests.state.runs.values()))
            if ("state" not in query or run["state"] in query["state"])
            and ("tag" not in query or query["tag"][0] in run["tags"])
        ]
        begin, limit = int(query.get("cursor", ["0"])[0]), int(query.get("limit", ["100"])[0])
        more = begin + limit < len(found)
        return 200, {"items": found[begin : begin + limit], "next": str(begin + limit) if more else None}

    def show(self, _: Seen, run: str) -> tuple[int, Any]:
        return 200, dict(self.find(run))

    def cancel(self, _: Seen, run: str) -> tuple[int, Any]:
        record = self.find(run)
        if record["state"] not in FINAL:
            self.server_of_tests.move(record["id"], "canceled")
        return 202, dict(record)

    def cancel_many(self, seen: Seen) -> tuple[int, Any]:
        runs = self.server_of_tests.state.runs
        items: list[dict[str, Any]] = []
        refused: list[dict[str, str]] = []
        for named in json.loads(seen.body)["runs"]:
            tagged = [run for run, each in runs.items() if named.removeprefix("tag:") in each["tags"]]
            try:
                for run in tagged if named.startswith("tag:") else [named]:
                    _, record = self.cancel(seen, run)
                    items.append({"id": record["id"], "state": record["state"], "sentence": record["sentence"] or ""})
            except Problem as error:
                refused.append({"id": named, "code": "not_found", "message": str(error)})
        return 202, {"items": items, "refused": refused}

    def delete(self, _: Seen, run: str) -> tuple[int, Any]:
        record = self.find(run)
        if record["state"] not in FINAL:
            raise Problem(409, "conflict", f"{record['id']} is {record['state']}: cancel it first.")
        self.server_of_tests.forget(record["id"])
        return 204, b""

    def history(self, _: Seen, run: str) -> tuple[int, Any]:
        run = self.find(run)["id"]
        return 200, {"items": [each for each in self.server_of_tests.state.events if each["run"] == run]}

    def metrics(self, _: Seen, run: str) -> tuple[int, Any]:
        return 200, {"id": self.find(run)["id"], "items": [], "notes": []}

    def explain(self, _: Seen, run: str) -> tuple[int, Any]:
        record = self.find(run)
        return 200, {"id": record["id"], "state": record["state"], "readiness": "quota", "position": 2, "ahead": 1,
                     "sentence": "The account holds its quota of 1 GPU.", "estimate": iso(time.time() + 60),
                     "steps": ["accepted", "code and data ready"]}  # fmt: skip

    def results(self, _: Seen, run: str) -> tuple[int, Any]:
        stored = self.server_of_tests.state.results.get(self.find(run)["id"], {})
        items = [{"key": key, "size": len(body)} for key, body in stored.items()]
        return 200, {"items": items, "location": {"type": "local", "bucket": "results"}}

    def result(self, _: Seen, run: str, key: str) -> tuple[int, Any]:
        stored = self.server_of_tests.state.results.get(self.find(run)["id"], {})
        if key not in stored:
            raise Problem(404, "not_found", f"There is no {key}.")
        return 200, stored[key][: len(stored[key]) - self.server_of_tests.short_by]

    def change_run(self, seen: Seen, run: str) -> tuple[int, Any]:
        self.find(run).update(json.loads(seen.body))
        return 200, dict(self.find(run))
