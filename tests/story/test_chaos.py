"""The short form of the chaos campaign: whatever may die, dies; nothing is lost, doubled or billed wrongly."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.story, pytest.mark.slow, pytest.mark.timeout(300)]


def campaign(folder: Path, *options: str) -> dict[str, Any]:
    """A short campaign, in which nothing may be wrong; what it counted."""
    told = folder / "campaign.json"
    words = [sys.executable, "-m", "bench", "chaos", "--quick", *options, "--within", "60", "--json", str(told)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert told.exists(), done.stdout + done.stderr
    counted = json.loads(told.read_text())
    assert not any(counted["faults"].values()), done.stdout
    assert not counted["never"]
    assert sum(counted["blows"].values()) >= 25
    assert counted["seen"]["runs"] >= 40
    return counted


def test_nothing_is_lost_or_doubled_whatever_dies(tmp_path: Path) -> None:
    blows = campaign(tmp_path, "--seed", "7")["blows"]
    assert blows["SIGKILL server"] >= 1
    assert blows["SIGKILL node"] >= 1


def test_nor_with_two_servers_and_three_nodes(tmp_path: Path) -> None:
    blows = campaign(tmp_path, "--seed", "7", "--pair")["blows"]
    assert {"SIGKILL leader", "SIGSTOP leader", "database down", "way of a node closed"} <= set(blows)
