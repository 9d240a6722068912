"""Writes docs/reference/ from the code: `python -m tools.gen_reference` (`--check` only compares).

Keys of manifests come from the parser's tables (by way of its JSON Schema), settings from their dataclass with
words from here, compute configurations from core, paths from the application's OpenAPI document.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from runyard.api.app import ROUTERS
from runyard.api.context import RIGHT_OF
from runyard.core.account import Right, Role, Scope, rights
from runyard.core.frameworks import ALIASES, KNOWN
from runyard.core.house import Users
from runyard.core.resources import DEFAULT_CONFIGURATIONS
from runyard.manifest.schema import schema
from runyard.server import build
from runyard.settings import Settings
from tools.environment import ROOT
from tools.gen_states import table
from tools.screen import say

FOLDER: Final = ROOT / "docs" / "reference"
COMMAND: Final = "python -m tools.gen_reference"
METHODS: Final = ("get", "post", "put", "delete")
SAME: Final = "The same as "
"""So the schema describes another name of a key."""

Json = Mapping[str, object]


def pages() -> dict[str, str]:
    """Every page of the folder by its name."""
    parts = {
        "manifest.md": (MANIFEST, *manifest()),
        "settings.md": (SETTINGS, settings()),
        "configurations.md": (CONFIGURATIONS, configurations(), FRAMEWORKS, frameworks()),
        "rest.md": (REST, *rest()),
        "roles.md": (ROLES, roles()),
    }
    return {name: "\n\n".join((*texts[:1], WRITTEN, *texts[1:])) + "\n" for name, texts in parts.items()}


WRITTEN: Final = f"`{COMMAND}` writes this page from the code; a test compares them."
MANIFEST: Final = "# Keys of a manifest"
SETTINGS: Final = """# Settings of an installation

They stand in `settings.toml` in the installation's folder (`~/.runyard`), and are read by `runyard up`."""
CONFIGURATIONS: Final = """# Compute configurations and frameworks

What `compute_configuration: {name: ...}` gives each learner. An operator's own stand in `settings.toml` under
`[compute_configurations.NAME]` with `gpus`, `cpus` and `memory_gb`. Where the machine is smaller, CPUs and memory are
scaled to it and the run's page says so; GPUs never are."""
FRAMEWORKS: Final = """## Frameworks known by name

`framework: {name, version}` and `--framework NAME[:VERSION]`. Others are registered with `runyard frameworks add`."""
REST: Final = """# Paths of the REST API

All below `/api/v1` but `/healthz`. Values and errors are told in [api.md](../api.md); `/api/openapi.json` is the whole
description, and `/api/docs` shows it in a browser."""


ROLES: Final = """# What each role may do

Which roles reach which path with a token of scope `member` (of scope `admin` for the last right); which scopes have the
right is told in [accounts.md](../accounts.md). Paths without a right need no token."""


# ------------------------------------------------------------------------------------------------------- manifest
TITLES: Final = (
    ("service", "Dialect one", "A manifest with `model_definition`."),
    ("ffdl", "Dialect two", "A manifest with `framework` at its top."),
    ("runyard", "Keys of ours", "Below `runyard`, in both."),
)


def manifest() -> Iterator[str]:
    """A section for each dialect and one for the keys of ours. `[]` marks a list that may be one value alone."""
    shapes = cast("Mapping[str, Json]", schema()["$defs"])
    yield "A name ending in `[]` is a list, which may be one value alone; `NAME` stands for a name of one's own."
    for key, title, words in TITLES:
        rows = [row for row in keys(shapes[key], "") if not row[0].startswith("`runyard.")]
        yield f"## {title}\n\n{words}"
        yield table(("key", "holds", "values", "without it"), rows)


