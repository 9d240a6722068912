"""GPUs that are not to be had, in a whole installation: the reason, and the way back."""

from pathlib import Path

import pytest

from runyard.core.gpus import GIB, Holder, Sight
from tests.support.gpus import pretend
from tests.support.installation import manifest, running_installation, write_code
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]

FAILS_WITH_ITS_GPU = """
import os, pathlib, sys, time
kept = pathlib.Path(os.environ["CHECKPOINT_DIR"])
if (kept / "seen").exists():
    print("again on", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.exit(0)
(kept / "seen").touch()
print("on", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
while not (kept / "go").exists():
    time.sleep(0.05)
sys.exit(1)
"""


def test_a_run_waits_for_strangers_and_one_whose_gpu_failed_runs_on_another(tmp_path: Path) -> None:
    with running_installation(tmp_path, "--fake-gpus", "2") as yard:
        node = yard.home / "node"
        client = yard.client()
        code = write_code(yard.folder / "code", {"fails.py": FAILS_WITH_ITS_GPU})
        (yard.folder / "fails.yml").write_text(manifest("exec python3 fails.py"))
        (yard.folder / "both.yml").write_text(manifest("true", configuration="medium"))

        pretend(node, {1: Sight(13 * GIB, (Holder(2, 13 * GIB),))})
        (both,) = yard.json("train", str(code), "both.yml")["ids"]
        wait_until(lambda: "are held by a process" in client.explain(both).sentence, "it is told why", 30)
        assert client.run(both).state == "waiting"
        assert "13.0 GiB are held by" in yard.cli("nodes", "list").stdout
        assert "13.0 GiB are held by" in yard.cli("status").stdout
        pretend(node)
        assert [run.state for run in client.wait([both], timeout=60)] == ["completed"]

        (run,) = yard.json("train", str(code), "fails.yml")["ids"]
        wait_until(lambda: b"on 0" in client.log(run), "it is on the first", 30)
        pretend(node, xids=[(0, 79)])
        wait_until(lambda: "reported XID 79" in (client.explain(run).sentence or ""), "its page tells", 30)
        assert any(event["kind"] == "gpu_error" for event in yard.events())
        (node / "runs" / run / "checkpoints" / "go").touch()
        (done,) = client.wait([run], timeout=60)
        assert [each.reason for each in done.attempts] == ["gpu_failed", "finished"]
        assert b"again on 1" in client.log(run)
        yard.kill("server")
        yard.wait_connected()
        assert "XID 79" in yard.cli("nodes", "list").stdout, "a new server is told again"
        name = yard.get("/status")["nodes"][0]["name"]
        yard.cli("nodes", "resume", name)
        wait_until(lambda: not yard.get("/status")["nodes"][0]["shut_gpus"], "it is put back", 30)
