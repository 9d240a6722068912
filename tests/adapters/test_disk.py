"""What lies in the server's folders, measured on a real disk."""

from __future__ import annotations

import os
from pathlib import Path

from runyard.adapters.disk import ServerDisk
from runyard.adapters.objects.folder import FolderStore
from runyard.ports.embedded import SmallObject

RUNS = ("training-aaaaaaaaa", "training-bbbbbbbbb")


def test_a_file_by_several_names_is_counted_once(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    content = os.urandom(40_000)
    store.put_all([SmallObject("acme", "results", f"{run}/learner-1/log", content) for run in RUNS])
    files = [tmp_path / "store/acme/results" / run / "learner-1/log" for run in RUNS]
    assert files[0].samefile(files[1])
    sizes = {each.run: each.size for each in ServerDisk(tmp_path).taken() if each.kind == "results"}
    whole = files[0].stat().st_blocks * 512
    assert whole >= len(content)
    assert sizes == dict.fromkeys(RUNS, whole // 2)
    store.close()