def keys(shape: Json, above: str) -> Iterator[tuple[str, str, str, str]]:
    """A row for each key of a table, then those below it."""
    required = cast("Sequence[str]", shape.get("required", ()))
    properties = cast("Mapping[str, Json]", shape.get("properties", {}))
    also = {name: about(found).removeprefix(SAME).rstrip(".") for name, found in properties.items()}
    for name, found in properties.items():
        if about(found).startswith(SAME):
            continue
        options = branches(found)
        inner = next((each for each in options if "properties" in each or deeper(each)), None)
        path = f"{above}{name}" + ("[]" if any(each.get("type") == "array" for each in options) else "")
        others = ", ".join(f"`{other}`" for other, meant in also.items() if meant == name)
        said = about(found) + (f" Also: {others}." if others else "")
        if said:
            yield f"`{path}`", said, values(options), "required" if name in required else default(found)
        if inner is not None:
            yield from keys(inner if "properties" in inner else {"properties": {"NAME": deeper(inner)}}, path + ".")


def about(shape: Json) -> str:
    """What the schema says of a key."""
    return str(shape.get("description", "")).replace("|", "\\|")


def branches(shape: Json) -> list[Json]:
    """The forms that a value may have, with those of a list's entries."""
    found: list[Json] = []
    for each in cast("Sequence[Json]", shape.get("oneOf", shape.get("anyOf", (shape,)))):
        found.append(each)
        items = each.get("items")
        if isinstance(items, Mapping):
            found += branches(cast("Json", items))
    return found


def deeper(shape: Json) -> Json | None:
    """The shape of the values of a table whose names are one's own, where it has keys itself."""
    inner = shape.get("additionalProperties")
    if not isinstance(inner, Mapping):
        return None
    return next((each for each in branches(cast("Json", inner)) if "properties" in each), None)


def values(options: Sequence[Json]) -> str:
    """Kinds and words that are allowed, in words."""
    said: list[str] = []
    for each in options:
        if "enum" in each:
            said += [f"`{shown(word)}`" for word in cast("Sequence[object]", each["enum"])]
        elif "examples" in each:
            said += [f"such as `{word}`" for word in cast("Sequence[object]", each["examples"])]
        elif each.get("type") not in ("array", "object", None):
            said.append(kind(each))
    return ", ".join(dict.fromkeys(said))


def kind(shape: Json) -> str:
    """The type of one value."""
    types = shape["type"]
    names = [types] if isinstance(types, str) else list(cast("Sequence[str]", types))
    if "string" in names:
        return "a duration" if "(ms|s|m|h|d)" in str(shape.get("pattern", "")) else "text"
    low, high = shape.get("minimum"), shape.get("maximum")
    span = f", {low} to {high}" if low is not None and high is not None else ""
    return {"integer": "whole number", "number": "number", "boolean": "true or false"}[names[0]] + span


