"""The first of the two commands on the first page, as a person runs it, in a home folder of the test's own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.environment import ROOT
from tools.runyard_cli import Runyard


@pytest.mark.story
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_trains_a_sweep_shows_the_accuracies_and_stops_what_it_started(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, str(ROOT / "quickstart.py"), "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=390,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^(training-\w{9})\s+([\d.]+)\s+(\d+)\s+(0\.\d{4}|1\.0000)\s", done.stdout, re.MULTILINE)
    settings = {(rate, channels) for _, rate, channels, _ in rows}
    assert settings == {(rate, channels) for rate in ("0.001", "0.003", "0.01") for channels in ("8", "16")}
    accuracies = [float(accuracy) for *_, accuracy in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] > 0.9
    for run_id, *_ in rows:
        assert f"digits-models/{run_id}/model/model.pt" in done.stdout
        assert (home / "quickstart" / run_id / "model" / "model.pt").stat().st_size > 10_000
    assert "stops the server  done" in done.stdout
    assert not Runyard(home).is_up()
