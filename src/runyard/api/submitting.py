"""What a submission is made of, as it comes over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from runyard.api.numbers import Number, Whole
from runyard.core.spec import Scalar
from runyard.engine import intake
from runyard.manifest import Overrides, parse_duration


class OverridesBody(BaseModel):
    """What the command line lays over a manifest."""

    model_config = ConfigDict(extra="forbid")
    name: str | None = None
    tags: tuple[str, ...] = ()
    priority: Whole | None = None
    max_runtime: str | Number | None = None
    gpus: Whole | None = None
    framework: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    after: tuple[str, ...] = ()
    python: str | None = None
    data: tuple[str, ...] = ()
    paths: dict[str, str] = Field(default_factory=dict)


class SubmitBody(BaseModel):
    """Runs to submit: one manifest, and a list of parameters with one entry a run."""

    model_config = ConfigDict(extra="forbid")
    manifest: str
    definition: str | None = None
    parameters: list[dict[str, Scalar]] = Field(default_factory=list[dict[str, Scalar]])
    append_args: StrictBool = False
    force: StrictBool = False
    overrides: OverridesBody = OverridesBody()
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def can_be_kept(cls, body: object) -> object:
        """What Python reads and JSON (RFC 8259) has no word for could be kept and never be shown again."""
        try:
            json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:
            raise ValueError("NaN, Infinity and half characters (surrogates) are no JSON: leave them out") from None
        return body


def request_of(
    body: SubmitBody, parameters: Sequence[Mapping[str, Scalar]], key: str | None = None, digest: str = ""
) -> intake.Request:
    """The engine's request for a body."""
    over = body.overrides
    overrides = Overrides(
        name=over.name,
        tags=over.tags,
        priority=over.priority,
        max_runtime_ms=None if over.max_runtime is None else parse_duration(over.max_runtime, "runyard.max_runtime"),
        gpus=over.gpus,
        framework=over.framework,
        env=tuple(over.env.items()),
        after=over.after,
        python=over.python,
        paths=tuple(over.paths.items()),
        data=over.data,
    )
    return intake.Request(
        manifest=body.manifest,
        definition=body.definition,
        parameters=parameters,
        append_args=body.append_args,
        force=body.force,
        overrides=overrides,
        provenance=body.provenance,
        idempotency_key=key,
        digest=digest,
    )