def shown(value: object) -> str:
    """A value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def default(shape: Json) -> str:
    """What holds where the key is absent."""
    return f"`{shown(shape['default'])}`" if "default" in shape else ""


# ------------------------------------------------------------------------------------- settings, sizes, frameworks
MEANINGS: Final[Mapping[str, str]] = {
    "host_paths": (
        "folders of the machine that manifests may name (`type: mount_volume`): `/data` or `/data:ro` is read-only, "
        "`/scratch:rw` is not"
    ),
    "users": (
        "whom members' programs run as, when the node is root: `[users]` with "
        '`"lab/mia" = {uid = 1001, gid = 1001, groups = [2000]}`, or `"system"`: the user `mia` of its group `lab`'
    ),
    "private_tmp": "each program has a `/tmp` and a `/var/tmp` of its own, where the machine allows it",
    "allow_system_calls": (
        'system calls that programs are not refused: `["perf_event_open"]`, or `["all"]` for no filter at all '
        "([isolation](../isolation.md))"
    ),
    "price_gpu_hour": "price of a GPU for an hour, in whatever money you count",
    "price_cpu_hour": "price of a CPU for an hour",
    "price_gb_hour": "price of a GiB of memory for an hour",
    "uid_base": "others' programs run under this user id plus their member's number, when the node is root",
    "ca_file": "further certificate authorities for object stores and for the issuer of `oidc`, in a PEM file",
    "node_lost_after_s": "seconds that a machine may be silent before its attempts are given up",
    "results_wait_days": "days that a machine may be silent before results that it has to store are lost; 0: for ever",
    "store_url": "another database, such as `postgresql+psycopg://...`",
    "shared_folder": "where the server's files are, in the place of `server` in the home: two servers share it",
    "advertise_url": "the address by which another server on the same database reaches this one; its own by default",
    "other_urls": "addresses of the other servers on the same database, for this machine's node when its own is away",
    "lease_s": "seconds after which a server that says nothing gives way to the other one on its database",
    "cache_gib": "size of a node's cache of code, data and environments",
    "upload_limit_mib": "size of one model definition",
    "platform_attempts": "attempts of a run that may fail by the platform's fault",
    "log_limit_mib": "size of each learner's log; 0: no limit",
    "disk_limit_gib": "all that a run may write on a machine; 0: half of the machine's disk",
    "workdir_limit_mib": "what is kept from a working directory",
    "pip_options": 'further words for pip where environments are built, such as `["--index-url", "https://..."]`',
    "pip_source_builds": "build packages that have no wheel, which runs their code as the node's user",
    "tls": "serve https, with an authority of the installation's own (as `up --tls`)",
    "tls_certificate": "serve https with this certificate (PEM, with its chain)",
    "tls_key": "and its key (PEM, without a password)",
    "tls_names": "further host names and addresses in the certificate that `tls` makes",
    "public_url": "what the service is called outside, behind a proxy: `https://lab.example/runyard`",
    "container_engine": "what runs container images: `podman`, `docker`, `none`, or `auto` for the first that answers",
    "pythons": "globs of the interpreters and environments that `runyard.python` may name",
    "fair_share": "among accounts, who has had least for its weight goes first; false: in order of submission",
    "backfill": "what ends before the room that is kept for a run is needed may use it",
    "preemption": "an account below its due share takes back what others have borrowed, checkpoint and all",
    "preempt_by_priority": "a run may also take the room of one of lower priority",
    "share_half_life_h": "hours after which what an account has used counts half",
    "preempt_settle_s": "seconds for which an attempt is not stopped to make room",
    "keep_results_days": "days after its end for which a run's results stay in the embedded store; 0: for ever",
    "keep_logs_days": "days for which its logs stay; 0: for ever",
    "keep_metrics_days": "days for which its metrics stay; 0: for ever",
    "keep_records_days": "days for which its record stays, with logs and metrics; 0: for ever",
    "keep_definitions_days": "days for which a model definition stays that no recorded run needs; 0: for ever",
    "keep_caches_days": "days for which a machine keeps code and data that it does not use; 0: until its cache is full",
    "keep_environments_days": "the same of environments that were built",
    "sweep_every_s": "seconds between two looks at what is due, at least",
    "server_reserve_gib": "below so much room (or a twentieth of a smaller disk) the server takes no new runs",
    "node_reserve_gib": "below so much room (or a twentieth of a smaller disk) a machine starts no new runs",
    "gpu_strangers_mib": "a GPU of which others than Runyard's runs hold more is given to no run meanwhile; 0: never",
    "gpu_errors": "a GPU that reports a hardware error is given to no run until `runyard nodes resume`",
    "idle_after_min": "minutes after which a run of which no log, metric, CPU or GPU use is seen is told of; 0: never",
    "idle_then": "what follows then: `tell`, `requeue` (it waits again with its checkpoint) or `stop`",
    "idle_requeues": "so often a run waits again for having done nothing; the next time it is stopped for good",
    "oidc": "who may sign in by OpenID Connect: the table `[oidc]` ([accounts](../accounts.md#openid-connect))",
    "compute_configurations": "sizes of your own: `[compute_configurations.NAME]` with `gpus`, `cpus`, `memory_gb`",
}


def settings() -> str:
    """A row for each field. Raises ``ValueError`` where words and fields do not agree."""
    names = [each.name for each in fields(Settings)]
    if set(names) != set(MEANINGS):
        odd = sorted(set(names) ^ set(MEANINGS))
        raise ValueError(f"Give words in tools/gen_reference.py to settings that have none, drop the others: {odd}")
    defaults = Settings()
    rows = [(f"`{name}`", MEANINGS[name], literal(getattr(defaults, name))) for name in names]
    return table(("setting", "means", "without it"), rows)


def literal(value: object) -> str:
    """A default as a table's cell."""
    if isinstance(value, tuple):
        words = cast("tuple[object, ...]", value)
        return f"`{json.dumps(words)}`" if words else "none"
    return "none" if value is None or value == Users() else f"`{shown(value)}`"


