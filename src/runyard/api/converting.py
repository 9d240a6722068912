"""Older manifests brought over."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from runyard.api.context import Ctx, Who
from runyard.api.slow import slowly
from runyard.engine.converting import convert

router = APIRouter(prefix="/manifests", tags=["manifests"])


class OldManifest(BaseModel):
    """A manifest of either dialect."""

    model_config = ConfigDict(extra="forbid")
    manifest: str


class NewManifest(BaseModel):
    """The manifest as this installation accepts it; ``notes``: what was changed; ``left``: what is left to do by hand.
    It holds the secrets that the old one held."""

    manifest: str
    notes: list[str]
    left: list[str]


@router.post("/convert")
async def convert_manifest(body: OldManifest, context: Ctx, who: Who) -> NewManifest:
    """Bring an older manifest over: its framework, and its keys under the names they have here. Nothing is kept."""
    found = await slowly(convert, context.world, who, body.manifest)
    return NewManifest(manifest=found.manifest, notes=list(found.notes), left=list(found.left))
