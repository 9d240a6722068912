"""What the tests' HTTP service keeps for its people: definitions, objects, connections, tokens, secrets, frameworks."""

import hashlib
import json
import time
from typing import Any

from tests.client.api_speaking import Connection, Problem
from tests.client.api_world import Seen, iso

TEMPLATE = "model_definition:\n  name: my-model\n"


class Kept(Connection):
    """What is answered about things that stay."""

    def has_definition(self, _: Seen, sha256: str) -> tuple[int, Any]:
        return (200 if sha256 in self.server_of_tests.state.definitions else 404), b""

    def put_definition(self, seen: Seen, sha256: str) -> tuple[int, Any]:
        if hashlib.sha256(seen.body).hexdigest() != sha256:
            raise Problem(422, "invalid_request", "The upload has another hash.")
        self.server_of_tests.state.definitions[sha256] = seen.body
        self.server_of_tests.state.mentions[sha256] = seen.query.get("mentions_config", [""])[0]
        return 201, b""

    def get_definition(self, _: Seen, sha256: str) -> tuple[int, Any]:
        return 200, self.server_of_tests.state.definitions[sha256]

    def buckets(self, _: Seen) -> tuple[int, Any]:
        return 200, {"items": [{"name": name} for name in sorted(self.server_of_tests.state.objects)]}

    def list_objects(self, seen: Seen, bucket: str) -> tuple[int, Any]:
        if bucket not in self.server_of_tests.state.objects:
            raise Problem(404, "not_found", f"There is no bucket {bucket}.")
        stored = self.server_of_tests.state.objects[bucket]
        prefix = seen.query.get("prefix", [""])[0]
        moment = iso(time.time() + 3600)
        items = [
            {"key": key, "size": len(stored[key]), "etag": "e", "modified_at": moment}
            for key in sorted(stored)
            if key.startswith(prefix) and key > seen.query.get("cursor", [""])[0]
        ]
        limit = int(seen.query.get("limit", ["100"])[0])
        return 200, {"items": items[:limit], "next": items[limit - 1]["key"] if len(items) > limit else None}

    def put_object(self, seen: Seen, bucket: str, key: str) -> tuple[int, Any]:
        self.server_of_tests.state.objects.setdefault(bucket, {})[key] = seen.body
        return 201, {"key": key, "size": len(seen.body), "etag": "e", "modified_at": iso(time.time())}

    def get_object(self, seen: Seen, bucket: str, key: str) -> tuple[int, Any]:
        stored = self.server_of_tests.state.objects.get(bucket, {})
        if key not in stored:
            raise Problem(404, "not_found", f"There is no object {key}.")
        begin = seen.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        return 200, stored[key][int(begin) :]

    def delete_object(self, _: Seen, bucket: str, key: str) -> tuple[int, Any]:
        if self.server_of_tests.state.objects.get(bucket, {}).pop(key, None) is None:
            raise Problem(404, "not_found", f"There is no object {key}.")
        return 204, b""

    def delete_objects(self, seen: Seen, bucket: str) -> tuple[int, Any]:
        prefix = seen.query.get("prefix", [""])[0]
        stored = self.server_of_tests.state.objects.get(bucket, {})
        gone = [key for key in stored if key.startswith(prefix)]
        for key in gone:
            del stored[key]
        return 204, lambda: self.answer(204, b"", Runyard_Deleted=str(len(gone)))

    def named(self, seen: Seen, kind: str) -> tuple[int, Any]:
        kept: dict[str, dict[str, Any]] = getattr(self.server_of_tests.state, kind)
        if seen.method == "GET":
            shown = [{key: value for key, value in each.items() if "secret" not in key} for each in kept.values()]
            return 200, {"items": shown}
        document = json.loads(seen.body)
        if kind == "tokens":
            name = f"t{len(kept) + 1}"
            kept[name] = (
                {"scope": "member"} | document | {"id": name, "member": "owner", "created_at": iso(time.time())}
            )
            return 201, {"id": name, "token": f"ryd_new-{name}"}
        if document["name"] in kept:
            raise Problem(409, "conflict", f"There is a connection {document['name']} already.")
        kept[document["name"]] = document
        return 201, {key: value for key, value in document.items() if "secret" not in key}

    def convert(self, seen: Seen) -> tuple[int, Any]:
        text = json.loads(seen.body)["manifest"]
        return 200, {"manifest": f"# Brought over.\n{text}", "notes": ["It was old."], "left": []}

    def frameworks(self, seen: Seen) -> tuple[int, Any]:
        kept = self.server_of_tests.state.frameworks
        if seen.method == "POST":
            made = {"version": "", "python": None, "instead": None, "created_at": iso(time.time())}
            made |= json.loads(seen.body)
            kept[made["name"]] = made
            return 201, made
        known = [{"name": "pytorch", "distribution": "torch", "aliases": ["torch"], "installed": ["2.10.0"]}]
        return 200, {"known": known, "registered": list(kept.values())}

    def versions(self, _: Seen, name: str) -> tuple[int, Any]:
        return 200, {"name": name, "versions": ["2.10.0", "2.9.1"]}

    def secrets(self, seen: Seen, name: str = "") -> tuple[int, Any]:
        kept = self.server_of_tests.state.secrets
        if seen.method == "PUT":
            kept[name] = json.loads(seen.body)["value"]
            return 200, {"name": name, "created_at": iso(time.time())}
        return 200, {"items": [{"name": each, "created_at": iso(time.time())} for each in sorted(kept)]}

    def unname(self, _: Seen, kind: str, name: str) -> tuple[int, Any]:
        if getattr(self.server_of_tests.state, kind).pop(name, None) is None:
            raise Problem(404, "not_found", f"There is no {name}.")
        return 204, b""

    def accounts(self, _: Seen) -> tuple[int, Any]:
        return 200, {
            "items": [
                {"id": "default", "name": "default", "plan": "free", "quota_gpus": None, "paused": False, "quota": {}}
            ]
        }

    def template(self, seen: Seen) -> tuple[int, Any]:
        if seen.query["kind"][0] != "training-runs":
            raise Problem(501, "not_in_this_version", "This kind of manifest is not in this version.")
        return 200, lambda: self.answer(200, TEMPLATE.encode(), "text/plain")

    def schema(self, _: Seen) -> tuple[int, Any]:
        return 200, {"type": "object"}