def configurations() -> str:
    """The table of sizes."""
    rows = [
        (
            f"`{name}`",
            str(each.resources.gpus),
            f"{each.resources.cpu_millis // 1000}",
            f"{each.resources.memory_mib // 1024}",
        )
        for name, each in DEFAULT_CONFIGURATIONS.items()
    ]
    return table(("name", "GPUs", "CPUs", "memory, GiB"), rows)


def frameworks() -> str:
    """Names, other names, and what is installed for them."""
    rows = [
        (
            f"`{name}`",
            ", ".join(f"`{other}`" for other, meant in ALIASES.items() if meant == name),
            f"`{known.distribution}`" + (f", with GPUs `{known.gpu}`" if known.gpu != known.distribution else ""),
        )
        for name, known in KNOWN.items()
    ]
    python = ", ".join(f"`{other}`" for other, meant in ALIASES.items() if meant == "python")
    return table(("name", "also", "package"), [*rows, ("`python`", python, "an interpreter and nothing else")])


# ------------------------------------------------------------------------------------------------------------ rest
def rest() -> Iterator[str]:
    """A table for each tag of the OpenAPI document."""
    with TemporaryDirectory() as home:
        app, _context = build(Path(home), Settings(), None, "http://127.0.0.1:8642")
        document = cast("Json", app.openapi())
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for path, item in cast("Mapping[str, Mapping[str, Json]]", document["paths"]).items():
        for method in METHODS:
            if method in item:
                said = item[method]
                tag = cast("Sequence[str]", said.get("tags", ("",)))[0]
                words = about({"description": " ".join(str(said.get("description", "")).replace("``", "`").split())})
                rows.setdefault(tag, []).append((method.upper(), f"`{path.removeprefix('/api/v1')}`", words))
    for tag, found in rows.items():
        yield f"## {tag}"
        yield table(("method", "path", "does"), found)


# ----------------------------------------------------------------------------------------------------------- roles
def rights_of_routes() -> dict[tuple[str, str], Right | None]:
    """What each route of people needs, by method and path; None: not even a token."""
    with TemporaryDirectory() as home:
        app, _context = build(Path(home), Settings(), None, "http://127.0.0.1:8642")
        described = cast("Mapping[str, Mapping[str, Json]]", app.openapi()["paths"])
    found: dict[tuple[str, str], Right | None] = {}
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and f"/api/v1{route.path.replace(':path', '')}" in described:
                needs = [RIGHT_OF[each.call] for each in walked(route.dependant) if each.call in RIGHT_OF]
                for method in route.methods or ():
                    found[method, route.path] = needs[0] if needs else None
    return found


def walked(dependant: Dependant) -> Iterator[Dependant]:
    """All that a route depends on."""
    for each in dependant.dependencies:
        yield each
        yield from walked(each)


def roles() -> str:
    """A row for each route: its right, and the roles that have it."""
    rows: list[tuple[str, ...]] = []
    for (method, path), right in sorted(rights_of_routes().items(), key=lambda each: (each[0][1], each[0][0])):
        has = [right is None or right in rights(Scope.admin, role) for role in Role]
        rows.append(
            (method, f"`{path}`", f"`{right.value}`" if right else "", *("yes" if each else "" for each in has))
        )
    return table(("method", "path", "right", *(role.value for role in Role)), rows)


def main(arguments: list[str]) -> int:
    """Exit code: 0, or 1 when ``--check`` finds a page out of date."""
    old = [name for name, text in pages().items() if not current(name, text)]
    if "--check" not in arguments:
        FOLDER.mkdir(exist_ok=True)
        for name, text in pages().items():
            (FOLDER / name).write_text(text, encoding="utf-8")
        return 0
    if old:
        say(f"Out of date in docs/reference: {', '.join(old)}. Run `{COMMAND}`.")
    return 1 if old else 0


def current(name: str, text: str) -> bool:
    """Whether the page is what would be written."""
    path = FOLDER / name
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
