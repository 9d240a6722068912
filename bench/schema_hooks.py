"""What Schemathesis draws for texts that JSON Schema has no words for: formats of the OpenAPI document, a strategy of
valid texts for each, and an address that follows from its body. Loaded by ``schemathesis.toml``."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import schemathesis
from hypothesis import strategies as st

BUCKET: Final = "numbers"
"""A bucket that the examined server has."""
_WORDS: Final = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789_ -é{}#:'\"$", min_size=1, max_size=20).map(
    lambda text: f"x{text}".rstrip()
)
_DURATIONS: Final = st.builds(
    lambda number, unit: f"{number}{unit}", st.integers(1, 3600), st.sampled_from(["s", "m", "h", "m30s", "h15m"])
) | st.integers(1, 100_000).map(str)
_SIZES: Final = st.builds(
    lambda number, unit: f"{number}{unit}",
    st.integers(1, 900),
    st.sampled_from(["MiB", "Mb", "MB", " MiB", "Mi"]),
)
_TAGS: Final = st.lists(st.from_regex(r"\A[a-zA-Z0-9_./:-]{1,20}\Z"), max_size=3)
_OURS: Final = st.fixed_dictionaries(
    {},
    optional={
        "tags": _TAGS,
        "priority": st.integers(0, 100),
        "max_runtime": _DURATIONS,
        "max_retries": st.integers(0, 3),
        "grace": st.sampled_from(["0s", "5s", "1m", "30"]),
        "env": st.dictionaries(st.from_regex(r"\A[A-Z]{1,8}\Z").map(lambda name: f"X{name}"), _WORDS, max_size=2),
        "hyper_parameters": st.fixed_dictionaries({"lr": st.floats(0.001, 1)}, optional={"adam": st.booleans()}),
        "network": st.sampled_from(["on", "off"]),
        "warm": st.sampled_from(["auto", "off"]),
    },
)
_COMMANDS: Final = st.sampled_from(["python3 train.py", "python3 train.py --lr 0.1 | cat", "echo 'one: #2'\ntrue"])
_RESULTS: Final = {"type": "local", "target": {"bucket": "results"}}
_SERVICE: Final = st.builds(
    lambda name, command, size, ours, data: {
        "model_definition": {
            "name": name,
            "framework": {"name": "python"},
            "execution": {"command": command, "compute_configuration": {"name": size}},
        },
        "training_results_reference": _RESULTS,
        **({"training_data_reference": {"type": "local", "source": {"bucket": BUCKET}}} if data else {}),
        **({"runyard": ours} if ours else {}),
    },
    _WORDS,
    _COMMANDS,
    st.sampled_from(["cpu", "small"]),
    _OURS,
    st.booleans(),
)
_FFDL: Final = st.builds(
    lambda name, command, sizes, ours: {
        "name": name,
        **sizes,
        "framework": {"name": "python", "command": command},
        **({"runyard": ours} if ours else {}),
    },
    _WORDS,
    _COMMANDS,
    st.fixed_dictionaries(
        {}, optional={"gpus": st.integers(0, 2), "cpus": st.sampled_from([0.5, 1, 1.25]), "memory": _SIZES}
    ),
    _OURS,
)
MANIFESTS: Final = st.builds(
    lambda manifest, indent: json.dumps(manifest, indent=indent, ensure_ascii=False),
    _SERVICE | _FFDL,
    st.sampled_from([None, 1, 4]),
)
"""JSON is YAML. Other spellings are what ``tests/manifest`` is about."""

schemathesis.openapi.format("runyard-manifest", MANIFESTS)
schemathesis.openapi.format("runyard-duration", _DURATIONS)
schemathesis.openapi.format("runyard-framework", st.sampled_from(["python", "python:3", "pytorch", "jax:0.4"]))
schemathesis.openapi.format("runyard-data", st.just(BUCKET))
schemathesis.openapi.format(
    "runyard-key", st.sampled_from(["runyard.grace", "runyard.max_runtime", "runyard.idle.after"])
)
schemathesis.openapi.format("runyard-value", st.sampled_from(["5s", "1m", "30"]))


@schemathesis.hook.apply_to(path="/api/v1/definitions/{sha256}", method="PUT")  # pyright: ignore[reportFunctionMemberAccess]  # its decorator has more than its type tells
def map_case(context: schemathesis.HookContext, case: Any) -> Any:  # noqa: ARG001  # the hook's signature
    """What is valid is uploaded under its own hash."""
    if case.meta is not None and case.meta.generation.mode.is_positive:
        body = case.body if isinstance(case.body, bytes) else getattr(case.body, "data", b"")
        case.path_parameters["sha256"] = hashlib.sha256(body).hexdigest()
    return case
