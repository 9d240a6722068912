"""All rows of the table of hostile inputs."""

from __future__ import annotations

from tests.hostile import manifests, nodes, requests
from tests.hostile.case import Case
from tests.hostile.zips import ZIPS

__all__ = ["CASES", "ZIPS"]

CASES: tuple[Case, ...] = (*manifests.CASES, *requests.CASES, *nodes.CASES)
