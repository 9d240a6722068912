"""What the OpenAPI document tells beside the routers' own words: bodies read by hand, problems, who may ask."""

from __future__ import annotations

from typing import Any, Final

from runyard.api.canceling import CancelBody
from runyard.api.precise import made_precise
from runyard.api.submitting import SubmitBody

_SCHEMAS: Final = "#/components/schemas/"
_OPEN: Final = ("/healthz", "/api/v1/login", "/api/v1/login/oidc", "/api/v1/login/oidc/finish")
_PROBLEM: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "Why a request was not granted (RFC 9457); `detail` says what to do.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string", "minLength": 1},
        "problems": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["message", "line", "path"],
                "properties": {
                    "message": {"type": "string"},
                    "line": {"type": "integer"},
                    "path": {"type": "string"},
                },
            },
        },
    },
}
_REFUSED: Final = {
    "4XX": "Not granted",
    "501": "Understood, and not in this version",
    "503": "The server is busy or stopping",
    "507": "No room on the disk of the embedded store",
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the schemas of bodies that are not read by the framework, with problems in the place of the
    framework's own errors, and with the scheme of tokens."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (SubmitBody, CancelBody):
        schema = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    for gone in ("HTTPValidationError", "ValidationError"):
        schemas.pop(gone, None)
    schemas["Problem"] = _PROBLEM
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    made_precise(document)
    content = {"application/problem+json": {"schema": {"$ref": _SCHEMAS + "Problem"}}}
    for path, item in document["paths"].items():
        for operation in item.values():
            responses = operation["responses"]
            responses.pop("422", None)
            responses |= {status: {"description": words, "content": content} for status, words in _REFUSED.items()}
            if path not in _OPEN:
                operation["security"] = [{"token": []}]
    return document
