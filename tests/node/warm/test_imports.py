"""What code imports, read from its text."""

from pathlib import Path

from runyard.core.frameworks import preload_for, preload_of
from runyard.node.warm.imports import imported

CODE = """
import os, torch.nn as nn, json
from numpy.linalg import norm
def late():
    import  sklearn.svm
    from . import helper
# import tensorflow
text = "import jax"
"""


def test_top_level_names_wherever_they_are_imported(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "deep.py").write_text(CODE)
    (tmp_path / "main.py").write_bytes(b"import pandas\r\n\xff\xfe import xgboost")
    (tmp_path / "notes.txt").write_text("import lightgbm")
    assert imported(str(tmp_path)) == {"os", "torch", "json", "numpy", "sklearn", "pandas"}
    assert imported(str(tmp_path / "absent")) == frozenset()


def test_the_longest_list_that_fits() -> None:
    assert preload_for({"os", "numpy", "torch"}) == preload_of("pytorch")
    assert preload_for({"numpy"}) == ("numpy",)
    assert preload_for({"os", "tensorflow"}) == ()
