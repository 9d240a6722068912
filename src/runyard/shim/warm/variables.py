"""Variables that an interpreter, the loader of libraries or a library reads once, when it starts.

A program that is forked from a running interpreter comes too late for them, so it needs a fresh one. Plain Python
from 3.8 on: the node reads this before it chooses a way, the forked child once more before it becomes the program.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIXES = (
    "PYTHON", "LD_", "MALLOC_", "GLIBC_TUNABLES", "LC_", "LANG", "GCONV_PATH", "LOCPATH",
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "DNNL_", "ONEDNN_", "NUMEXPR_",
    "NPY_", "NUMPY_", "TORCH", "PYTORCH_", "ATEN_", "C10_", "PT2_", "AOT_", "AOTINDUCTOR_", "KINETO_", "TRITON_",
    "CUDA_", "CUDNN_", "HIP_", "HSA_", "ROCR_", "TF_", "XLA_", "JAX_", "KERAS_", "OPENSSL_",
)  # fmt: skip
AFTER_THE_FORK = frozenset({"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_PATH"})
"""Of those the ones that are read later, or are put right in the child."""


def import_time_variables(env: Iterable[str]) -> list[str]:
    """The names among ``env`` that are read when an interpreter or a library starts, in order."""
    return sorted(name for name in env if name.startswith(PREFIXES) and name not in AFTER_THE_FORK)
