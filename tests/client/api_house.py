"""The service as a whole, its queue, quotas and machines, as the tests' HTTP service tells them."""

import json
import time
from typing import Any

from tests.client.api_runs import Runs
from tests.client.api_speaking import Problem
from tests.client.api_world import Seen, iso


class House(Runs):
    """What is answered about everything that is no run and nobody's own."""

    def health(self, _: Seen) -> tuple[int, Any]:
        return 200, {"status": "ok"}

    def status(self, _: Seen) -> tuple[int, Any]:
        state = self.server_of_tests.state
        counts: dict[str, int] = {}
        for run in state.runs.values():
            counts[run["state"]] = counts.get(run["state"], 0) + 1
        node = {"id": "n", "name": "n1", "connected": True, "gpus": ["L4", "L4"], "logical_gpus": False, "cpus": 8.0,
                "memory_mib": 32768, "version": "0.1.0", "closed": None, "notes": []}  # fmt: skip
        return 200, {"version": "0.1.0", "started_at": iso(time.time() - 90), "account": "default", "member": "owner",
                     "nodes": [node], "slots": {"total": 2, "used": 1}, "counts": counts,
                     "queue_paused": state.paused, "url": self.server_of_tests.url}  # fmt: skip

    def cache(self, _: Seen) -> tuple[int, Any]:
        return 200, {"nodes": []}

    def queue(self, _: Seen) -> tuple[int, Any]:
        waiting = [run for run in self.server_of_tests.state.runs.values() if run["state"] == "waiting"]
        items = [
            {"position": place, "id": run["id"], "name": run["name"], "account": "default", "priority": 50,
             "readiness": "quota", "sentence": "The account holds its quota."}
            for place, run in enumerate(waiting, 1)
        ]  # fmt: skip
        paused = self.server_of_tests.state.paused
        return 200, {"paused": False, "account_paused": paused, "items": items, "waiting": len(items)}

    def pause(self, _: Seen, verb: str) -> tuple[int, Any]:
        self.server_of_tests.state.paused = verb == "pause"
        return 200, {"paused": self.server_of_tests.state.paused}

    def move_run(self, seen: Seen) -> tuple[int, Any]:
        wish = json.loads(seen.body)
        self.server_of_tests.state.moved.append((wish["id"], wish["position"]))
        return 200, dict(self.find(wish["id"]))

    def quota(self, seen: Seen, account: str = "default") -> tuple[int, Any]:
        quota = self.server_of_tests.state.quota
        if account not in quota:
            raise Problem(404, "not_found", f"There is no account {account}.")
        if seen.method == "PUT":
            quota[account] = json.loads(seen.body)["gpus"]
        return 200, {"account": account, "plan": "free", "gpus": quota[account], "used_gpus": 1, "slots": 2,
                     "used_cpu_millis": 500, "used_memory_mib": 2048, "used_waiting": 3,
                     "used_storage_bytes": None, **self._part()}  # fmt: skip

    def _part(self) -> dict[str, Any]:
        return self.server_of_tests.state.part

    def share(self, seen: Seen, account: str) -> tuple[int, Any]:
        self._part().update({"share": {"weight": 1.0, "used_gpu_hours": 2.5}} | json.loads(seen.body))
        return self.quota(Seen("GET", seen.path, {}, {}, b""), account)

    def budget(self, seen: Seen, account: str) -> tuple[int, Any]:
        self._part().pop("budget", None)
        if seen.method == "PUT":
            told = {"percent": 10, "sentence": None, "gpu_hours": None, "money": None}
            self._part()["budget"] = told | json.loads(seen.body)
        return self.quota(Seen("GET", seen.path, {}, {}, b""), account)

    def nodes(self, _: Seen) -> tuple[int, Any]:
        return 200, {"items": [self._machine(None)]}

    def drain(self, seen: Seen, node: str, verb: str) -> tuple[int, Any]:
        self.server_of_tests.state.drained.append((node, verb, json.loads(seen.body)))
        return 200, self._machine(iso(time.time()) if verb == "drain" else None)

    def _machine(self, since: str | None) -> dict[str, Any]:
        node = {"id": "n1", "name": "big", "connected": True, "gpus": ["a", "b"], "closed": None}
        return {"node": node, "running": 2, "draining_since": since}

    def usage(self, seen: Seen) -> tuple[int, Any]:
        line = {"group": "default", "runs": 2, "attempts": 3, "gpu_seconds": 12.5, "cpu_seconds": 50.0,
                "gb_seconds": 150.0, "cost": "0.012300", "waste_gpu_seconds": 1.0}  # fmt: skip
        return 200, {"by": seen.query["by"][0], "items": [line], "total": line | {"group": "total"}}
